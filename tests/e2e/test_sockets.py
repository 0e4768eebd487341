"""What many streams leave in the system: one connection between agent and network, and no socket that waits for anybody."""

import collections
import concurrent.futures
import os
import pathlib

from harness.clients import dial
from harness.ports import free_port
from harness.process import wait_until
from harness.raw_upstream import RawUpstream, echo

STREAMS = 2_000
ESTABLISHED, TIME_WAIT, CLOSE_WAIT, LISTEN = "01", "06", "08", "0A"


def rows():
    """Every TCP socket over IPv4: local port, remote port, state, inode."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        yield *(int(column.split(":")[1], 16) for column in columns[1:3]), columns[3], columns[9]


def states(port):
    """The sockets on our side of a listener: how many of each state."""
    return collections.Counter(state for local, _, state, _ in rows() if local == port and state != LISTEN)


def states_of(process):
    """The sockets that a program holds: how many, and how many of each state. One that is closed at both ends has none."""
    held = set()
    for entry in os.scandir(f"/proc/{process.child.pid}/fd"):
        try:
            held.add(os.readlink(entry.path))
        except FileNotFoundError:
            pass
    sockets = {name for name in held if name.startswith("socket:")}
    states = collections.Counter(state for _, _, state, inode in rows() if f"socket:[{inode}]" in sockets and state != LISTEN)
    return len(sockets), states


def test_thousands_of_streams_leave_one_connection_and_no_socket_that_waits(registry):
    network = registry.network()
    network.start()
    upstream = registry.upstream(RawUpstream(echo))
    port = free_port()
    endpoints = {"echo": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{upstream.target}"}}}
    agent = registry.agent(network, network.token(f"tcp:{port}"), endpoints)
    agent.start()
    before = {process: states_of(process) for process in (network.process, agent.process)}

    def call(_):
        with dial(port) as sock:
            sock.sendall(b"hello")
            sock.shutdown(1)
            got = b""
            while data := sock.recv(64):
                got += data
            return got

    with concurrent.futures.ThreadPoolExecutor(16) as callers:
        assert set(callers.map(call, range(STREAMS))) == {b"hello"}

    assert network.metric("adit_streams_total") == STREAMS
    for process, expected in before.items():
        wait_until(lambda: states_of(process) == expected, f"{process.name} holds what it held: {expected}, {states_of(process)}")
    assert states(network.ports["ingress"]) == {ESTABLISHED: 1}, "all streams go over one connection"
    # Who ends first is left with TIME_WAIT, which for a port that many dial would be the network: it is the callers.
    assert states(port) == {}, states(port)
    # And towards the upstream nothing waits for the agent to close.
    assert not any(state == CLOSE_WAIT for local, remote, state, _ in rows() if upstream.port in (local, remote))

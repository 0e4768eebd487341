"""Open connections survive the loss of the connection that carries them."""

import hashlib
import random
import signal
import socket
import subprocess
import threading
import time

import pytest

from harness import payload
from harness.clients import curl, dial, receive
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import Process, wait_until
from harness.raw_upstream import RawUpstream, echo
from harness.relay import Relay
from test_tcp import postgres, sshd  # noqa: F401  (fixtures)

MIB = 1 << 20
GIB = 1 << 30


class Line:
    """A deployment whose agent reaches the network through a relay."""

    def __init__(self, registry, targets, network=None, **agent):
        self.network = registry.network(**(network or {}))
        self.network.start()
        self.relay = registry.upstream(Relay(self.network.ports["ingress"]))
        self.web = registry.upstream(HttpUpstream())
        self.ports = {name: free_port() for name in targets}
        token = self.network.token(f"web.{DOMAIN}", *(f"tcp:{port}" for port in self.ports.values()))
        endpoints = {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": self.web.url}}}
        for name, target in targets.items():
            endpoints[name] = {"url": f"tcp://:{self.ports[name]}", "upstream": {"url": f"tcp://{target}"}}
        self.token = token
        self.agent = registry.agent(self.network, token, endpoints, connect_url=f"localhost:{self.relay.port}", **agent)
        self.agent.start()

    def resumed(self, after=0, deadline=20):
        return self.agent.process.wait_for("session resumed", deadline=deadline, after=after)


@pytest.fixture
def line(registry):
    def make(targets=None, **settings):
        upstream = registry.upstream(RawUpstream(echo))
        return Line(registry, {"echo": upstream.target, **(targets or {})}, **settings)

    return make


def carried(site):
    """A caller's connection that is carried to the upstream."""
    sock = dial(site.ports["echo"])
    sock.sendall(b"x")
    assert receive(sock, 1) == b"x"
    return sock


def expect_reset(sock):
    with pytest.raises(ConnectionResetError):
        while sock.recv(1):
            pass
        raise AssertionError("an end that looks complete")


def sink_and_source(sock):
    """Answers with the digest of what came, after it has sent as much as the first line asked for."""
    head = b""
    while not head.endswith(b"\n"):
        head += sock.recv(1)
    count, state = int(head), hashlib.sha256()

    def pour():
        for block in payload.blocks(count):
            sock.sendall(block)

    sender = threading.Thread(target=pour)
    sender.start()
    received = 0
    while received < count:
        data = sock.recv(1 << 18)
        if not data:
            break
        received += len(data)
        state.update(data)
    sender.join()
    sock.sendall(state.digest())
    sock.shutdown(socket.SHUT_WR)


def test_a_gibibyte_each_way_survives_a_hundred_cuts(registry, line):
    upstream = registry.upstream(RawUpstream(sink_and_source))
    site = line({"bulk": upstream.target})
    stop = threading.Event()
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)

    def saboteur():
        done = 0
        while not stop.is_set() and done < 100:
            goal = site.relay.forwarded + dice.randrange(1 * MIB, 24 * MIB)
            wait_until(lambda: site.relay.forwarded >= goal or stop.is_set(), f"traffic (seed {seed})", 60)
            if dice.random() < 0.1:
                site.relay.stalled.set()
                stop.wait(dice.uniform(0.05, 0.3))
                site.relay.stalled.clear()
            before = site.relay.cuts
            site.relay.cut()
            done += site.relay.cuts - before

    enemy = threading.Thread(target=saboteur)
    with dial(site.ports["bulk"]) as sock:
        sock.settimeout(120)
        sock.sendall(b"%d\n" % GIB)
        enemy.start()
        sent = threading.Thread(target=lambda: [sock.sendall(block) for block in payload.blocks(GIB)])
        sent.start()
        state, received = hashlib.sha256(), 0
        while received < GIB:
            data = sock.recv(1 << 18)
            assert data, f"ended after {received} octets and {site.relay.cuts} cuts (seed {seed})"
            if received + len(data) > GIB:
                state.update(data[: GIB - received])
                digest = data[GIB - received :]
            else:
                state.update(data)
                digest = b""
            received += len(data)
        sent.join(120)
        while len(digest) < 32:
            more = sock.recv(64)
            assert more, f"no digest (seed {seed})"
            digest += more
        assert sock.recv(1) == b""
    stop.set()
    enemy.join(60)
    assert state.hexdigest() == payload.digest(GIB), f"seed {seed}"
    assert digest.hex() == payload.digest(GIB), f"seed {seed}"
    assert site.relay.cuts >= 100, f"{site.relay.cuts} cuts (seed {seed})"
    assert not any("session lost" in text for text in site.agent.process.lines)


def test_an_idle_ssh_session_survives_cuts(line, sshd):  # noqa: F811
    target, home = sshd
    site = line({"ssh": f"127.0.0.1:{target}"})
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    shell = subprocess.Popen(
        ["ssh", "-F", "none", "-i", str(home / "user"), "-p", str(site.ports["ssh"]), *options, "127.0.0.1", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        for number in range(3):
            word = b"line %d\n" % number
            shell.stdin.write(word)
            shell.stdin.flush()
            assert shell.stdout.readline() == word
            mark = site.agent.process.mark()
            site.relay.cut()
            site.resumed(after=mark)
        shell.stdin.write(b"still here\n")
        shell.stdin.flush()
        assert shell.stdout.readline() == b"still here\n"
        shell.stdin.close()
        assert shell.wait(20) == 0
    finally:
        shell.kill()


def test_a_transaction_survives_cuts(line, postgres):  # noqa: F811
    site = line({"sql": f"127.0.0.1:{postgres}"})
    psql = subprocess.Popen(
        ["psql", "-X", "-A", "-t", "-q", "-h", "127.0.0.1", "-p", str(site.ports["sql"]), "-U", "adit", "-d", "postgres", "-v", "ON_ERROR_STOP=1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )

    def ask(text):
        psql.stdin.write(text.encode() + b"\n")
        psql.stdin.flush()

    try:
        ask("create temporary table t (n int); begin; insert into t values (1); select 'open', count(*) from t;")
        assert psql.stdout.readline() == b"open|1\n"
        for number in range(2, 5):
            mark = site.agent.process.mark()
            site.relay.cut()
            site.resumed(after=mark)
            ask(f"insert into t values ({number}); select 'open', count(*) from t;")
            assert psql.stdout.readline() == b"open|%d\n" % number
        ask("commit; select 'whole', count(*) from t;")
        assert psql.stdout.readline() == b"whole|4\n"
        psql.stdin.close()
        assert psql.wait(20) == 0
    finally:
        psql.kill()


def test_half_closes_survive_a_cut(registry, line):
    seen = []

    def answer_at_the_end(sock):
        data = b""
        while more := sock.recv(1 << 16):
            data += more
        seen.append(data)
        sock.sendall(b"heard " + data)

    upstream = registry.upstream(RawUpstream(answer_at_the_end))
    site = line({"half": upstream.target})
    with dial(site.ports["half"]) as sock:
        sock.sendall(b"first ")
        site.relay.refuses = True
        site.relay.cut()
        site.agent.process.wait_for("connection lost")
        sock.sendall(b"second")
        sock.shutdown(socket.SHUT_WR)
        site.relay.refuses = False
        answer = b""
        while more := sock.recv(100):
            answer += more
    assert answer == b"heard first second"


def test_a_connection_that_is_dead_and_looks_alive_is_replaced(line):
    site = line(heartbeat_interval="1s", heartbeat_tolerance="2s")
    for side in ({"agent"}, {"network"}, {"agent", "network"}):
        mark = site.agent.process.mark()
        with dial(site.ports["echo"]) as sock:
            sock.sendall(b"before")
            assert receive(sock, 6) == b"before"
            site.relay.swallows = side
            sock.sendall(b"swallowed")
            site.agent.process.wait_for("connection lost", after=mark)
            site.relay.swallows = set()
            site.relay.cut()
            site.resumed(after=mark)
            assert receive(sock, 9) == b"swallowed"


def test_a_program_that_was_frozen_for_half_a_minute_resumes(line):
    """Thirty seconds of silence: the peer has given the connection up, and keeps the session."""
    site = line(heartbeat_interval="2s", heartbeat_tolerance="3s")
    with dial(site.ports["echo"]) as sock:
        sock.settimeout(60)
        sock.sendall(b"before")
        assert receive(sock, 6) == b"before"
        mark = site.agent.process.mark()
        site.agent.process.signal(signal.SIGSTOP)
        frozen = time.monotonic()
        wait_until(lambda: time.monotonic() - frozen >= 30, "half a minute", 40)
        sock.sendall(b"meanwhile")
        site.agent.process.signal(signal.SIGCONT)
        site.resumed(after=mark)
        assert receive(sock, 9) == b"meanwhile"
    assert curl(site.network, f"https://web.{DOMAIN}/hello").status == 200


def test_an_upstream_is_given_its_time_even_if_the_agent_is_away_meanwhile(line):
    site = line(network={"limits": {"accept_timeout": "1s"}})
    answers = []
    asking = threading.Thread(target=lambda: answers.append(curl(site.network, f"https://web.{DOMAIN}/hello")))
    opened = site.network.metric("adit_streams_total")
    site.relay.swallows = {"network"}  # the agent does not hear of the request
    asking.start()
    wait_until(lambda: site.network.metric("adit_streams_total") > opened, "a stream for the request")
    site.relay.refuses = True
    site.relay.swallows = set()
    site.relay.cut()
    site.network.process.wait_for("a session waits for its agent")
    lost = time.monotonic()
    wait_until(lambda: time.monotonic() - lost >= 2, "twice the time of an upstream")
    site.relay.refuses = False
    asking.join(30)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"hello from upstream\n")]


def test_octets_that_wait_for_agents_have_a_bound_and_who_keeps_most_gives_up_first(registry):
    network = registry.network(limits={"parked_size": "1MiB"})
    network.start()
    upstream = registry.upstream(RawUpstream(echo))
    data = b"".join(payload.blocks(200_000))
    sites = {}
    for name, account in (("first", "greedy"), ("second", "greedy"), ("other", "modest")):
        relay, port = registry.upstream(Relay(network.ports["ingress"])), free_port()
        endpoint = {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{upstream.target}"}}
        token = network.token(f"tcp:{port}", account=account)
        agent = registry.agent(network, token, {"echo": endpoint}, name=name, connect_url=f"localhost:{relay.port}")
        agent.start()
        callers = [dial(port) for _ in range(2)]
        for sock in callers:
            sock.sendall(b"x")
            assert receive(sock, 1) == b"x"
        sites[name] = (relay, agent, callers)

    # Each session keeps 400 KB: those of the greedy account are the most, and the first of them has waited longest.
    for relay, _, callers in sites.values():
        mark = network.process.mark()
        relay.refuses = True
        relay.cut()
        network.process.wait_for("a session waits for its agent", after=mark)
        for sock in callers:
            sock.sendall(data)

    for sock in sites["first"][2]:
        expect_reset(sock)
    network.process.wait_for(r"a session ended.*closed by this side: LIMIT|closed by this side: LIMIT.*a session ended")
    marks = {name: agent.process.mark() for name, (_, agent, _) in sites.items()}
    for relay, _, _ in sites.values():
        relay.refuses = False
    for name in ("second", "other"):
        for sock in sites[name][2]:
            assert receive(sock, len(data)) == data
    sites["first"][1].process.wait_for("ADIT-2015", after=marks["first"])
    sites["first"][1].wait_bound(after=marks["first"])
    assert sum("closed by this side: LIMIT" in text for text in network.process.lines) == 1


def test_after_the_window_connections_end_and_the_next_session_serves(line):
    site = line(resume_window="1s")
    mark = site.agent.process.mark()
    sock = carried(site)
    site.relay.refuses = True
    site.relay.cut()
    expect_reset(sock)
    site.relay.refuses = False
    site.agent.wait_bound(after=mark)
    assert curl(site.network, f"https://web.{DOMAIN}/hello").status == 200


def test_a_customer_may_forbid_it(line):
    site = line(resume_window="0s")
    mark = site.agent.process.mark()
    sock = carried(site)
    site.relay.cut()
    expect_reset(sock)
    site.agent.process.wait_for("session lost", after=mark)
    site.agent.wait_bound(after=mark)


# AUTH-008
def test_of_several_sessions_one_that_is_lost_takes_no_other_with_it(line):
    site = line(resume_window="0s", sessions=4)
    wait_until(lambda: site.network.metric("adit_binds") == 8, "two endpoints in four sessions")
    socks = [carried(site) for _ in range(8)]
    mark = site.agent.process.mark()
    site.relay.cut(most=1)
    site.agent.process.wait_for("session lost", after=mark)
    ended = 0
    for sock in socks:
        sock.settimeout(5)
        try:
            sock.sendall(b"y")
            assert receive(sock, 1) == b"y"
        except (ConnectionError, AssertionError):
            ended += 1
    assert ended == 2, "callers are spread over the sessions, and those of one are gone"
    assert curl(site.network, f"https://web.{DOMAIN}/hello").status == 200
    wait_until(lambda: site.network.metric("adit_binds") == 8, "the lost session is made again", deadline=20)


def test_a_token_revoked_while_there_is_no_connection_ends_the_session(line):
    site = line()
    sock = carried(site)
    site.relay.refuses = True
    site.relay.cut()
    site.agent.process.wait_for("connection lost")
    site.network.revoke(site.token)
    site.relay.refuses = False
    expect_reset(sock)
    assert not any("session resumed" in text for text in site.agent.process.lines)

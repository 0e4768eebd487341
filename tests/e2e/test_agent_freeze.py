"""Frozen under load: everything that is carried is closed within a second, and every connection has its record."""

import json
import selectors
import socket
import threading
import time

import pytest

from harness.busy_upstream import CHUNK, Busy
from harness.clients import dial
from harness.deployment import AGENT, DOMAIN, yaml
from harness.patience import Starved
from harness.ports import free_port
from harness.process import Process, run, wait_until

CONNECTIONS = 120
LONG = 60.0

class Callers:
    """Many connections that send and receive all the time, in one thread; notes when each is closed."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.closed, self.received = {}, {}
        self.sockets = []
        self.thread = threading.Thread(target=self._run, daemon=True)

    def add(self, sock, sends):
        sock.setblocking(False)
        self.sockets.append(sock)
        self.received[sock] = 0
        self.selector.register(sock, selectors.EVENT_READ | (selectors.EVENT_WRITE if sends else 0))

    def start(self):
        self.thread.start()
        wait_until(lambda: all(count > len(CHUNK) for count in list(self.received.values())), "everything is in transfer", LONG)

    def last_closed(self):
        """Waits until all are, and returns when the last was."""
        wait_until(lambda: len(self.closed) == len(self.sockets), f"all {len(self.sockets)} are closed", LONG)
        return max(self.closed.values())

    def _run(self):
        while len(self.closed) < len(self.sockets):
            for key, events in self.selector.select(1):
                try:
                    if events & selectors.EVENT_READ:
                        heard = len(key.fileobj.recv(1 << 16))
                        if heard == 0:
                            raise ConnectionError("ended")
                        self.received[key.fileobj] += heard
                    if events & selectors.EVENT_WRITE:
                        key.fileobj.send(CHUNK)
                except BlockingIOError:
                    pass
                except OSError:
                    self.closed[key.fileobj] = time.monotonic()
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()


class Site:
    """An agent under a policy with an audit log and capture, a TCP and an HTTP endpoint."""

    def __init__(self, registry):
        self.network = registry.network().start()
        upstreams = registry.upstream(Busy())
        self.port = free_port()
        token = self.network.token(f"web.{DOMAIN}", f"tcp:{self.port}")
        endpoints = {
            "web": {"url": f"http://web.{DOMAIN}", "upstream": {"url": f"http://localhost:{upstreams.endless}"}},
            "raw": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://localhost:{upstreams.echo}"}},
        }
        # What stands in lines of the log here is not what is measured.
        self.agent = registry.agent(self.network, token, endpoints, local={"capture": {"requests": 50}}, log_level="info")
        rule = {"name": "all", "endpoints": ["*"], "hosts": ["localhost"], "ports": [upstreams.echo, upstreams.endless], "protocols": ["http", "tcp"]}
        policy = self.agent.directory / "policy.yml"
        policy.write_text(yaml({"version": 1, "capture": True, "audit": {"enabled": True}, "allow": [rule]}) + "\n")
        policy.chmod(0o600)
        self.env = {"XDG_STATE_HOME": str(self.agent.state)}

    def request(self):
        sock = dial(self.network.ports["http"])
        sock.sendall(f"GET /endless HTTP/1.1\r\nhost: web.{DOMAIN}\r\n\r\n".encode())
        return sock

    def records(self, kind):
        shown = run([AGENT, "audit", "show", "--output", "json", "--kind", kind, "--config", self.agent.config], env=self.env)
        return [json.loads(line) for line in shown.stdout.decode().splitlines()]


@pytest.fixture
def site(registry):
    return Site(registry)


def test_under_load_with_audit_and_capture_everything_is_closed_within_a_second_of_the_command(site, record_property):
    site.agent.start()
    callers = Callers()
    for number in range(CONNECTIONS):
        web = number % 4 == 0
        callers.add(site.request() if web else dial(site.port), sends=not web)
    callers.start()
    wait_until(lambda: len(site.records("connection")) >= CONNECTIONS, "each is written down", LONG)

    starved = Starved(site.agent.process.pid, site.network.process.pid)
    command = Process("freeze", [AGENT, "freeze", "--config", site.agent.config, "--reason", "an audit"], env=site.env)
    begun = time.monotonic()
    assert command.wait(LONG) == 0
    done = time.monotonic()
    last = callers.last_closed()
    waited = starved.seconds()

    took = last - done
    record_property("closed_after_the_command", round(took, 3))
    print(f"{CONNECTIONS} connections: the command took {done - begun:.3f} s, the last was closed {took:.3f} s after it; {waited:.3f} s without a processor")
    assert took <= 1.0 + waited, f"{took:.3f} s, of which {waited:.3f} s without a processor"

    # Nobody is let in any more, and each connection has its end in the log.
    with pytest.raises((ConnectionError, socket.timeout)), dial(site.port) as sock:
        sock.sendall(b"x")
        if sock.recv(1) == b"":
            raise ConnectionError("ended")
    begun = {record["seq"] for record in site.records("connection")}
    wait_until(lambda: len(site.records("end")) >= len(begun), "the end of each is written down", LONG)
    verified = run([AGENT, "audit", "verify", "--config", site.agent.config], env=site.env, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr

    # It stays so over the hardest of restarts.
    site.agent.process.kill()
    site.agent.spawn()
    site.agent.process.wait_for("frozen: everything is closed", deadline=LONG)
    run([AGENT, "thaw", "--config", site.agent.config], env=site.env, check=False)  # it may not answer so soon
    site.agent.wait_bound(deadline=LONG)

"""Programs killed or frozen in the middle of traffic, each restarted."""

import signal
import threading
import time

import pytest

from harness.clients import curl, dial, receive, tls_context
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream, UpstreamProcess
from harness.ports import free_port
from harness.process import Timeout, wait_until
from harness.raw_upstream import RawUpstream, echo

INTERVAL, TOLERANCE = 1.0, 2.0


class Site:
    """A deployment that a test may break."""

    def __init__(self, registry, upstream=None, **agent):
        self.upstream = upstream or registry.upstream(HttpUpstream())
        self.echo = registry.upstream(RawUpstream(echo))
        self.port = free_port()
        self.network = registry.network()
        self.network.start()
        token = self.network.token(f"web.{DOMAIN}", f"tcp:{self.port}")
        endpoints = {
            "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": self.upstream.url}},
            "echo": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://{self.echo.target}"}},
        }
        self.agent = registry.agent(self.network, token, endpoints, **agent)
        self.agent.start()

    def serves(self):
        """Tells whether a request gets through and comes back."""
        try:
            return curl(self.network, f"https://web.{DOMAIN}/hello", deadline=5).status == 200
        except AssertionError:
            return False


@pytest.fixture
def site(registry):
    return Site(registry)


def pour(site):
    """Starts a large download over TCP and returns its socket when bytes flow."""
    sock = dial(site.port)
    sock.sendall(b"x" * 1000)
    receive(sock, 1000)
    return sock


def ended(sock, deadline=10):
    """Waits for the end of a stream; says how it came."""
    sock.settimeout(deadline)
    try:
        while sock.recv(1 << 16):
            pass
        return "end"
    except ConnectionError:
        return "reset"


def test_the_network_is_killed_and_comes_back(site):
    sock = pour(site)
    mark = site.agent.process.mark()
    site.network.process.kill()
    assert ended(sock) in ("end", "reset")
    site.network.restart()
    site.agent.wait_bound(after=mark)
    assert site.serves()


def test_the_agent_is_killed_and_comes_back(site):
    sock = pour(site)
    site.agent.process.kill()
    site.agent.start()  # it knows nothing of the session that waits for it: that one ends
    assert ended(sock) == "reset", "the caller must not take a broken stream for a complete one"
    assert site.serves()


def test_the_upstream_is_killed_in_the_middle_of_a_body_and_comes_back(registry):
    upstream = registry.upstream(UpstreamProcess(free_port()))
    site = Site(registry, upstream)
    url = f"https://web.{DOMAIN}"
    with tls_context(site.network, "http/1.1").wrap_socket(dial(site.network.ports["https"]), server_hostname=f"web.{DOMAIN}") as sock:
        sock.sendall(f"GET /download?n={1 << 30} HTTP/1.1\r\nHost: web.{DOMAIN}\r\n\r\n".encode())
        receive(sock, 1 << 20)
        upstream.process.kill()
        total = 0
        try:
            while data := sock.recv(1 << 16):
                total += len(data)
        except OSError:
            pass
        assert total < 1 << 30
    assert curl(site.network, f"{url}/hello").status == 502
    upstream.start()
    assert curl(site.network, f"{url}/hello").status == 200


def test_traffic_of_many_callers_survives_a_killed_agent(site):
    """Requests that fail do so with an answer; after the restart none fails."""
    stop = threading.Event()
    odd = []

    def call():
        while not stop.is_set():
            status = curl(site.network, f"https://web.{DOMAIN}/download?n=100000").status
            if status not in (200, 502, 503):
                odd.append(status)

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    wait_until(lambda: len(site.upstream.requests) > 20, "traffic")
    site.agent.process.kill()
    site.agent.start()
    wait_until(site.serves, "service after the restart")
    stop.set()
    for caller in callers:
        caller.join(30)
    assert odd == []


def test_a_frozen_network_is_noticed_when_the_rule_says_and_serves_again_by_itself(registry):
    """Silence begins at the last byte heard: the question follows within the interval, the verdict after the tolerance."""
    site = Site(registry, heartbeat_interval=f"{INTERVAL:g}s", heartbeat_tolerance=f"{TOLERANCE:g}s")
    mark = site.agent.process.mark()
    site.network.process.signal(signal.SIGSTOP)
    frozen = time.monotonic()
    try:
        site.agent.process.wait_for("connection lost", deadline=INTERVAL + TOLERANCE + 3, after=mark)
        noticed = time.monotonic() - frozen
    finally:
        site.network.process.signal(signal.SIGCONT)
    # The last byte may have been heard up to one interval before the freeze.
    assert TOLERANCE - 0.2 <= noticed <= INTERVAL + TOLERANCE + 0.5, noticed
    site.agent.process.wait_for("session resumed", after=mark)
    assert wait_until(site.serves, "service after the thaw")


def test_a_short_freeze_breaks_nothing(registry):
    site = Site(registry, heartbeat_interval=f"{INTERVAL:g}s", heartbeat_tolerance=f"{TOLERANCE:g}s")
    mark = site.agent.process.mark()
    with dial(site.port) as sock:
        sock.sendall(b"before")
        assert receive(sock, 6) == b"before"
        site.network.process.signal(signal.SIGSTOP)
        with pytest.raises(Timeout):
            site.agent.process.wait_for("connection lost|session lost", deadline=TOLERANCE / 2, after=mark)
        site.network.process.signal(signal.SIGCONT)
        sock.sendall(b"after")
        assert receive(sock, 5) == b"after"


def test_an_agent_that_starts_first_waits_for_the_network(registry):
    site = Site(registry)
    site.network.process.kill()
    site.agent.process.kill()
    site.agent.spawn()
    site.agent.process.wait_for("dial failed")
    site.network.restart()
    site.agent.wait_bound()
    assert site.serves()


def test_a_body_cut_by_a_killed_network_is_never_complete(site):
    """A body cut by a killed network is never complete for the caller."""
    size = 1 << 30
    result = []

    def download():
        try:
            answer = curl(site.network, f"https://web.{DOMAIN}/download?n={size}")
            result.append(len(answer.body))
        except AssertionError as failure:
            result.append(str(failure))

    caller = threading.Thread(target=download)
    caller.start()
    seen = site.upstream.wait_for(f"/download?n={size}")
    wait_until(lambda: seen.sent > 16 << 20, "a part of the body")
    site.network.process.kill()
    caller.join(30)
    assert len(result) == 1 and result[0] != size
    assert isinstance(result[0], str), "curl took a cut body for a whole one"
    site.network.restart()  # it does not know the session for which the agent waits
    assert seen.finished.wait(10), "the upstream still sends to nobody"

"""Requests of one source, counted over all its connections: by the address that a trusted balancer tells."""

from harness.clients import dial
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream

MOST = 3


def call(port, source, path):
    """A request of a caller behind the balancer, which tells its address; returns the connection."""
    sock = dial(port)
    sock.sendall(f"PROXY TCP4 {source} 192.0.2.1 5000 80\r\nGET /{path} HTTP/1.1\r\nHost: plain.{DOMAIN}\r\nConnection: close\r\n\r\n".encode())
    return sock


def answer(sock):
    parts = []
    with sock:
        while data := sock.recv(1 << 16):
            parts.append(data)
    return b"".join(parts).decode()


def test_one_source_may_have_so_many_requests_under_way_and_others_are_served(registry):
    network = registry.network(http={"proxy_protocol": {"trusted": ["127.0.0.1"]}}, limits={"requests_per_source": MOST})
    network.start()
    upstream = registry.upstream(HttpUpstream())
    endpoints = {"plain": {"url": f"http://plain.{DOMAIN}", "upstream": {"url": upstream.url}}}
    registry.agent(network, network.token(f"*.{DOMAIN}"), endpoints).start()
    port = network.ports["http"]
    held = [call(port, "198.51.100.7", "hold") for _ in range(MOST)]
    for _ in held:
        assert upstream.held.acquire(timeout=20)

    refused = answer(call(port, "198.51.100.7", "hello"))
    other = answer(call(port, "198.51.100.8", "hello"))

    assert refused.startswith("HTTP/1.1 429 ") and "adit-error: ADIT-3041" in refused and "retry-after: 5" in refused, refused
    assert other.startswith("HTTP/1.1 200 "), other
    assert network.metric('adit_limits_reached_total{limit="requests_per_source"}') == 1
    upstream.release.release(MOST)
    for sock in held:
        assert answer(sock).startswith("HTTP/1.1 200 ")
    assert answer(call(port, "198.51.100.7", "hello")).startswith("HTTP/1.1 200 "), "there is room again"

"""A network behind a load balancer that tells the caller's address by the PROXY protocol: HAProxy, and peers that must not be believed."""

import socket
import ssl

import pytest

from harness.clients import dial, tls_context
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import Process, wait_until
from harness.raw_upstream import RawUpstream

BALANCER = "127.0.0.2"
CALLER = "127.0.0.3"
FORGED = b"PROXY TCP4 192.0.2.66 192.0.2.67 666 443\r\n"


@pytest.fixture(scope="module")
def proxied(tmp_path_factory):
    """A network that trusts one balancer, and HAProxy as that balancer."""
    from conftest import Registry

    root = tmp_path_factory.mktemp("proxied")
    registry = Registry(root)
    trusted = {"proxy_protocol": {"trusted": [BALANCER]}}
    network = registry.network(http=trusted, https=trusted, tcp=trusted)
    network.start()
    network.http_upstream = registry.upstream(HttpUpstream())
    network.raw = registry.upstream(RawUpstream(tell_header))
    network.tcp_port = free_port()
    token = network.token(f"*.{DOMAIN}", f"tcp:{network.tcp_port}")
    registry.agent(network, token, {
        "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": network.http_upstream.url}},
        "plain": {"url": f"http://plain.{DOMAIN}", "upstream": {"url": network.http_upstream.url}},
        "raw": {"url": f"tcp://:{network.tcp_port}", "upstream": {"url": f"tcp://{network.raw.target}", "proxy_protocol": "1"}},
    }).start()  # fmt: skip
    network.balanced = {name: free_port() for name in ("http", "https", "tcp")}
    targets = [("http", network.ports["http"], "send-proxy"), ("https", network.ports["https"], "send-proxy-v2"), ("tcp", network.tcp_port, "send-proxy-v2")]
    config = "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 30s\n  timeout server 30s\n"
    for name, port, option in targets:
        config += f"listen {name}\n  bind 127.0.0.1:{network.balanced[name]}\n  server network 127.0.0.1:{port} {option} source {BALANCER}\n"
    (root / "haproxy.cfg").write_text(config)
    balancer = Process("haproxy", ["/usr/sbin/haproxy", "-db", "-f", root / "haproxy.cfg"])
    wait_until(lambda: all(listens(port) for port in network.balanced.values()), f"HAProxy listens: {balancer.text()}")
    try:
        yield network
    finally:
        balancer.kill()
        registry.close()
    assert list(registry.faults()) == []


def tell_header(sock):
    """An upstream that answers with the header of the PROXY protocol that it got."""
    line = b""
    while not line.endswith(b"\n"):
        line += sock.recv(1)
    sock.sendall(line)


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def dial_from(source, port):
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


def read_to_end(sock):
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def ask(sock, name):
    sock.sendall(f"GET /hello HTTP/1.1\r\nHost: {name}.{DOMAIN}\r\nX-Forwarded-For: 192.0.2.99\r\nConnection: close\r\n\r\n".encode())
    return read_to_end(sock)


def seen(network):
    return network.http_upstream.requests[-1].headers


def test_haproxy_tells_the_address_of_a_caller_over_http(proxied):
    with dial_from(CALLER, proxied.balanced["http"]) as sock:
        assert ask(sock, "plain").startswith(b"HTTP/1.1 200 ")
    headers = seen(proxied)
    assert headers.get_all("X-Forwarded-For") == [CALLER]
    assert headers["X-Forwarded-Port"] == str(proxied.balanced["http"])


def test_haproxy_tells_the_address_of_a_caller_over_tls(proxied):
    with dial_from(CALLER, proxied.balanced["https"]) as sock:
        with tls_context(proxied).wrap_socket(sock, server_hostname=f"web.{DOMAIN}") as secure:
            assert ask(secure, "web").startswith(b"HTTP/1.1 200 ")
    assert seen(proxied).get_all("X-Forwarded-For") == [CALLER]


def test_haproxy_tells_the_address_of_a_caller_of_a_tcp_endpoint(proxied):
    with dial_from(CALLER, proxied.balanced["tcp"]) as sock:
        assert read_to_end(sock).split(b" ")[:3] == [b"PROXY", b"TCP4", CALLER.encode()]


def test_what_others_send_is_taken_as_it_is_and_never_believed(proxied):
    with dial(proxied.ports["http"]) as sock:
        sock.sendall(FORGED)
        assert ask(sock, "plain").startswith(b"HTTP/1.1 400 ")
    with dial(proxied.ports["https"]) as sock:
        sock.sendall(FORGED)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            tls_context(proxied).wrap_socket(sock, server_hostname=f"web.{DOMAIN}")
    with dial(proxied.ports["http"]) as sock:
        assert ask(sock, "plain").startswith(b"HTTP/1.1 200 ")
    assert seen(proxied).get_all("X-Forwarded-For") == ["127.0.0.1"]


@pytest.mark.parametrize("first", [b"", b"PROXY TCP4 ", b"PROXY TCP4 nonsense\r\n", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", b"PROXY " + b"x" * 200])
def test_a_trusted_balancer_must_say_who_calls(proxied, first):
    before = proxied.metric('adit_accept_errors_total{reason="proxy_protocol"}')
    with dial_from(BALANCER, proxied.ports["http"]) as sock:
        try:
            sock.sendall(first + b"GET /hello HTTP/1.1\r\nHost: plain.e2e.test\r\nConnection: close\r\n\r\n")
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(sock) == b""
        except OSError:
            pass  # a reset, at whichever step it arrives
    wait_until(lambda: proxied.metric('adit_accept_errors_total{reason="proxy_protocol"}') == before + 1, "the refusal is counted")

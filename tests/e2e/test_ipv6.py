"""Everything over IPv6: agent to network, caller to network, agent to upstream."""

import pytest

from harness.certificates import OwnTls
from harness.clients import curl, dial, receive
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.raw_upstream import RawUpstream

LOOPBACK = "::1"


@pytest.fixture
def site(registry, tmp_path):
    """A network and its agent with an endpoint of each kind."""

    class Site:
        pass

    site = Site()
    site.network = registry.network(tcp={"address": LOOPBACK})
    site.network.start()
    site.own = OwnTls(tmp_path, f"pass.{DOMAIN}")
    site.tcp_port = free_port()
    web = registry.upstream(HttpUpstream(host=LOOPBACK))
    raw = registry.upstream(RawUpstream(lambda sock: sock.sendall(sock.recv(1 << 16)), host=LOOPBACK))
    sealed = registry.upstream(RawUpstream(site.own.serve, host=LOOPBACK))
    token = site.network.token(f"*.{DOMAIN}", f"tcp:{site.tcp_port}")
    endpoints = {
        "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": web.url}},
        "plain": {"url": f"http://plain.{DOMAIN}", "upstream": {"url": web.url}},
        "raw": {"url": f"tcp://:{site.tcp_port}", "upstream": {"url": f"tcp://{raw.target}", "proxy_protocol": 1}},
        "pass": {"url": f"tls://pass.{DOMAIN}", "upstream": {"url": f"tcp://{sealed.target}"}},
    }
    ingress = f"[{LOOPBACK}]:{site.network.ports['ingress']}"
    registry.agent(site.network, token, endpoints, connect_url=ingress).start()
    return site


@pytest.mark.parametrize("name", ["https://web", "http://plain"])
def test_http(site, name):
    answer = curl(site.network, f"{name}.{DOMAIN}/headers", address=f"[{LOOPBACK}]")
    assert answer.status == 200
    assert ["x-forwarded-for", LOOPBACK] in [[name.lower(), value] for name, value in answer.json()]


def test_tcp(site):
    with dial(site.tcp_port, host=LOOPBACK) as sock:
        head = f"PROXY TCP6 {LOOPBACK} {LOOPBACK} {sock.getsockname()[1]} {site.tcp_port}\r\n".encode()
        sock.sendall(b"hello")
        heard = receive(sock, len(head))
        assert heard == head


def test_tls_that_passes_through(site):
    sock = dial(site.network.ports["https"], host=LOOPBACK)
    with site.own.client.wrap_socket(sock, server_hostname=f"pass.{DOMAIN}") as sealed:
        sealed.sendall(b"hello")
        assert sealed.recv(100) == b"sealed hello"

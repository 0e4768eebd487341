"""Endpoints of the configuration: cloud endpoints forward to what agents bind below .internal, for their own account alone."""

import asyncio
import json
import signal
import ssl
import threading
from concurrent import futures

import grpc
import pytest
import websockets.asyncio.client
import websockets.sync.server

from conftest import Registry
from harness.clients import curl, dial, receive, tls_context
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import wait_until
from harness.raw_upstream import RawUpstream, echo
from test_streaming import Chat, converse

FORWARD = """
on_http_request:
  - expressions: ["req.url.path.startsWith('/private')"]
    actions: [{type: deny}]
  - actions: [{type: forward-internal, config: {url: "https://%s.internal"}}]
on_http_response:
  - actions: [{type: add-headers, config: {headers: {x-edge: "${req.method}"}}}]
"""


class Site:
    """A vendor with two customers: each has an agent with internal endpoints, and a cloud endpoint that forwards there."""

    def __init__(self, registry):
        self.http = registry.upstream(HttpUpstream("acme"))
        self.other = registry.upstream(HttpUpstream("other"))
        self.echo = registry.upstream(RawUpstream(echo))
        self.socket = websockets.sync.server.serve(converse, "127.0.0.1", 0, max_size=None)
        threading.Thread(target=self.socket.serve_forever, daemon=True).start()
        grpc_port = free_port()
        self.grpc = grpc.server(futures.ThreadPoolExecutor(8))
        self.grpc.add_generic_rpc_handlers([Chat()])
        self.grpc.add_insecure_port(f"127.0.0.1:{grpc_port}")
        self.grpc.start()
        self.tcp_port = free_port()
        cloud = {name: ("acme", name) for name in ("crm", "ws", "grpc", "lost")} | {"second": ("second", "crm"), "foreign": ("second", "ws")}
        endpoints = [{"url": f"https://{name}.{DOMAIN}", "account": account, "policy": f"{name}.yml"} for name, (account, _) in cloud.items()]
        endpoints.append({"url": f"tcp://:{self.tcp_port}", "account": "acme", "policy": "tcp.yml"})
        endpoints.append({"url": f"tls://db.{DOMAIN}", "account": "acme", "policy": "tls.yml"})
        self.network = registry.network(endpoints=endpoints)
        for name, (_, internal) in cloud.items():
            self.policy(name, FORWARD % internal)
        self.policy("tcp", "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tcp://db.internal:5432'}}]}]")
        self.policy("tls", "on_tcp_connect: [{actions: [{type: forward-internal, config: {url: 'tls://db.internal'}}]}]")
        self.network.start()
        token = self.network.token("*.internal", account="acme")
        url = "http://127.0.0.1:"
        self.agent = registry.agent(self.network, token, {
            "crm": {"url": "https://crm.internal", "upstream": {"url": self.http.url}},
            "ws": {"url": "https://ws.internal", "upstream": {"url": f"{url}{self.socket.socket.getsockname()[1]}"}},
            "grpc": {"url": "https://grpc.internal", "upstream": {"url": f"{url}{grpc_port}", "protocol": "http2"}},
            "db": {"url": "tcp://db.internal:5432", "upstream": {"url": f"tcp://{self.echo.target}"}},
            "tls": {"url": "tls://db.internal", "upstream": {"url": f"tcp://{self.echo.target}"}},
        }, name="acme")
        self.agent.start()
        token = self.network.token("*.internal", f"*.{DOMAIN}", account="second")
        self.second = registry.agent(self.network, token, {"crm": {"url": "https://crm.internal", "upstream": {"url": self.other.url}}}, name="second")
        self.second.start()

    def policy(self, name, text):
        path = self.network.directory / f"{name}.yml"
        path.write_text(text)
        path.chmod(0o640)

    def close(self):
        self.socket.shutdown()
        self.grpc.stop(None)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("site"))
    site = None
    try:
        site = Site(registry)
        yield site
    finally:
        if site:
            site.close()
        registry.close()
    assert list(registry.faults()) == []


def url(name, path="hello"):
    return f"https://{name}.{DOMAIN}/{path}"


def test_a_cloud_endpoint_forwards_over_http1_and_http2(site):
    for version in ("--http1.1", "--http2"):
        answer = curl(site.network, url("crm"), version)
        assert (answer.status, answer.body, answer.headers["x-edge"]) == (200, b"hello from acme\n", "GET")
        seen = dict((name.lower(), value) for name, value in curl(site.network, url("crm", "headers"), version, "-H", "ADIT-Request-Id: forged").json())
        assert seen["x-forwarded-host"].split(":")[0] == f"crm.{DOMAIN}"
        assert len(seen["adit-request-id"]) == 32
    echoed = curl(site.network, url("crm", "echo"), "--data-binary", "@-", stdin=b"x" * 300_000)
    assert (echoed.status, echoed.body) == (200, b"x" * 300_000)


def test_what_its_policy_refuses_reaches_nobody_and_is_told_by_its_id(site):
    seen = len(site.http.requests)
    answer = curl(site.network, url("crm", "private/x"))
    assert (answer.status, answer.headers["adit-error"]) == (403, "ADIT-3024")
    assert len(site.http.requests) == seen
    wait_until(lambda: answer.headers["adit-request-id"] in site.network.process.text(), "the access log")
    line = next(line for line in site.network.process.lines if answer.headers["adit-request-id"] in line)
    told = json.loads(line)
    assert (told["code"], told["request_id"]) == ("ADIT-3024", answer.headers["adit-request-id"])
    assert "on_http_request[0]: deny: refused with 403" in told["verdicts"]


def test_two_accounts_have_their_own_internal_endpoints_of_one_name(site):
    assert curl(site.network, url("second")).body == b"hello from other\n"
    answer = curl(site.network, url("foreign"))
    assert (answer.status, answer.headers["adit-error"]) == (502, "ADIT-3027")


def test_no_caller_reaches_an_internal_endpoint_by_its_name(site):
    for target in ("http://crm.internal/hello", "http://CRM.internal./hello"):
        answer = curl(site.network, target)
        assert (answer.status, answer.headers["adit-error"]) == (404, "ADIT-3001")
    context = tls_context(site.network)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        context.wrap_socket(dial(site.network.ports["https"]), server_hostname="crm.internal")
    with tls_context(site.network, "http/1.1").wrap_socket(dial(site.network.ports["https"]), server_hostname=f"crm.{DOMAIN}") as sock:
        sock.sendall(b"GET /hello HTTP/1.1\r\nHost: crm.internal\r\nConnection: close\r\n\r\n")
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 421")


def test_an_agent_cannot_bind_a_cloud_endpoint_nor_a_name_of_another_account(registry, site):
    for account in ("acme", "second"):
        for scheme in ("https", "http"):
            if (account, scheme) == ("acme", "http"):
                continue  # the name is its own
            token = site.network.token(f"*.{DOMAIN}", account=account)
            agent = registry.agent(site.network, token, {"taken": {"url": f"{scheme}://crm.{DOMAIN}", "upstream": {"url": site.http.url}}}, name=f"taker-{account}-{scheme}")
            agent.spawn()
            wait_until(lambda: "ADIT-2004" in agent.process.text(), f"a refusal of {account} {scheme}")
    assert curl(site.network, url("crm")).body == b"hello from acme\n"


def test_websockets_pass_through_a_cloud_endpoint(site):
    async def talk():
        connecting = websockets.asyncio.client.connect(
            f"wss://ws.{DOMAIN}/",
            host="127.0.0.1",
            port=site.network.ports["https"],
            ssl=tls_context(site.network, "http/1.1"),
            server_hostname=f"ws.{DOMAIN}",
            max_size=None,
        )
        async with asyncio.timeout(30), connecting as connection:
            assert connection.response.headers["x-edge"] == "GET"
            assert len(connection.response.headers["adit-request-id"]) == 32
            assert await connection.recv() == "first"
            for message in ("text ✓", b"", b"large" * 100_000):
                await connection.send(message)
                assert await connection.recv() == message

    asyncio.run(talk())


def test_events_pass_through_a_cloud_endpoint_one_by_one(site):
    with tls_context(site.network, "http/1.1").wrap_socket(dial(site.network.ports["https"]), server_hostname=f"crm.{DOMAIN}") as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: crm.{DOMAIN}\r\nAccept: text/event-stream\r\n\r\n".encode())
        stream = sock.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        for number in range(20):
            event = f"data: {number}\n\n".encode()
            site.http.events.put(event)
            size = int(stream.readline(), 16)
            assert stream.read(size + 2) == event + b"\r\n"
        site.http.events.put(None)
        assert stream.readline() == b"0\r\n"


def test_grpc_passes_through_a_cloud_endpoint(site):
    credentials = grpc.ssl_channel_credentials(site.network.ca.read_bytes())
    options = [("grpc.ssl_target_name_override", f"grpc.{DOMAIN}"), ("grpc.default_authority", f"grpc.{DOMAIN}")]
    with grpc.secure_channel(f"127.0.0.1:{site.network.ports['https']}", credentials, options) as channel:
        call = channel.stream_stream("/adit.Chat/Talk")((b"%d" % number for number in range(50)), timeout=30)
        assert list(call) == [b"re: %d" % number for number in range(50)]
        assert dict(call.trailing_metadata())["x-count"] == "50"
        told = dict(call.initial_metadata())
        assert (told["x-edge"], len(told["adit-request-id"])) == ("POST", 32)


def test_tcp_and_tls_are_forwarded_octet_by_octet(site):
    with dial(site.tcp_port) as sock:
        sock.sendall(b"octets")
        assert receive(sock, 6) == b"octets"
    hello = ssl.MemoryBIO()
    ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname=f"db.{DOMAIN}")
    context = ssl.create_default_context()
    out = ssl.MemoryBIO()
    handshake = context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=f"db.{DOMAIN}")
    with pytest.raises(ssl.SSLWantReadError):
        handshake.do_handshake()
    first = out.read()
    with dial(site.network.ports["https"]) as sock:
        sock.sendall(first)
        assert receive(sock, len(first)) == first, "the upstream, which echoes, got the ClientHello as it was"


def test_an_endpoint_whose_agent_is_away_and_one_that_nobody_ever_bound_are_told_apart(site):
    lost = curl(site.network, url("lost"))
    assert (lost.status, lost.headers["adit-error"]) == (502, "ADIT-3027")


def test_a_reload_takes_a_new_policy_and_a_bad_one_leaves_the_old_in_force(registry):
    upstream = registry.upstream(HttpUpstream())
    network = registry.network(endpoints=[{"url": f"http://app.{DOMAIN}", "account": "e2e", "type": "agent", "policy": "app.yml"}])
    policy = network.directory / "app.yml"

    def write(text):
        policy.write_text(text)
        policy.chmod(0o640)

    def reloads(reason):
        lines = network.metrics().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f'adit_reloads_total{{reason="{reason}"}}'))

    write("on_http_request: [{actions: [{type: deny, config: {status_code: 451}}]}]")
    network.start()
    agent = registry.agent(network, network.token(f"*.{DOMAIN}"), {"app": {"url": f"http://app.{DOMAIN}", "upstream": {"url": upstream.url}}})
    agent.start()
    target = f"http://app.{DOMAIN}/hello"
    assert curl(network, target).status == 451

    write("on_http_request:\n  - expressions: ['req.methd == \"GET\"']\n    actions: [{type: deny}]\n")
    network.process.signal(signal.SIGHUP)
    wait_until(lambda: reloads("policy") == 1, "the reload that is refused")
    assert f"{policy}:2:" in network.process.text()
    assert curl(network, target).status == 451

    write("on_http_request:\n  - expressions: ['req.method == \"POST\"']\n    actions: [{type: deny}]\n")
    network.process.signal(signal.SIGHUP)
    wait_until(lambda: reloads("done") == 1, "the reload that is right")
    assert curl(network, target).status == 200
    assert curl(network, target, "-d", "x").status == 403

    network.settings["endpoints"] = [{"url": f"http://app.{DOMAIN}", "account": "e2e", "policy": "app.yml"}]
    network.write_config()
    network.process.signal(signal.SIGHUP)
    wait_until(lambda: reloads("done") == 2, "the endpoint becomes a cloud one")
    answer = curl(network, target)
    assert (answer.status, answer.headers["adit-error"]) == (404, "ADIT-3026")
    wait_until(lambda: "ADIT-2004" in agent.process.text(), "the agent hears that it lost its endpoint")

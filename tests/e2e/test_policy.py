"""Policies in front of an agent's endpoint: each action once where it lets a caller pass and once where it does not."""

import pytest

from conftest import Registry
from harness.clients import curl, dial
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.raw_upstream import RawUpstream, echo

POLICIES = {
    "deny": """
on_http_request:
  - name: only readers
    expressions: ["req.method != 'GET'"]
    actions: [{type: deny, config: {status_code: 405}}]
""",
    "close": """
on_http_request:
  - expressions: ["req.url.path == '/close'"]
    actions: [{type: close-connection}]
""",
    "ips": """
on_http_request:
  - expressions: ["req.url.path != '/open'"]
    actions: [{type: restrict-ips, config: {allow: [192.0.2.0/24]}}]
  - actions: [{type: restrict-ips, config: {allow: ["127.0.0.0/8"]}}]
""",
    "headers": """
on_http_request:
  - actions:
      - {type: set-vars, config: {vars: [{who: "${conn.client_ip}"}]}}
      - {type: add-headers, config: {headers: {x-who: "${vars.who}"}}}
      - {type: remove-headers, config: {headers: [x-secret]}}
      - {type: log, config: {metadata: {seen: "${req.url.path}"}}}
on_http_response:
  - actions: [{type: remove-headers, config: {headers: [server]}}]
""",
    "answer": """
on_http_request:
  - expressions: ["req.url.path == '/teapot'"]
    actions: [{type: custom-response, config: {status_code: 418, headers: {x-pot: tea}, body: "for ${conn.client_ip}"}}]
on_http_response:
  - expressions: ["res.status_code == 404"]
    actions: [{type: custom-response, config: {status_code: 404, body: "nothing of the upstream"}}]
""",
    "redirect": """
on_http_request:
  - actions: [{type: redirect, config: {from: "^(https://[^/]+)/old/(.*)$", to: "$1/new/$2", status_code: 308}}]
""",
    "rewrite": """
on_http_request:
  - actions: [{type: url-rewrite, config: {from: "/api/(.*)", to: "/$1"}}]
""",
    "admin": """
on_http_request:
  - expressions: ["req.url.path.lowerAscii().startsWith('/admin')"]
    actions: [{type: deny}]
""",
}


class Gate:
    def __init__(self, registry):
        self.http = registry.upstream(HttpUpstream())
        self.echo = registry.upstream(RawUpstream(echo))
        self.open_port, self.closed_port = free_port(), free_port()
        endpoints = [{"url": f"https://{name}.{DOMAIN}", "account": "e2e", "type": "agent", "policy": f"{name}.yml"} for name in POLICIES]
        for name, port in (("open", self.open_port), ("closed", self.closed_port)):
            endpoints.append({"url": f"tcp://:{port}", "account": "e2e", "type": "agent", "policy": f"{name}.yml"})
        self.network = registry.network(endpoints=endpoints)
        texts = POLICIES | {
            "open": "on_tcp_connect: [{actions: [{type: restrict-ips, config: {allow: [127.0.0.1]}}]}]",
            "closed": "on_tcp_connect: [{actions: [{type: restrict-ips, config: {allow: [0.0.0.0/0], deny: ['127.0.0.0/8']}}]}]",
        }
        for name, text in texts.items():
            path = self.network.directory / f"{name}.yml"
            path.write_text(text)
            path.chmod(0o640)
        self.network.start()
        token = self.network.token(f"*.{DOMAIN}", "tcp:1024-65535")
        agent = {name: {"url": f"https://{name}.{DOMAIN}", "upstream": {"url": self.http.url}} for name in POLICIES}
        for port in (self.open_port, self.closed_port):
            agent[f"tcp{port}"] = {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{self.echo.target}"}}
        registry.agent(self.network, token, agent).start()

    def ask(self, name, path, *options, **more):
        return curl(self.network, f"https://{name}.{DOMAIN}/{path}", "--path-as-is", *options, **more)


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("gate"))
    try:
        yield Gate(registry)
    finally:
        registry.close()
    assert list(registry.faults()) == []


def test_deny(gate):
    assert gate.ask("deny", "hello").status == 200
    seen = len(gate.http.requests)
    for version in ("--http1.1", "--http2"):
        answer = gate.ask("deny", "echo", version, "-d", "x")
        assert (answer.status, answer.headers["adit-error"]) == (405, "ADIT-3024")
    assert len(gate.http.requests) == seen


def test_close_connection(gate):
    assert gate.ask("close", "hello").status == 200
    for version in ("--http1.1", "--http2"):
        with pytest.raises(Exception):
            gate.ask("close", "close", version)


def test_restrict_ips_by_request(gate):
    assert gate.ask("ips", "open").status == 404, "it passes: the upstream has no such path"
    answer = gate.ask("ips", "hello", "-H", "X-Forwarded-For: 192.0.2.1")
    assert (answer.status, answer.headers["adit-error"]) == (403, "ADIT-3024")


def test_restrict_ips_by_connection(gate):
    with dial(gate.open_port) as sock:
        sock.sendall(b"x")
        assert sock.recv(1) == b"x"
    with pytest.raises(ConnectionError), dial(gate.closed_port) as sock:
        sock.sendall(b"x")
        if sock.recv(1) == b"":
            raise ConnectionError


def test_headers_vars_and_log(gate):
    answer = gate.ask("headers", "headers", "-H", "X-Secret: 1", "-H", "X-Kept: 1")
    seen = dict((name.lower(), value) for name, value in answer.json())
    assert (seen["x-who"], seen["x-kept"], "x-secret" in seen) == ("127.0.0.1", "1", False)
    assert "server" not in answer.headers
    assert any('"seen":"/headers"' in line.replace("\\", "") for line in gate.network.process.lines)


def test_custom_response(gate):
    assert gate.ask("answer", "hello").body == b"hello from upstream\n"
    teapot = gate.ask("answer", "teapot")
    assert (teapot.status, teapot.headers["x-pot"], teapot.body) == (418, "tea", b"for 127.0.0.1")
    replaced = gate.ask("answer", "none")
    assert (replaced.status, replaced.body) == (404, b"nothing of the upstream")


def test_redirect(gate):
    assert gate.ask("redirect", "hello").status == 200
    answer = gate.ask("redirect", "old/x?y")
    assert answer.status == 308
    assert answer.headers["location"].endswith("/new/x?y")


def test_url_rewrite(gate):
    assert gate.ask("rewrite", "hello").status == 200
    assert gate.ask("rewrite", "api/hello").body == b"hello from upstream\n"


# V58
REFUSED = [
    "admin", "admin/", "admin?x", "admin/x", "Admin", "ADMIN", "%61dmin", "%41dmin", "adm%69n", "%61%64%6d%69%6e",
    "/admin", "//admin", "./admin", ".//admin", "%2e/admin", "%2E/admin", "x/../admin", "x/%2e%2e/admin",
    "x/%2E./admin", "x/.%2e/admin", "x//../admin", "x/y/../../admin", "admin/.", "admin/x/..", "admin//",
]
AMBIGUOUS = [
    "../admin", "%2e%2e/admin", "x/../../admin", "x%2fadmin", "x%2F..%2Fadmin", "x%5cadmin", "x\\..\\admin", "admin;x=1", "x/..;/admin",
    "admin%00", "admin%0d%0ax", "%2561dmin", "%252e%252e/admin", "%u0061dmin", "%c0%ae%c0%ae/admin", "%c0%afadmin", "%", "%zz",
]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_no_spelling_of_admin_passes(gate, version):
    seen = len(gate.http.requests)
    assert len(REFUSED + AMBIGUOUS) >= 40
    for path in REFUSED:
        assert gate.ask("admin", path, version).status == 403, path
    for path in AMBIGUOUS:
        assert gate.ask("admin", path, version).status == 400, path
    assert len(gate.http.requests) == seen
    assert gate.ask("admin", "x/%2e./hello", version).status == 200
    assert gate.http.requests[-1].path == "/hello"

"""Policies that look into bodies, compress, or ask other servers: each once where it does its work and once where it does not."""

import gzip
import zlib

import pytest

from conftest import Registry
from harness.clients import curl, dial, tls_context
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream

POLICIES = {
    "request": """
on_http_request:
  - expressions: ["!hasReqHeader('x-plain')"]
    actions:
      - type: request-body-find-replace
        config:
          replacements:
            - {from: "key=[a-z0-9]+", to: "key=[GONE]"}
            - {from: "(?i)secret (\\\\w+)", to: "public $1"}
""",
    "answer": """
on_http_response:
  - expressions: ["res.status_code == 200"]
    actions: [{type: response-body-find-replace, config: {replacements: [{from: "secret (\\\\w+)", to: "<$1>"}]}}]
""",
    "events": """
on_event_stream_message:
  - actions: [{type: sse-find-replace, config: {replacements: [{from: "(\\\\d+)", to: "<$1>"}]}}]
""",
    "compress": """
on_http_response:
  - actions: [{type: compress-response, config: {algorithms: [gzip, deflate], content_types: ["text/*", application/json, application/octet-stream]}}]
""",
    "ask": """
on_http_request:
  - actions:
      - type: http-request
        config:
          url: "http://127.0.0.1:PORT/echo"
          method: POST
          headers: {content-type: text/plain}
          body: "${req.url.path}"
          on_error: halt
      - type: add-headers
        config: {headers: {x-told: "${string(actions.ngrok.http_request.res.status_code)} ${actions.ngrok.http_request.res.resolved_ip}"}}
""",
    "inside": """
on_http_request:
  - actions: [{type: http-request, config: {url: "https://inner.internal/hello"}}]
  - actions: [{type: custom-response, config: {body: "${actions.ngrok.http_request.res.body}"}}]
""",
    "forbidden": """
on_http_request:
  - expressions: ["req.url.path == '/halt'"]
    actions: [{type: http-request, config: {url: "http://169.254.169.254/latest/meta-data/", on_error: halt}}]
  - actions: [{type: http-request, config: {url: "http://127.0.0.2:PORT/hello"}}]
  - expressions: ["actions.ngrok.http_request.error.code != ''"]
    actions: [{type: custom-response, config: {status_code: 299, body: "${actions.ngrok.http_request.error.code}"}}]
""",
}


class Gate:
    def __init__(self, registry):
        self.http = registry.upstream(HttpUpstream())
        port = self.http.url.rsplit(":", 1)[1].strip("/")
        endpoints = [{"url": f"https://{name}.{DOMAIN}", "account": "e2e", "type": "agent", "policy": f"{name}.yml"} for name in POLICIES]
        self.network = registry.network(endpoints=endpoints, policy_fetch={"allow": ["127.0.0.1"]})
        for name, text in POLICIES.items():
            path = self.network.directory / f"{name}.yml"
            path.write_text(text.replace("PORT", port))
            path.chmod(0o640)
        self.network.start()
        token = self.network.token(f"*.{DOMAIN}", "*.internal")
        agent = {name: {"url": f"https://{name}.{DOMAIN}", "upstream": {"url": self.http.url}} for name in POLICIES}
        agent["inner"] = {"url": "https://inner.internal", "upstream": {"url": self.http.url}}
        registry.agent(self.network, token, agent).start()

    def ask(self, name, path, *options, **more):
        return curl(self.network, f"https://{name}.{DOMAIN}/{path}", *options, **more)


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("bodies"))
    try:
        yield Gate(registry)
    finally:
        registry.close()
    assert list(registry.faults()) == []


def test_request_body_find_replace(gate):
    text = "key=abc1&x=Secret word&" * 3
    for version in ("--http1.1", "--http2"):
        answer = gate.ask("request", "echo", version, "-d", text)
        assert answer.body.decode() == "key=[GONE]&x=public word&" * 3
        seen = gate.http.requests[-1].headers
        assert seen.get("Content-Length") is None and seen["Transfer-Encoding"] == "chunked"
    assert gate.ask("request", "echo", "-H", "X-Plain: 1", "-d", text).body.decode() == text


def test_a_coded_request_is_inflated_and_one_that_cannot_be_is_refused(gate):
    coded = {"gzip": gzip.compress(b"key=abc"), "deflate": zlib.compress(b"key=abc")}
    for coding, data in coded.items():
        answer = gate.ask("request", "echo", "-H", f"Content-Encoding: {coding}", "--data-binary", "@-", stdin=data)
        assert answer.body == b"key=[GONE]", coding
        assert "Content-Encoding" not in gate.http.requests[-1].headers
    seen = len(gate.http.requests)
    answer = gate.ask("request", "echo", "-H", "Content-Encoding: zstd", "-d", "key=abc")
    assert (answer.status, answer.headers["adit-error"]) == (415, "ADIT-3036")
    assert len(gate.http.requests) == seen


def test_a_bomb_is_not_let_through(gate):
    """64 MiB of zeros as gzip: the upstream sees no whole body, and the network keeps serving."""
    bomb = gzip.compress(bytes(64 << 20))
    counted = 'adit_policy_bodies_broken_total{reason="ratio"}'
    before, broken = gate.network.process.rss(), gate.network.metric(counted)
    for version in ("--http1.1", "--http2"):
        answer = gate.ask("request", "upload", version, "-H", "Content-Encoding: gzip", "--data-binary", "@-", stdin=bomb)
        assert (answer.status, answer.headers["adit-error"]) == (413, "ADIT-3039")
    seen = gate.http.requests[-1]
    assert seen.finished.wait(10) and seen.broken
    assert gate.network.process.rss() - before < 32 << 20
    assert gate.ask("request", "echo", "-d", "key=abc").body == b"key=[GONE]"
    assert gate.network.metric(counted) == broken + 2


def test_response_body_find_replace(gate):
    for version in ("--http1.1", "--http2"):
        answer = gate.ask("answer", "echo", version, "-H", "Accept-Encoding: zstd, br", "-H", "Range: bytes=0-3", "-d", "a secret word")
        assert answer.body == b"a <word>"
        assert "content-length" not in answer.headers
        seen = gate.http.requests[-1].headers
        assert (seen["Accept-Encoding"], seen.get("Range")) == ("identity", None), "whole, and of no coding"
    assert gate.ask("answer", "none").body == b"no such path\n", "the rule is for 200"


def test_a_coded_answer_is_inflated_and_one_that_cannot_be_is_refused(gate):
    for coding in ("gzip", "deflate"):
        answer = gate.ask("answer", f"coded?coding={coding}&n=120")
        assert answer.body == b"<word> " * 10, coding
        assert "content-encoding" not in answer.headers and answer.headers["etag"] == 'W/"one"'
    for path, status in (("coded?coding=zstd&n=120", 502),):
        answer = gate.ask("answer", path)
        assert (answer.status, answer.headers["adit-error"]) == (status, "ADIT-3037")
    with pytest.raises(Exception):
        gate.ask("answer", f"coded?coding=gzip&n={32 << 20}")  # it breaks off: too much of too little


def test_trailers_stay_and_what_is_cut_is_not_complete(gate):
    answer = gate.ask("answer", "trailers", "--http1.1", "-H", "TE: trailers", "--raw")
    assert answer.body.lower().endswith(b"0\r\nx-sum: 18\r\n\r\n")
    with pytest.raises(Exception):
        gate.ask("answer", "truncated")


def test_sse_find_replace_gives_each_event_at_once(gate):
    with dial(gate.network.ports["https"]) as plain, tls_context(gate.network).wrap_socket(plain, server_hostname=f"events.{DOMAIN}") as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: events.{DOMAIN}\r\n\r\n".encode())
        stream = sock.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        for number in range(20):
            gate.http.events.put(f"id: {number}\ndata: {number}\n\n".encode())
            size = int(stream.readline(), 16)
            assert stream.read(size + 2) == f"id: {number}\ndata: <{number}>\n\n\r\n".encode()
        gate.http.events.put(None)
        assert stream.readline() == b"0\r\n"
    assert gate.ask("events", "echo", "-d", "data: 1\n\n").body == b"data: 1\n\n", "no stream of events"


def test_compress_response(gate):
    text = "compressible " * 100
    for coding, inflate in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        answer = gate.ask("compress", "echo", "-H", f"Accept-Encoding: br;q=1, {coding};q=0.5", "-d", text)
        assert (answer.headers["content-encoding"], answer.headers["vary"]) == (coding, "accept-encoding")
        assert len(answer.body) < 200 and inflate(answer.body).decode() == text
    for options in (["-H", "Accept-Encoding: br"], [], ["-H", "Accept-Encoding: gzip;q=0"]):
        answer = gate.ask("compress", "echo", *options, "-d", text)
        assert "content-encoding" not in answer.headers and answer.body.decode() == text
    answer = gate.ask("compress", "echo", "-H", "Accept-Encoding: gzip", "-d", "short")
    assert "content-encoding" not in answer.headers and answer.headers["content-length"] == "5"
    answer = gate.ask("compress", "coded?coding=gzip&n=1200", "-H", "Accept-Encoding: gzip")
    assert gzip.decompress(answer.body) == b"secret word " * 100, "not twice"


def test_what_is_compressed_arrives_when_it_is_sent(gate):
    with dial(gate.network.ports["https"]) as plain, tls_context(gate.network).wrap_socket(plain, server_hostname=f"compress.{DOMAIN}") as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: compress.{DOMAIN}\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        stream, inflater = sock.makefile("rb"), zlib.decompressobj(31)
        while stream.readline() != b"\r\n":
            pass
        for number in range(20):
            event, seen = f"data: {number}\n\n".encode(), b""
            gate.http.events.put(event)
            while len(seen) < len(event):
                size = int(stream.readline(), 16)
                seen += inflater.decompress(stream.read(size))
                stream.readline()
            assert seen == event
        gate.http.events.put(None)


def test_http_request(gate):
    answer = gate.ask("ask", "headers")
    told = dict((name.lower(), value) for name, value in answer.json())["x-told"]
    assert told == "200 127.0.0.1"
    asked = [seen for seen in gate.http.requests if seen.path == "/echo"][-1]
    assert (asked.method, asked.headers["X-Forwarded-For"], asked.headers["Content-Type"]) == ("POST", "127.0.0.1", "text/plain")


def test_http_request_does_not_reach_what_nobody_allowed(gate):
    seen = len(gate.http.requests)
    answer = gate.ask("forbidden", "hello")
    assert (answer.status, answer.body) == (299, b"forbidden")
    answer = gate.ask("forbidden", "halt")
    assert (answer.status, answer.headers["adit-error"]) == (502, "ADIT-3025")
    assert len(gate.http.requests) == seen
    assert 'adit_policy_fetches_total{reason="forbidden"} 2' in gate.network.metrics()


def test_http_request_to_an_internal_endpoint(gate):
    answer = gate.ask("inside", "any")
    assert (answer.status, answer.body) == (200, b"hello from upstream\n")
    assert gate.http.requests[-1].headers["Host"] == "inner.internal"

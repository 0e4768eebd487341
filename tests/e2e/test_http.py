"""HTTP with curl: versions, sizes, headers, endings."""

import hashlib
import subprocess

from harness import payload
from harness.clients import curl, dial, tls_context
from harness.deployment import DOMAIN

GIB = 1 << 30


def test_http1_request_reaches_the_upstream(world):
    answer = curl(world.network, world.url("web", "hello"), "--http1.1")
    assert (answer.version, answer.status, answer.body) == ("HTTP/1.1", 200, b"hello from upstream\n")


def test_http2_request_reaches_the_upstream(world):
    answer = curl(world.network, world.url("web", "hello"), "--http2")
    assert (answer.version, answer.status, answer.body) == ("HTTP/2", 200, b"hello from upstream\n")


def test_plain_http_endpoint(world):
    answer = curl(world.network, world.url("plain", "hello", "http"))
    assert (answer.status, answer.body) == (200, b"hello from upstream\n")


def test_wildcard_endpoint_serves_any_name_below_it(world):
    for name in ("a", "another-one", "a.b"):
        answer = curl(world.network, f"https://{name}.wild.{DOMAIN}/hello")
        assert (answer.status, answer.body) == (200, b"hello from upstream\n")


def download(world, version):
    port = world.network.ports["https"]
    host = f"web.{DOMAIN}"
    argv = ["curl", "-sS", "--fail", version, "--max-time", "120", "--cacert", world.network.ca]
    argv += ["--connect-to", f"{host}:{port}:127.0.0.1:{port}", f"https://{host}:{port}/download?n={GIB}"]
    state, total = hashlib.sha256(), 0
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        while data := child.stdout.read(1 << 20):
            state.update(data)
            total += len(data)
    assert child.returncode == 0
    assert (total, state.hexdigest()) == (GIB, payload.digest(GIB))


def upload(world, version):
    port = world.network.ports["https"]
    host = f"web.{DOMAIN}"
    argv = ["curl", "-sS", "--fail", version, "--max-time", "120", "--cacert", world.network.ca]
    argv += ["-T", "-", "-X", "POST", "-H", "Expect:", "--connect-to", f"{host}:{port}:127.0.0.1:{port}", f"https://{host}:{port}/upload"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        for block in payload.blocks(GIB):
            child.stdin.write(block)
        child.stdin.close()
        answer = child.stdout.read()
    assert child.returncode == 0
    assert answer.decode() == f"{GIB} {payload.digest(GIB)}"


def test_download_of_one_gib_over_http1(world):
    download(world, "--http1.1")


def test_download_of_one_gib_over_http2(world):
    download(world, "--http2")


def test_upload_of_one_gib_over_http1(world):
    upload(world, "--http1.1")


def test_upload_of_one_gib_over_http2(world):
    upload(world, "--http2")


def test_memory_stays_bounded_after_four_gib(world):
    for process in (world.network.process, world.agent.process):
        assert process.rss() < 200 << 20


def test_head_has_a_length_and_no_body(world):
    answer = curl(world.network, world.url("web", "hello"), "--head")
    assert (answer.status, answer.headers["content-length"]) == (200, "20")


def test_expect_continue_is_answered(world):
    answer = curl(world.network, world.url("web", "echo"), "--http1.1", "-H", "Expect: 100-continue", "--data-binary", "@-", stdin=b"x" * 5000)
    assert (answer.status, answer.body) == (200, b"x" * 5000)


def test_trailers_reach_the_caller(world):
    for version in ("--http1.1", "--http2"):
        answer = curl(world.network, world.url("web", "trailers"), version, "-H", "TE: trailers")
        assert answer.body == b"body with trailers"
    raw = exchange(world, "web", b"GET /trailers HTTP/1.1\r\nHost: web.%s\r\nTE: trailers\r\nConnection: close\r\n\r\n" % DOMAIN.encode())
    assert b"x-sum: 18" in raw.lower()


def test_forwarding_headers_are_ours_and_not_the_callers(world):
    forged = ["X-Forwarded-For: 1.2.3.4", "X_Forwarded_For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Real-IP: 1.2.3.4", "X-Forwarded-Proto: gopher"]
    options = [part for header in forged for part in ("-H", header)]
    seen = dict((name.lower(), value) for name, value in curl(world.network, world.url("web", "headers"), *options).json())
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-host"].split(":")[0] == f"web.{DOMAIN}"
    assert "1.2.3.4" not in str(seen)
    assert "x-real-ip" not in seen


def test_hop_by_hop_headers_end_at_the_edge(world):
    raw = exchange(
        world,
        "web",
        b"GET /headers HTTP/1.1\r\nHost: web.%s\r\nConnection: close, X-Mine, X-Forwarded-For\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n\r\n" % DOMAIN.encode(),
    ).lower()
    assert b"x-mine" not in raw.split(b"\r\n\r\n", 1)[1]
    assert b"proxy-connection" not in raw
    assert b'"x-forwarded-for", "127.0.0.1"' in raw


def exchange(world, name, request):
    """Sends bytes over TLS to an HTTPS endpoint and reads to the end."""
    with tls_context(world.network, "http/1.1").wrap_socket(dial(world.network.ports["https"]), server_hostname=f"{name}.{DOMAIN}") as sock:
        sock.sendall(request)
        parts = []
        while data := sock.recv(1 << 16):
            parts.append(data)
        return b"".join(parts)


SMUGGLED = [
    b"POST /echo HTTP/1.1\r\nHost: web.e2e.test\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: web.e2e.test\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    b"POST /echo HTTP/1.1\r\nHost: web.e2e.test\r\nContent-Length: +4\r\n\r\nabcd",
    b"POST /echo HTTP/1.1\r\nHost: web.e2e.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: web.e2e.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.0\r\nHost: web.e2e.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /hello HTTP/1.1\r\nHost: web.e2e.test\r\nX-A: b\r\n c\r\n\r\n",
    b"GET /hello HTTP/1.1\r\nHost: web.e2e.test\r\nX-A: b\rc\r\n\r\n",
    b"GET /hello HTTP/1.1\r\nHost: web.e2e.test\r\nHost: plain.e2e.test\r\n\r\n",
    b"GET /hello HTTP/1.1\r\nHost : web.e2e.test\r\n\r\n",
    b"GET /hello HTTP/1.1\r\n\r\n",
]


def test_ambiguous_requests_are_answered_400_and_the_connection_closed(world):
    seen = len(world.http.requests)
    for request in SMUGGLED:
        raw = exchange(world, "web", request + b"GET /smuggled HTTP/1.1\r\nHost: web.e2e.test\r\n\r\n")
        assert raw.startswith((b"HTTP/1.1 400", b"HTTP/1.0 400")), (request, raw[:200])
        assert raw.count(b"HTTP/1.") == 1, (request, raw[:400])
    assert [request.path for request in world.http.requests[seen:]] == []


def test_a_host_that_is_not_the_sni_is_misdirected(world):
    raw = exchange(world, "web", b"GET /hello HTTP/1.1\r\nHost: refused.e2e.test\r\nConnection: close\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 421")


def test_a_header_of_half_a_mib_passes_and_more_than_one_is_431(world):
    host = b"Host: web.e2e.test\r\nConnection: close\r\n"
    fits = exchange(world, "web", b"GET /hello HTTP/1.1\r\n" + host + b"X-Big: " + b"a" * 60_000 + b"\r\n\r\n")
    assert fits.startswith(b"HTTP/1.1 200")
    large = exchange(world, "web", b"GET /hello HTTP/1.1\r\n" + host + b"X-Big: " + b"a" * (1 << 20) + b"\r\n\r\n")
    assert large.startswith(b"HTTP/1.1 431")


def test_a_body_cut_by_the_upstream_is_seen_as_broken(world):
    port, host = world.network.ports["https"], f"web.{DOMAIN}"
    for version, expected in (("--http1.1", {18, 56}), ("--http2", {18, 56, 92})):
        argv = ["curl", "-sS", version, "-o", "/dev/null", "--cacert", world.network.ca, "--max-time", "10"]
        argv += ["--connect-to", f"{host}:{port}:127.0.0.1:{port}", f"https://{host}:{port}/truncated"]
        assert subprocess.run([str(part) for part in argv], capture_output=True).returncode in expected


def test_an_answer_that_is_not_http_is_502_with_nothing_of_it(world):
    answer = curl(world.network, world.url("web", "garbage"))
    assert answer.status == 502
    assert b"this is not HTTP" not in answer.body


def test_a_caller_that_goes_away_ends_the_request_at_the_upstream(world):
    path = f"/download?n={GIB * 4}"
    with tls_context(world.network, "http/1.1").wrap_socket(dial(world.network.ports["https"]), server_hostname=f"web.{DOMAIN}") as sock:
        sock.sendall(f"GET {path} HTTP/1.1\r\nHost: web.{DOMAIN}\r\n\r\n".encode())
        assert sock.recv(1 << 16)
    seen = world.http.wait_for(path)
    assert seen.finished.wait(2), "the upstream still sends"
    assert seen.broken

"""Callers that show a certificate to the agent: revocation lists of openssl, and who they are, told to the upstream."""

import base64
import hashlib
import http.client
import json
import os
import re
import ssl
import time
import types

import pytest

from harness.authority import Authority
from harness.clients import curl, dial, tls_context
from harness.deployment import AGENT, DOMAIN, NETWORK
from harness.http_upstream import HttpUpstream
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo


def name(label):
    return f"{label}.{DOMAIN}"


def url(label, path="hello"):
    return f"https://{name(label)}/{path}"


def deploy(registry, ours, endpoints, wait=True, settings=(), more=()):
    """An agent that ends TLS of `endpoints`: a label, its upstream, and more keys. Of those in `more` the network ends it."""
    network = registry.network(**dict(settings)).start()
    pairs = registry.root / "pairs"
    pairs.mkdir()
    items = {}
    for label, (upstream, keys) in endpoints.items():
        run([NETWORK, "ca", "issue", "--config", network.config, "--out", pairs / label, name(label)])
        ends = {"server_certificate": f"{pairs / label}.pem", "server_private_key": f"{pairs / label}.key"}
        ends |= {"mutual_tls_certificate_authorities": [str(ours.pem)], **keys}
        items[label] = {"url": f"https://{name(label)}", "upstream": {"url": upstream}, "agent_tls_termination": ends}
    for label, upstream in dict(more).items():
        items[label] = {"url": f"https://{name(label)}", "upstream": {"url": upstream}}
    agent = registry.agent(network, network.token(f"*.{DOMAIN}"), items)
    return network, agent.start() if wait else agent.spawn()


def connect(network, label, certificate):
    """A caller that has shaken hands."""
    context = tls_context(network)
    context.load_cert_chain(certificate[1], certificate[3])
    return context.wrap_socket(dial(network.ports["https"]), server_hostname=name(label))


def refused(network, label, certificate):
    with pytest.raises(AssertionError, match="curl: \\((35|52|55|56)\\)"):
        curl(network, url(label), *certificate)


def test_a_caller_that_is_revoked_is_cut_in_mid_transfer_and_refused_and_nobody_else_is(registry):
    ours = Authority(registry.root, "ours")
    alice, bob = ours.issue("alice"), ours.issue("bob")
    listed = ours.list(ours.directory / "list.pem")
    upstream, echoing = registry.upstream(HttpUpstream()), registry.upstream(RawUpstream(echo))
    crl = {"mutual_tls_crl": [str(listed)]}
    network, agent = deploy(registry, ours, {"crm": (upstream.url, crl), "echo": (f"http://{echoing.target}", crl)})
    assert curl(network, url("crm"), *alice).status == curl(network, url("crm"), *bob).status == 200
    standing = {who: connect(network, "echo", certificate) for who, certificate in (("alice", alice), ("bob", bob))}

    def echoed(who):
        standing[who].sendall(b"x" * 1_000)
        left = 1_000
        while left:
            data = standing[who].recv(left)
            if not data:
                raise ConnectionError("ended")
            left -= len(data)

    echoed("alice"), echoed("bob")
    ours.revoke("alice")
    ours.list(listed)

    def is_cut():
        try:
            echoed("alice")
        except (OSError, ConnectionError):
            return True
        return False

    wait_until(is_cut, "the connection of who is revoked ends in the middle")
    refused(network, "crm", alice)
    agent.process.wait_for("ADIT-1207.*Revoked")
    assert curl(network, url("crm"), *bob).status == 200
    echoed("bob")

    # What is put in its place and cannot be used, or is older, lets nobody in again; a list in DER does as well.
    good, mark = listed.read_bytes(), agent.process.mark()
    listed.write_bytes(good[: len(good) // 2])
    agent.process.wait_for("list.pem.*certificate not taken", after=mark)
    refused(network, "crm", alice)
    mark = agent.process.mark()
    (ours.directory / "crlnumber").write_text("01\n")
    index = ours.directory / "index.txt"
    revoked = index.read_text()
    index.write_text("")
    ours.list(listed)
    agent.process.wait_for("older than one that was in force", after=mark)
    refused(network, "crm", alice)
    index.write_text(revoked)
    (ours.directory / "crlnumber").write_text("10\n")
    ours.revoke("bob")
    ours.list(ours.directory / "new.pem")
    run(["openssl", "crl", "-in", ours.directory / "new.pem", "-outform", "DER", "-out", ours.directory / "new.der"])
    (ours.directory / "new.der").rename(listed)
    wait_until(lambda: not serves(network, "crm", bob), "the list in DER is read")


def serves(network, label, certificate):
    try:
        return curl(network, url(label), *certificate).status == 200
    except AssertionError:
        return False


def test_a_list_that_is_over_or_missing_lets_nobody_in_and_says_so(registry):
    ours, upstream = Authority(registry.root, "ours"), registry.upstream(HttpUpstream())
    alice = ours.issue("alice")
    over = ours.list(registry.root / "over.pem", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z")
    missing = registry.root / "missing.pem"
    endpoints = {"over": (upstream.url, {"mutual_tls_crl": str(over)}), "missing": (upstream.url, {"mutual_tls_crl": str(missing)})}
    network, agent = deploy(registry, ours, endpoints, wait=False)
    agent.expected = 1
    agent.wait_bound()
    agent.process.wait_for("certificates of its issuer are refused")
    refused(network, "over", alice)
    assert '"bound"' not in agent.process.text() or f"https://{name('missing')}" not in [line for line in agent.process.lines if "endpoint bound" in line]
    found = run([AGENT, "config", "check", "--config", agent.config], check=False)
    assert found.returncode == 3 and b"missing.pem" in found.stdout + found.stderr
    told = run([AGENT, "explain", "--config", agent.config]).stdout.decode()
    assert f"good only while a revocation list in {over} says so" in told
    ours.list(over)
    wait_until(lambda: serves(network, "over", alice), "the successor is read")
    ours.list(missing)
    wait_until(lambda: serves(network, "missing", alice), "the endpoint is asked for once its list is there")


TOLD = {"mutual_tls_identity_headers": True}
GET = b"GET /headers HTTP/1.1\r\nHost: a\r\n"


def identity(pairs):
    """The headers by which an upstream is told who calls, in whatever spelling."""
    folded = ((re.sub("[^a-z0-9]", "-", key.lower()), value) for key, value in pairs)
    return sorted((key, value) for key, value in folded if "client-" in key or key == "forged")


def talk(network, label, certificate, octets):
    """Sends octets on a connection of its own, and returns what comes until it ends."""
    sock = connect(network, label, certificate)
    sock.sendall(octets)
    parts = []
    try:
        while data := sock.recv(1 << 16):
            parts.append(data)
    except OSError:
        parts.append(b"reset")
    return b"".join(parts)


class Recorder:
    """An upstream that keeps every octet, and answers each head with a few octets, or with another protocol."""

    def __init__(self):
        self.seen = []

    def __call__(self, sock):
        octets = bytearray()
        self.seen.append(octets)
        answered = 0
        while data := sock.recv(1 << 16):
            octets += data
            if b"Upgrade: echo" in octets and b"\r\n\r\n" in octets:
                sock.sendall(b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n")
                return echo(sock)
            while answered < octets.count(b"\r\n\r\n"):
                answered += 1
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    from conftest import Registry

    registry = Registry(tmp_path_factory.mktemp("agent-callers"))
    try:
        ours = Authority(registry.root, "ours")
        site, recorder = registry.upstream(HttpUpstream()), Recorder()
        raw = registry.upstream(RawUpstream(recorder))
        asks = {"mutual_tls_verification_strategy": "request", **TOLD}
        endpoints = {"crm": (site.url, TOLD), "ask": (site.url, asks), "raw": (f"http://{raw.target}", TOLD)}
        at_network = {"url": f"https://{name('edge')}", "account": "e2e", "type": "agent", "client_certificates": {"mode": "verify", "ca": str(ours.pem)}}
        network, agent = deploy(registry, ours, endpoints, settings={"endpoints": [at_network]}, more={"edge": site.url})
        yield types.SimpleNamespace(network=network, agent=agent, http=site, recorder=recorder, ada=ours.issue("ada"), ours=ours)
    finally:
        registry.close()
    assert list(registry.faults()) == []


def test_the_upstream_is_told_who_calls_as_the_network_tells_it_and_never_by_the_caller(told):
    plain = identity(curl(told.network, url("crm", "headers"), *told.ada).json())
    assert plain == identity(curl(told.network, url("edge", "headers"), *told.ada).json())
    found = dict(plain)
    digest = run(["openssl", "x509", "-in", told.ada[1], "-noout", "-fingerprint", "-sha256"]).stdout.decode()
    assert found["x-client-cert-sha256"] == digest.strip().split("=")[1].replace(":", "").lower()
    assert (found["x-client-cert-verified"], found["x-client-cert-subject"]) == ("true", "CN=ada")
    der = run(["openssl", "x509", "-in", told.ada[1], "-outform", "DER"]).stdout
    assert base64.b64decode(found["client-cert"].strip(":")) == der

    forged = ["X-Client-Cert-Subject: CN=admin", "x_client_cert_subject: CN=admin", "X-Client.Cert-Verified: forged", "Client_Cert: forged", "client-cert-chain: forged", "X-SSL-Client-S-DN: forged"]
    options = [part for line in forged for part in ("-H", line)]
    assert identity(curl(told.network, url("crm", "headers"), *told.ada, *options, "-H", "Connection: X-Client-Cert-Verified").json()) == plain
    # Who shows none is nobody, whatever it says.
    assert identity(curl(told.network, url("ask", "headers"), *options).json()) == []
    assert identity(curl(told.network, url("ask", "headers"), *told.ada, *options).json()) == plain


def test_every_request_of_a_connection_is_told_of_with_bodies_of_every_kind_between(told):
    sock = connect(told.network, "crm", told.ada)
    caller = http.client.HTTPConnection("a")
    caller.sock = sock
    body = os.urandom(300_000)
    forged = {"X-Client-Cert-Verified": "forged", "Host": name("crm")}

    def ask(method, path, **more):
        headers = {**forged, **more.pop("headers", {})}
        caller.request(method, path, headers=headers, **more)
        answer = caller.getresponse()
        assert answer.status == 200
        return answer.read()

    first = identity(json.loads(ask("GET", "/headers")))
    assert ("x-client-cert-verified", "true") in first
    assert ask("POST", "/echo", body=body) == body
    chunks = (body[at : at + 7_000] for at in range(0, len(body), 7_000))
    assert ask("POST", "/echo", body=chunks, encode_chunked=True, headers={"Transfer-Encoding": "chunked"}) == body
    assert ask("HEAD", "/hello") == b""
    assert identity(json.loads(ask("GET", "/headers"))) == first
    assert caller.sock is sock, "it is one connection"
    sock.sendall(GET + b"Client-Cert: forged\r\n\r\n" + GET + b"Connection: close\r\n\r\n")
    answers = b"".join(iter(lambda: sock.recv(1 << 16), b""))
    assert answers.count(b"HTTP/1.1 200") == answers.count(b"CN=ada") == 2 and b"forged" not in answers, "two at once"

    big = b"x" * (4 << 20)
    for options in (["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"], ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"]):
        answer = curl(told.network, url("crm", "upload"), *told.ada, *options, "--data-binary", "@-", stdin=big)
        assert answer.body.decode() == f"{len(big)} {hashlib.sha256(big).hexdigest()}", options
        assert "Expect" not in told.http.requests[-1].headers


def test_another_protocol_passes_once_the_upstream_has_taken_it(told):
    sock = connect(told.network, "raw", told.ada)
    sock.sendall(b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
    head = b""
    while b"\r\n\r\n" not in head:
        head += sock.recv(1 << 16)
    assert head.startswith(b"HTTP/1.1 101 ")
    octets = GET + b"Client-Cert: forged\r\n\r\n" + bytes(range(256)) * 100
    sock.sendall(octets)
    back = head.split(b"\r\n\r\n", 1)[1]
    while len(back) < len(octets):
        data = sock.recv(1 << 16)
        assert data, "it goes on"
        back += data
    assert back == octets, "octets are octets now"
    sock.close()

    # HTTP/2 in clear text would be requests that nobody looks at.
    answer = talk(told.network, "raw", told.ada, GET + b"Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n\r\n" + b"bad\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ") and b"HTTP/1.1 400 " in answer
    last = bytes(told.recorder.seen[-1])
    assert b"h2c" not in last and b"\r\nHTTP2-Settings:" not in last and b"x-client-cert-verified: true" in last


@pytest.mark.parametrize("fields,body", [
    (b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    (b"Content-Length: 0\r\nContent-Length: 6\r\n", b""),
    (b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity\r\n", b"0\r\n\r\n"),
    (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    (b"Transfer_Encoding: chunked\r\n", b"0\r\n\r\n"),
    (b"X: y\r\n Transfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    (b"X: y\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    (b"X: y\rContent-Length: 6\r\n", b""),
    (b"Content-Length: +6\r\n", b"hello!"),
    (b"Transfer-Encoding: chunked\r\n", b"1;\nx\r\nx\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"0\r\nX: y\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"g\r\n"),
])  # fmt: skip
def test_no_request_is_smuggled_past_the_agent(told, fields, body):
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Client-Cert-Verified: forged\r\n\r\n"
    # Whatever was in order before it is answered first.
    answer = talk(told.network, "raw", told.ada, GET + b"\r\n" + b"POST / HTTP/1.1\r\nHost: a\r\n" + fields + b"\r\n" + body + smuggled)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"), answer
    assert answer.count(b"HTTP/1.1 400 ") <= 1 and b"smuggled" not in answer
    if not body.startswith((b"1;", b"0\r\nX", b"g")):
        assert b"HTTP/1.1 400 " in answer, answer
    for seen in told.recorder.seen:
        assert b"smuggled" not in seen and b"forged" not in seen.split(b"Upgrade: echo")[0], bytes(seen)
    told.agent.process.wait_for("ADIT-1208")


def test_callers_speak_http_1_1_alone_and_an_upstream_of_http_2_is_refused(told, registry):
    assert curl(told.network, url("crm"), *told.ada, "--http2").version == "HTTP/1.1"
    context = tls_context(told.network, "h2")
    context.load_cert_chain(told.ada[1], told.ada[3])
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        context.wrap_socket(dial(told.network.ports["https"]), server_hostname=name("crm"))
    config = registry.root / "wrong.yml"
    config.write_text(told.agent.config.read_text().replace(f'url: "{told.http.url}"', f'url: "{told.http.url}"\n      protocol: http2', 1))
    config.chmod(0o600)
    found = run([AGENT, "config", "check", "--config", config], check=False)
    assert found.returncode == 3 and b"mutual_tls_identity_headers" in found.stdout + found.stderr
    text = run([AGENT, "explain", "--config", told.agent.config]).stdout.decode()
    assert "the upstream is told who it is in the header of each request" in text


def test_a_head_that_does_not_come_as_a_whole_is_answered_and_a_connection_between_requests_is_left_alone(told):
    idle = connect(told.network, "crm", told.ada)
    begun = time.monotonic()
    answer = talk(told.network, "crm", told.ada, GET + b"\r\n" + GET)
    assert b"HTTP/1.1 408 " in answer and answer.startswith(b"HTTP/1.1 200 ") and time.monotonic() - begun > 8
    idle.sendall(GET + b"Connection: close\r\n\r\n")
    assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200 ")

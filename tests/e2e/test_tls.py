"""TLS that ends at the network, with the programs of others: openssl, curl, testssl.sh."""

import json
import re
import signal
import ssl

import pytest

from harness.certificates import Authority
from harness.clients import curl, dial, tls_context
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo


def name(label):
    return f"{label}.{DOMAIN}"


@pytest.fixture(scope="module")
def edge(tmp_path_factory):
    """A network with an endpoint of each kind of terms, all before the same upstream."""
    from conftest import Registry

    root = tmp_path_factory.mktemp("edge")
    registry = Registry(root)
    ours, other = Authority(root, "ours"), Authority(root, "other")
    stopped = root / "stopped.pem"
    stopped.write_text(ours.pem.read_text()[:-40])

    def item(label, **settings):
        return {"url": f"https://{name(label)}", "account": "e2e", "type": "agent", **settings}

    def asks(mode, *files):
        return {"client_certificates": {"mode": mode, **({"ca": [str(file) for file in files]} if files else {})}}

    network = registry.network(endpoints=[
        item("request", **asks("request", ours.pem)),
        item("require", **asks("require", ours.pem)),
        item("verify", **asks("verify", ours.pem)),
        item("*.wild", **asks("verify", other.pem)),
        item("stopped", **asks("verify", stopped)),
        item("modern", tls={"min_version": "1.3"}),
        item("old", tls={"max_version": "1.2"}),
    ])  # fmt: skip
    network.start()
    network.ours, network.other, network.stopped = ours, other, stopped
    network.upstream = registry.upstream(HttpUpstream())
    own = registry.upstream(RawUpstream(echo))
    labels = ["plain", "beside", "request", "require", "verify", "*.wild", "stopped", "modern", "old"]
    endpoints = {f"e{at}": {"url": f"https://{name(label)}", "upstream": {"url": network.upstream.url}} for at, label in enumerate(labels)}
    endpoints["sealed"] = {"url": f"tls://{name('sealed')}", "upstream": {"url": f"tcp://{own.target}"}}
    registry.agent(network, network.token(DOMAIN, f"*.{DOMAIN}", f"*.wild.{DOMAIN}"), endpoints).start()
    try:
        yield network
    finally:
        registry.close()
    assert list(registry.faults()) == []


def ask(edge, label, *options):
    return curl(edge, f"https://{name(label)}/hello", *options)


def refused(edge, label, *options):
    """Asks, and asserts that TLS came to nothing and that it is counted."""
    before = edge.metric("adit_tls_failures_total")
    with pytest.raises(AssertionError, match="curl: \\((35|52|55|56)\\)"):
        ask(edge, label, *options)
    wait_until(lambda: edge.metric("adit_tls_failures_total") > before, "the failure is counted")


def seen(edge):
    return edge.upstream.requests[-1].headers


def s_client(edge, label, *options, stdin=b""):
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.ports['https']}", "-servername", name(label), "-CAfile", edge.ca, *options]
    done = run(argv, stdin=stdin, check=False)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def test_verify_lets_in_whom_an_authority_of_the_endpoint_vouches_for(edge):
    assert ask(edge, "verify", *edge.ours.issue("client")).status == 200
    headers = seen(edge)
    assert headers["X-Client-Cert-Verified"] == "true"
    assert headers["X-Client-Cert-Subject"] == "CN=client,O=Acme"
    assert headers["X-Client-Cert-Issuer"] == "CN=ours"
    assert headers["X-Client-Cert-Serial"] == "b53017"
    assert re.fullmatch(":[A-Za-z0-9+/]+=*:", headers["Client-Cert"])
    refused(edge, "verify")
    refused(edge, "verify", *edge.other.issue("client"))


def test_a_wildcard_has_authorities_of_its_own(edge):
    assert ask(edge, "a.wild", *edge.other.issue("client")).status == 200
    refused(edge, "a.wild", *edge.ours.issue("client"))
    refused(edge, "b.wild")


def test_require_lets_in_whoever_shows_a_certificate_and_says_whether_anybody_vouches(edge):
    assert ask(edge, "require", *edge.other.issue("client")).status == 200
    headers = seen(edge)
    assert headers["X-Client-Cert-Verified"] == "false"
    assert re.fullmatch("[0-9a-f]{64}", headers["X-Client-Cert-Sha256"])
    assert headers["Client-Cert"] is headers["X-Client-Cert-Subject"] is None
    assert ask(edge, "require", *edge.ours.issue("client")).status == 200
    assert seen(edge)["X-Client-Cert-Verified"] == "true"
    refused(edge, "require")


def test_request_lets_in_everybody(edge):
    assert ask(edge, "request").status == 200
    assert seen(edge)["X-Client-Cert-Verified"] is None
    assert ask(edge, "request", *edge.ours.issue("client")).status == 200
    assert seen(edge)["X-Client-Cert-Verified"] == "true"


def test_what_a_caller_says_about_its_certificate_never_arrives(edge):
    forged = ["Client-Cert: :AAAA:", "client_cert: x", "Client-Cert-Chain: x", "X-Client-Cert-Verified: true", "X_Client_Cert_Subject: CN=admin", "X-SSL-Client-Verify: SUCCESS", "SSL_CLIENT_S_DN: CN=admin"]
    for label in ["plain", "request"]:
        assert ask(edge, label, *[option for field in forged for option in ("-H", field)]).status == 200
        assert [field for field in seen(edge).keys() if "cert" in field.lower() or "ssl" in field.lower()] == []


def test_an_endpoint_whose_authorities_are_cut_off_is_stopped_and_says_so(edge):
    refused(edge, "stopped", *edge.ours.issue("client"))
    assert edge.metric('adit_tls_failures_total{reason="stopped"}') > 0
    edge.process.wait_for("the endpoint is stopped")
    assert ask(edge, "plain").status == 200


def test_a_connection_is_good_for_the_names_with_its_terms_only(edge):
    """A certificate that was not asked for at one name opens no other, whichever way Host is written."""
    for label in ["verify", "a.wild", "require", "VERIFY", "verify"]:
        with tls_context(edge).wrap_socket(dial(edge.ports["https"]), server_hostname=name("plain")) as sock:
            sock.sendall(f"GET /hello HTTP/1.1\r\nHost: {name(label)}\r\nConnection: close\r\n\r\n".encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 421 "), label
    context = tls_context(edge)
    pair = edge.other.issue("client")
    context.load_cert_chain(pair[1], pair[3])
    for label, status in [("a.wild", b"200"), ("b.wild", b"200"), ("verify", b"421"), ("plain", b"421")]:
        with context.wrap_socket(dial(edge.ports["https"]), server_hostname=name("a.wild")) as sock:
            sock.sendall(f"GET /hello HTTP/1.1\r\nHost: {name(label)}\r\nConnection: close\r\n\r\n".encode())
            assert sock.recv(100).startswith(b"HTTP/1.1 " + status), label


@pytest.mark.parametrize("size", [1, 50])
def test_a_hello_in_pieces_hides_no_name_and_opens_nothing(edge, size):
    context = tls_context(edge)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        answer = in_pieces(edge, context, "verify", size)
        raise AssertionError(f"served without a certificate: {answer}")
    pair = edge.ours.issue("client")
    context.load_cert_chain(pair[1], pair[3])
    assert in_pieces(edge, context, "verify", size).startswith(b"HTTP/1.1 200 ")


def in_pieces(edge, context, label, size):
    """Asks over a connection whose ClientHello comes in records of `size` octets."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = context.wrap_bio(incoming, outgoing, server_hostname=name(label))
    with dial(edge.ports["https"]) as sock:

        def until(step):
            while True:
                try:
                    result = step()
                except ssl.SSLWantReadError:
                    result = None
                sock.sendall(outgoing.read())
                if result is not None:
                    return result
                data = sock.recv(1 << 16)
                incoming.write(data) if data else incoming.write_eof()

        with pytest.raises(ssl.SSLWantReadError):
            secure.do_handshake()
        hello = outgoing.read()
        assert hello[0] == 22 and len(hello) == 5 + int.from_bytes(hello[3:5], "big")
        for at in range(5, len(hello), size):
            piece = hello[at : at + size]
            sock.sendall(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece)
        until(lambda: secure.do_handshake() or True)
        secure.write(f"GET /hello HTTP/1.1\r\nHost: {name(label)}\r\nConnection: close\r\n\r\n".encode())
        return until(lambda: secure.read(1 << 16))


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_session_goes_on_at_its_own_endpoint_and_at_no_other(edge, tmp_path, version):
    session = tmp_path / "session.pem"
    talk = f"GET /hello HTTP/1.1\r\nHost: {name('plain')}\r\nConnection: close\r\n\r\n".encode()
    before = edge.metric("adit_tls_handshakes_resumed_total")
    # TLS 1.3 sends its tickets with the first octets of an answer.
    s_client(edge, "plain", version, "-sess_out", session, "-ign_eof", stdin=talk)
    assert "Reused" in s_client(edge, "plain", version, "-sess_in", session)[1]
    wait_until(lambda: edge.metric("adit_tls_handshakes_resumed_total") == before + 1, "the second handshake is resumed")
    for label in ["beside", "verify", "request", "modern", "old"]:
        assert "Reused" not in s_client(edge, label, version, "-sess_in", session)[1], label
    assert edge.metric("adit_tls_handshakes_resumed_total") == before + 1


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_where_certificates_are_asked_for_nothing_is_resumed(edge, tmp_path, version):
    session = tmp_path / "session.pem"
    _, cert, _, key = edge.ours.issue("client")
    talk = f"GET /hello HTTP/1.1\r\nHost: {name('verify')}\r\nConnection: close\r\n\r\n".encode()
    assert "200 OK" in s_client(edge, "verify", version, "-cert", cert, "-key", key, "-sess_out", session, "-ign_eof", stdin=talk)[1]
    if session.exists():
        assert "Reused" not in s_client(edge, "verify", version, "-sess_in", session, stdin=talk)[1]


def test_versions_and_application_protocols_are_those_of_the_endpoint(edge):
    for label, option, works in [
        ("plain", "-tls1_2", True),
        ("plain", "-tls1_3", True),
        ("plain", "-tls1_1", False),
        ("modern", "-tls1_2", False),
        ("modern", "-tls1_3", True),
        ("old", "-tls1_2", True),
        ("old", "-tls1_3", False),
    ]:
        code, text = s_client(edge, label, option)
        assert (code == 0) == works, f"{label} {option}: {text}"
    assert s_client(edge, "plain", "-alpn", "h2")[0] == 0
    assert s_client(edge, "plain", "-alpn", "ftp")[0] != 0
    assert s_client(edge, "plain", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256")[0] != 0
    assert s_client(edge, "plain", "-noservername")[0] != 0


def test_a_reload_with_authorities_that_are_lost_changes_nothing_and_one_that_is_right_holds_for_standing_connections(edge):
    client = edge.ours.issue("client")
    kept = edge.ours.pem.read_text()
    edge.stopped.write_text(kept)
    edge.ours.pem.write_text("")
    mark = edge.process.mark()
    reload(edge)
    edge.process.wait_for("authorities cannot be used", after=mark)
    assert ask(edge, "verify", *client).status == 200
    context = tls_context(edge)
    context.load_cert_chain(client[1], client[3])
    with context.wrap_socket(dial(edge.ports["https"]), server_hostname=name("verify")) as sock:
        sock.sendall(f"GET /hello HTTP/1.1\r\nHost: {name('verify')}\r\n\r\n".encode())
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
        edge.ours.pem.write_text(edge.other.pem.read_text())
        mark = edge.process.mark()
        reload(edge)
        edge.process.wait_for("the configuration was reloaded", after=mark)
        sock.sendall(f"GET /hello HTTP/1.1\r\nHost: {name('verify')}\r\n\r\n".encode())
        answer = b""
        while b" 421 " not in answer:
            data = sock.recv(1000)
            assert data, answer
            answer += data
    refused(edge, "verify", *client)
    assert ask(edge, "stopped", *client).status == 200
    edge.ours.pem.write_text(kept)
    mark = edge.process.mark()
    reload(edge)
    edge.process.wait_for("the configuration was reloaded", after=mark)
    assert ask(edge, "verify", *client).status == 200


def reload(edge):
    edge.process.signal(signal.SIGHUP)


def test_testssl_finds_nothing_above_low(edge, tmp_path):
    """The scanner that security engineers run. What concerns the private CA of this test, and DNS, is not ours."""
    out = tmp_path / "testssl.json"
    target = f"https://{name('plain')}:{edge.ports['https']}"
    argv = ["testssl", "--quiet", "--color", "0", "--warnings", "off", "--fast", "--ip", "127.0.0.1", "--nodns", "none", "--add-ca", edge.ca, "--jsonfile", out]
    argv += ["--protocols", "--server-defaults", "--vulnerable", "--std", "--fs", "--server-preference", target]
    done = run(argv, deadline=400, check=False, env={"TERM": "dumb"})
    findings = json.loads(out.read_text())
    assert len(findings) > 40, done.stdout.decode(errors="replace")[-3000:]
    certificate = re.compile("cert_|DNS_CAA|OCSP|engine_problem|scanTime|optimal_proto")
    bad = [finding for finding in findings if finding["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL") and not certificate.match(finding["id"])]
    assert bad == []
    offered = {finding["id"]: finding["finding"] for finding in findings}
    assert offered["TLS1_3"].startswith("offered") and offered["TLS1_2"].startswith("offered")
    assert {offered[old] for old in ("SSLv2", "SSLv3", "TLS1", "TLS1_1")} == {"not offered"}

"""TLS that ends at the agent: the network passes octets through that it cannot read. With the programs of others: curl, openssl, HAProxy."""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import h2.config
import h2.connection
import h2.events
import pytest

from harness.certificates import Authority
from harness.clients import curl, tls_context
from harness.deployment import AGENT, DOMAIN, NETWORK, ROOT
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import Process, run, wait_until
from harness.raw_upstream import RawUpstream


def name(label):
    return f"{label}.{DOMAIN}"


def url(label, path="hello"):
    return f"https://{name(label)}/{path}"


class Site:
    """A network, and an agent that ends TLS: without certificates of callers, with them, and with HTTP/2 to its upstream."""

    def __init__(self, registry):
        self.registry, self.root = registry, registry.root
        self.network = registry.network().start()
        self.http = registry.upstream(HttpUpstream())
        self.h2c = registry.upstream(RawUpstream(speak_h2c))
        self.proxied = free_port()
        self.ours, self.other = Authority(self.root, "ours"), Authority(self.root, "other")
        asks = {"mutual_tls_certificate_authorities": [str(self.ours.pem)]}
        endpoints = {
            "crm": {"url": f"https://{name('crm')}", "upstream": {"url": self.http.url}, "agent_tls_termination": {}},
            "h2": {"url": f"https://{name('h2')}", "upstream": {"url": f"http://{self.h2c.target}", "protocol": "http2"}, "agent_tls_termination": {"min_version": "1.3"}},
            "sealed": {"url": f"tls://{name('sealed')}", "upstream": {"url": self.http.url}, "agent_tls_termination": {}},
            "callers": {"url": f"https://{name('callers')}", "upstream": {"url": self.http.url}, "agent_tls_termination": asks},
            "told": {"url": f"https://{name('told')}", "upstream": {"url": f"http://127.0.0.1:{self.proxied}", "proxy_protocol": "2"}, "agent_tls_termination": asks},
        }
        self.agent = registry.agent(self.network, self.network.token(f"*.{DOMAIN}"), endpoints)
        for label in endpoints:
            self.certify(label)
        self.agent.start()

    def certify(self, label, *options):
        """A key that is made beside the agent's configuration, a request, the vendor's answer, installed."""
        asked, answer = self.root / f"{label}.csr", self.root / f"{label}-{len(os.listdir(self.root))}"
        self.certificate("request", label, "--out", asked, *options)
        self.answer(asked, answer)
        return self.certificate("install", label, f"{answer}.pem")

    def answer(self, asked, answer, *names):
        return run([NETWORK, "ca", "issue", "--config", self.network.config, "--csr", asked, "--out", answer, *names])

    def certificate(self, *arguments, check=True):
        done = run([AGENT, "certificate", *arguments, "--config", self.agent.config], check=check)
        return done.stdout.decode() + done.stderr.decode()

    def print(self, label):
        """The fingerprint of the certificate that the agent has."""
        return json.loads(self.certificate("show", label, "--output", "json"))["sha256"]

    def shown(self, label):
        """The fingerprint of the certificate that openssl is shown."""
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{self.network.ports['https']}", "-servername", name(label), "-CAfile", self.network.ca, "-verify_return_error"]
        done = run(argv, stdin=b"", check=False)
        digest = run(["openssl", "x509", "-noout", "-fingerprint", "-sha256"], stdin=done.stdout).stdout.decode()
        return digest.strip().split("=")[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from conftest import Registry

    registry = Registry(tmp_path_factory.mktemp("agent-tls"))
    try:
        yield Site(registry)
    finally:
        registry.close()
    assert list(registry.faults()) == []


def test_callers_see_the_agents_certificate_and_the_network_reads_nothing(site):
    requests = site.network.metric("adit_http_requests_total")
    for label in ("crm", "sealed"):
        assert site.shown(label) == site.print(label)
        answer = curl(site.network, url(label))
        assert (answer.status, answer.body, answer.version) == (200, b"hello from upstream\n", "HTTP/1.1")
        echoed = curl(site.network, url(label, "echo"), "--data-binary", "@-", stdin=b"x" * 300_000)
        assert (echoed.status, echoed.body) == (200, b"x" * 300_000)
    assert site.http.requests[-1].headers["Host"].startswith(name("sealed"))
    # The network knows of connections, and of no request.
    assert site.network.metric("adit_http_requests_total") == requests
    assert "/echo" not in site.network.process.text()


def test_the_key_is_made_beside_the_agent_and_nobody_else_has_it(site):
    key = site.agent.directory / "crm.key"
    assert key.stat().st_mode & 0o777 == 0o600
    secret = key.read_text().splitlines()[1]
    for folder in (site.network.directory, site.root):
        for path in folder.rglob("*"):
            if path.is_file() and path.resolve() != key.resolve():
                assert secret.encode() not in path.read_bytes(), path


def test_both_sides_show_where_tls_ends(site):
    assert 'adit_binds_by_tls_total{end="agent"} 5' in site.network.metrics()
    for process, message in ((site.network.process, "an endpoint was bound"), (site.agent.process, "endpoint bound")):
        bound = [line for line in map(parsed, process.lines) if line.get("message") == message]
        assert len(bound) == 5 and all(line["tls"] == "agent" for line in bound)
        assert f"https://{name('crm')}" in {re.sub(":[0-9]+$", "", line["url"]) for line in bound}
    used = [line for line in map(parsed, site.agent.process.lines) if line.get("message") == "certificate in use" and line["name"] == "crm"]
    assert used[0]["names"] == name("crm")


def test_what_callers_agree_on_is_what_the_upstream_speaks(site):
    answer = curl(site.network, url("h2", "x"), "--http2")
    assert (answer.status, answer.body, answer.version) == (200, b"GET /x over HTTP/2", "HTTP/2")
    with pytest.raises(AssertionError, match="no application protocol|no_application_protocol|ALPN"):
        curl(site.network, url("h2"), "--http1.1")
    with pytest.raises(AssertionError, match="protocol version"):
        curl(site.network, url("h2"), "--tls-max", "1.2")


def test_only_callers_with_a_certificate_of_the_authorities_are_let_in(site):
    assert curl(site.network, url("callers"), *site.ours.issue("ada")).status == 200
    seen = len(site.http.requests)
    for options in ([], site.other.issue("mallory")):
        with pytest.raises(AssertionError, match="curl: \\((35|52|55|56)\\)"):
            curl(site.network, url("callers"), *options)
    assert len(site.http.requests) == seen
    wait_until(lambda: "ADIT-1207" in site.agent.process.text(), "the refusal is in the agent's log")


def test_haproxy_as_the_upstream_hears_who_calls(site):
    config = site.root / "haproxy.cfg"
    config.write_text(
        "defaults\n  mode http\n  timeout client 10s\n  timeout connect 10s\n  timeout server 10s\n"
        f"frontend told\n  bind 127.0.0.1:{site.proxied} accept-proxy\n"
        '  http-request return status 200 content-type text/plain lf-string "%[src] %[fc_pp_authority]"\n'
    )
    balancer = site.registry.upstream(Closing(Process("haproxy", ["/usr/sbin/haproxy", "-db", "-f", config])))
    certificate = site.ours.issue("ada")
    wait_until(lambda: is_open(site.proxied), "HAProxy listens")
    answer = curl(site.network, url("told"), *certificate)
    assert (answer.status, answer.body) == (200, f"127.0.0.1 {name('told')}".encode())
    balancer.close()


def test_certificates_are_replaced_under_load_and_a_pair_that_does_not_fit_changes_nothing(site):
    before, stop, errors, prints = site.print("crm"), threading.Event(), [], set()
    context = tls_context(site.network)

    def call():
        for _ in range(2_000):
            if stop.is_set():
                return
            try:
                with socket.create_connection(("127.0.0.1", site.network.ports["https"]), timeout=20) as sock:
                    with context.wrap_socket(sock, server_hostname=name("crm")) as secure:
                        prints.add(ssl.DER_cert_to_PEM_cert(secure.getpeercert(True)))
                        secure.sendall(f"GET /hello HTTP/1.1\r\nHost: {name('crm')}\r\nConnection: close\r\n\r\n".encode())
                        assert b" 200 " in secure.recv(4_096)
            except (OSError, AssertionError) as error:
                errors.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: prints, "callers are served")
    site.certify("crm", "--new-key")
    after = site.print("crm")
    wait_until(lambda: len(prints) == 2 or errors, "callers see the new certificate")
    key = site.agent.directory / "crm.key"
    right = key.read_text()
    mark = site.agent.process.mark()
    replace(key, (site.agent.directory / "h2.key").read_text())
    refused = site.agent.process.wait_for("certificate not taken: the last one stays", after=mark).string
    assert "does not belong to the key" in refused
    assert site.shown("crm") == after != before
    replace(key, right)
    stop.set()
    for thread in threads:
        thread.join()
    assert (errors, len(prints)) == ([], 2)


def test_a_key_that_others_may_read_is_not_taken(site):
    key, mark = site.agent.directory / "sealed.key", site.agent.process.mark()
    key.chmod(0o644)
    assert "chmod 600" in site.agent.process.wait_for("certificate not taken", after=mark).string
    assert "chmod 600" in site.certificate("show", "sealed", check=False)
    assert curl(site.network, url("sealed")).status == 200
    key.chmod(0o600)


def test_an_answer_for_another_key_or_another_name_is_not_installed(site):
    asked, answer = site.root / "other.csr", site.root / "other-answer"
    site.certificate("request", "h2", "--out", asked)
    site.answer(asked, answer, "elsewhere.example")
    before = site.print("h2")
    assert "--any-name" in site.certificate("install", "h2", f"{answer}.pem", check=False)
    assert "does not belong to the key" in site.certificate("install", "crm", f"{answer}.pem", check=False)
    assert site.print("h2") == before
    named = run(["openssl", "req", "-in", asked, "-noout", "-text", "-verify"]).stdout.decode()
    assert f"DNS:{name('h2')}" in named


def test_a_caller_that_does_not_finish_its_handshake_is_gone_within_its_time(site):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    hello = ssl.create_default_context(cafile=site.network.ca).wrap_bio(incoming, outgoing, server_hostname=name("crm"))
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    with socket.create_connection(("127.0.0.1", site.network.ports["https"]), timeout=20) as sock:
        begun = time.monotonic()
        sock.sendall(outgoing.read())
        assert sock.recv(1 << 16), "the agent answers"
        with pytest.raises(ConnectionResetError):
            while sock.recv(1 << 16):
                pass
        assert 8 < time.monotonic() - begun < 14


def test_an_endpoint_that_the_network_had_ended_is_passed_through_from_its_next_bind_on(registry):
    network = registry.network(endpoints=[{"url": f"https://{name('kept')}", "account": "e2e", "type": "agent", "tls": {"min_version": "1.3"}}]).start()
    upstream = registry.upstream(HttpUpstream())
    token = network.token(f"*.{DOMAIN}")
    plain = {"url": f"https://{name('moved')}", "upstream": {"url": upstream.url}}
    first = registry.agent(network, token, {"moved": plain}, name="first").start()
    assert curl(network, url("moved")).status == 200
    first.stop()

    own = registry.root / "own"
    run([NETWORK, "ca", "issue", "--config", network.config, "--out", own, name("moved"), name("kept")])
    ends = {"agent_tls_termination": {"server_certificate": f"{own}.pem", "server_private_key": f"{own}.key"}}
    second = registry.agent(network, token, {"moved": {**plain, **ends}, "kept": {"url": f"https://{name('kept')}", "upstream": {"url": upstream.url}, **ends}}, name="second")
    second.expected = 1
    second.start()
    assert curl(network, url("moved")).status == 200
    shown = run(["openssl", "s_client", "-connect", f"127.0.0.1:{network.ports['https']}", "-servername", name("moved")], stdin=b"", check=False).stdout
    assert run(["openssl", "x509"], stdin=shown).stdout == run(["openssl", "x509", "-in", f"{own}.pem"]).stdout
    # What the configuration asks of callers at the network is not left out because an agent would like that.
    refused = parsed(second.process.wait_for('"endpoint refused".*ADIT-2016|ADIT-2016.*"endpoint refused"').string)
    assert (refused["name"], refused["to_act"]) == ("kept", "vendor")
    mark = second.process.mark()
    network.settings["endpoints"].append({"url": f"https://{name('moved')}", "account": "e2e", "type": "agent", "tls": {"min_version": "1.3"}})
    network.write_config()
    network.process.signal(signal.SIGHUP)
    assert parsed(second.process.wait_for("endpoint taken back", after=mark).string)["name"] == "moved"


@pytest.mark.parametrize("bug", ["ends-tls-at-the-network", "says-nothing-of-tls"])
def test_a_network_that_would_end_tls_itself_is_refused(registry, bug, tmp_path):
    network, upstream = registry.network(), registry.upstream(HttpUpstream())
    pair = tmp_path / "hostile"
    run([NETWORK, "ca", "issue", "--config", network.config, "--out", pair, "localhost"])
    peer = [sys.executable, ROOT / "conformance" / "peer" / "peer.py", "--bug", bug]
    env = {**os.environ, "ADIT_ROLE": "network", "ADIT_ADDRESS": f"127.0.0.1:{network.ports['ingress']}", "ADIT_CERTIFICATE": f"{pair}.pem", "ADIT_KEY": f"{pair}.key", "ADIT_LIMITS": "{}"}
    hostile = subprocess.Popen([str(part) for part in peer], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert "ready" in json.loads(hostile.stdout.readline())
        ends = {"agent_tls_termination": {"server_certificate": f"{pair}.pem", "server_private_key": f"{pair}.key"}}
        token = type("Token", (), {"secret": "any"})
        agent = registry.agent(network, token, {"crm": {"url": f"https://{name('crm')}", "upstream": {"url": upstream.url}, **ends}})
        agent.spawn()
        told = parsed(agent.process.wait_for("endpoint refused").string)
        assert "ADIT-1115" in told["error"] and told["to_act"] == "vendor" and "No connection is taken" in told["remedy"]
        assert not any(line.get("message") == "endpoint bound" for line in map(parsed, agent.process.lines))
    finally:
        hostile.kill()
        hostile.wait()


class Closing:
    def __init__(self, process):
        self.process = process

    def close(self):
        self.process.kill()


def speak_h2c(sock):
    """HTTP/2 from its preface on, without TLS; says what was asked."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    sock.sendall(connection.data_to_send())
    while data := sock.recv(1 << 16):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = dict(event.headers)
                body = f"{headers[':method']} {headers[':path']} over HTTP/2".encode()
                connection.send_headers(event.stream_id, [(":status", "200"), ("content-length", str(len(body)))])
                connection.send_data(event.stream_id, body, end_stream=True)
        sock.sendall(connection.data_to_send())


def replace(path, text):
    """As a careful program does it: a reader sees the old content or the new."""
    draft = path.with_name(path.name + ".draft")
    with open(os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.rename(path)


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
        return True
    except OSError:
        return False


def parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return {}

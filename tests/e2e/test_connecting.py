"""The way to the network: through real proxies, past one that inspects, by DNS that changes; and what the customer reads where it ends."""

import json
import os
import pathlib
import re
import socket
import ssl
import stat

import pytest

from harness.clients import dial, receive
from harness.deployment import AGENT, yaml
from harness.payload import blocks
from harness.ports import free_port
from harness.process import run, wait_until
from harness.proxies import Dante, Dns, Microsocks, Mitmproxy, Squid, Tinyproxy
from harness.raw_upstream import RawUpstream, echo

PASSWORD = "s3cretpass"
LOGIN = "customer:s3cret%70ass@"


class Site:
    """A network, an upstream that echoes, and what an agent of theirs is told."""

    def __init__(self, registry, tmp_path):
        self.registry = registry
        self.directory = tmp_path
        self.network = registry.network().start()
        self.upstream = registry.upstream(RawUpstream(echo))
        self.port = free_port()
        self.token = self.network.token(f"tcp:{self.port}")
        self.endpoints = {"echo": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://{self.upstream.target}"}}}

    def proxy(self, kind, *lines, **options):
        proxy = self.registry.upstream(kind(self.directory, f"proxy-{len(self.registry.closers)}"))
        return proxy.start(*lines, **options)

    def agent(self, **settings):
        return self.registry.agent(self.network, self.token, self.endpoints, **settings)

    def certificate(self):
        """A certificate for 127.0.0.1 that its holder signed."""
        pem, key = self.directory / "proxy.pem", self.directory / "proxy.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=proxy.test",
             "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", pem])  # fmt: skip
        return pem, key

    def config(self, **settings):
        """Writes a configuration for a command."""
        agent = {"connect_url": self.network.connect_url, "connect_cas": str(self.network.ca), "authtoken": self.token.secret, **settings}
        file = self.directory / "command.yml"
        entries = [{"name": name, **entry} for name, entry in self.endpoints.items()]
        file.write_text(yaml({"version": 1, "agent": agent, "endpoints": entries}) + "\n")
        file.chmod(0o600)
        return file

    def said(self, env=None, **settings):
        """What somebody reads who starts one endpoint by hand and cannot connect; and the exit code."""
        command = [AGENT, "tcp", str(self.upstream.port), "--url", f"tcp://:{self.port}", "--log", "off", "--config", self.config(**settings)]
        done = run(command, check=False, env=env)
        text = done.stderr.decode()
        assert PASSWORD not in text and "s3cret" not in text and self.token.secret not in text
        return done.returncode, text

    def command(self, *arguments, **settings):
        done = run([AGENT, *arguments, "--config", self.config(**settings)], check=False)
        text = (done.stdout + done.stderr).decode()
        assert "s3cret" not in text and self.token.secret not in text
        return done.returncode, text

    def echoes(self):
        """A megabyte there and back, a part at a time."""
        with dial(self.port) as sock:
            for part in blocks(1 << 20):
                for start in range(0, len(part), 64 << 10):
                    chunk = bytes(part[start : start + (64 << 10)])
                    sock.sendall(chunk)
                    if receive(sock, len(chunk)) != chunk:
                        return False
        return True


@pytest.fixture
def site(registry, tmp_path):
    return Site(registry, tmp_path)

def tinyproxy(site):
    return site.proxy(Tinyproxy), "", {}


def tinyproxy_with_login(site):
    return site.proxy(Tinyproxy, f"BasicAuth customer {PASSWORD}"), LOGIN, {}


def squid_in_tls_with_login(site):
    pem, key = site.certificate()
    proxy = site.registry.upstream(Squid(site.directory, "squid"))
    return proxy.start(*proxy.users("customer", PASSWORD), certificate=pem, key=key), LOGIN, {"proxy_cas": str(pem)}


def microsocks(site):
    return site.proxy(Microsocks), "", {}


def microsocks_with_login(site):
    return site.proxy(Microsocks, "-u", "customer", "-P", PASSWORD), LOGIN, {}


def dante(site):
    return site.proxy(Dante), "", {}


@pytest.mark.parametrize("kind", [tinyproxy, tinyproxy_with_login, squid_in_tls_with_login, microsocks, microsocks_with_login, dante])
def test_a_session_goes_through_a_proxy_which_resolves_the_name(site, kind):
    proxy, login, more = kind(site)
    dns = site.registry.upstream(Dns({}))

    agent = site.agent(proxy_url=proxy.url(login), dns_resolver_ips=[dns.address], **more).start()

    assert site.echoes()
    reached = agent.process.wait_for("the network is reached through a proxy").string
    assert proxy.url() in reached and "agent.proxy_url" in reached
    assert PASSWORD not in agent.process.text() and LOGIN not in agent.process.text()
    assert PASSWORD.encode() not in pathlib.Path(f"/proc/{agent.process.pid}/cmdline").read_bytes()
    # The proxy is an address, and what is behind it is a name for the proxy.
    assert dns.asked == []
    ports = connected(agent.process.pid)
    assert proxy.port in ports and site.network.ports["ingress"] not in ports


def connected(pid):
    """The ports that a program is connected to."""
    inodes = set()
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(entry.path))
        except FileNotFoundError:
            pass
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[2].split(":")[1], 16) for row in rows if f"socket:[{row[9]}]" in inodes}


def test_a_session_and_its_streams_outlive_the_proxy(site):
    proxy = site.proxy(Tinyproxy)
    agent = site.agent(proxy_url=proxy.url(), resume_window="120s").start()
    with dial(site.port) as sock:
        sock.sendall(b"before")
        assert receive(sock, 6) == b"before"

        proxy.close()
        agent.process.wait_for("connection lost: the session and its open connections wait")
        agent.process.wait_for("ADIT-1131: proxy not reachable")
        sock.sendall(b" after")
        proxy.run(*proxy.process.child.args)

        agent.process.wait_for("session resumed")
        assert receive(sock, 6) == b" after"


def refuses_without_login(site):
    return {"proxy_url": tinyproxy_with_login(site)[0].url()}


def refuses_another_login(site):
    return {"proxy_url": tinyproxy_with_login(site)[0].url("customer:s3cret-other@")}


def squid_refuses_without_login(site):
    proxy, _, more = squid_in_tls_with_login(site)
    return {"proxy_url": proxy.url(), **more}


def filters(site):
    allowed = site.directory / "allowed"
    allowed.write_text("example.com\n")
    return {"proxy_url": site.proxy(Tinyproxy, f'Filter "{allowed}"', "FilterDefaultDeny Yes").url()}


def squid_forbids(site):
    return {"proxy_url": site.proxy(Squid, "http_access deny all").url()}


def squid_finds_nobody(site):
    return {"proxy_url": site.proxy(Squid).url(), "connect_url": f"127.0.0.1:{free_port()}"}


def cannot_connect(site):
    return {"proxy_url": site.proxy(Tinyproxy).url(), "connect_url": f"127.0.0.1:{free_port()}"}


def socks_wants_a_login(site):
    return {"proxy_url": microsocks_with_login(site)[0].url()}


def socks_refuses_the_login(site):
    return {"proxy_url": microsocks_with_login(site)[0].url("customer:s3cret-other@")}


def socks_forbids(site):
    return {"proxy_url": site.proxy(Dante, "block").url()}


def socks_finds_nobody(site):
    return {"proxy_url": site.proxy(Microsocks).url(), "connect_url": f"127.0.0.1:{free_port()}"}


def nobody_there(_):
    return {"proxy_url": f"http://{LOGIN}127.0.0.1:{free_port()}"}


def socks_asked_for_http(site):
    return {"proxy_url": f"http://127.0.0.1:{site.proxy(Microsocks).port}"}


def tls_asked_for_plain(site):
    pem, key = site.certificate()
    return {"proxy_url": f"http://127.0.0.1:{site.proxy(Squid, certificate=pem, key=key).port}"}


def plain_asked_for_tls(site):
    return {"proxy_url": f"https://127.0.0.1:{site.proxy(Tinyproxy).port}"}


def untrusted(site):
    pem, key = site.certificate()
    return {"proxy_url": site.proxy(Squid, certificate=pem, key=key).url(), "proxy_cas": str(site.network.ca)}


def never_answers(site):
    silent = socket.create_server(("127.0.0.1", 0))
    site.registry.upstream(silent)
    return {"proxy_url": f"http://127.0.0.1:{silent.getsockname()[1]}"}


@pytest.mark.parametrize(
    "kind, code, seen, remedy",
    [
        (nobody_there, "ADIT-1131", "it cannot be reached: 127.0.0.1:", "agent.proxy_url to none"),
        (refuses_without_login, "ADIT-1132", "it wants a user and a password; it offers Basic", "http://user:password@host:port"),
        (squid_refuses_without_login, "ADIT-1132", "it wants a user and a password; it offers Basic", "http://user:password@host:port"),
        (socks_wants_a_login, "ADIT-1132", "it wants a user and a password", "http://user:password@host:port"),
        (refuses_another_login, "ADIT-1133", "it does not take the user or password", "Check user and password"),
        (socks_refuses_the_login, "ADIT-1133", "it does not take the user or password", "Check user and password"),
        (filters, "ADIT-1134", "its rules forbid it: 403 Filtered", "adit firewall"),
        (squid_forbids, "ADIT-1134", "its rules forbid it: 403 Forbidden", "adit firewall"),
        (socks_forbids, "ADIT-1134", "SOCKS reply 2, not allowed by its rules", "adit firewall"),
        (squid_finds_nobody, "ADIT-1135", "it cannot reach the destination: 503 Service Unavailable", "Check host and port"),
        (socks_finds_nobody, "ADIT-1135", "SOCKS reply 5, connection refused", "Check host and port"),
        (cannot_connect, "ADIT-1136", "it refused: 500 Unable to connect", "proxy's log"),
        (tls_asked_for_plain, "ADIT-1139", "the connection to it failed: connection reset", "Check scheme"),
        (untrusted, "ADIT-1138", "not trusted: it was issued by \"CN=proxy.test\"", "agent.proxy_cas"),
        (plain_asked_for_tls, "ADIT-1139", "it did not answer in time", "Check scheme"),
        (socks_asked_for_http, "ADIT-1137", "it speaks SOCKS", "Check scheme"),
        (never_answers, "ADIT-1139", "it did not answer in time", "proxy's log"),
    ],
)
def test_each_refusal_of_a_proxy_is_told_with_what_to_do(site, kind, code, seen, remedy):
    settings = kind(site)

    exit_code, text = site.said(**settings)

    assert exit_code == 5
    assert text.startswith(f"{code}: ") and seen in text and remedy in text, text


def test_the_proxy_of_the_environment_is_used_unless_the_network_is_excepted(site):
    # A name that only this proxy knows.
    proxy = site.registry.upstream(Squid(site.directory, "squid")).start(hosts=[("127.0.0.1", "node.test")])
    settings = {"connect_url": f"node.test:{site.network.ports['ingress']}", "server_name": "localhost"}
    environment = {"HTTPS_PROXY": proxy.url(), "NO_PROXY": "example.com,127.0.0.0/8"}
    agent = site.agent(**settings)

    agent.spawn(env=environment)
    agent.wait_bound()

    assert site.echoes()
    assert "HTTPS_PROXY" in agent.process.wait_for("the network is reached through a proxy").string
    agent.stop()
    for environment in ({"HTTPS_PROXY": proxy.url(), "no_proxy": ".test"}, {"all_proxy": proxy.url(), "NO_PROXY": "node.test:1,*"}):
        dns = site.registry.upstream(Dns({}))
        exit_code, text = site.said(env=environment, dns_resolver_ips=[dns.address], **settings)
        assert (exit_code, text[:9]) == (5, "ADIT-1101"), text
        assert "node.test does not exist" in text
    exit_code, text = site.said(env={"HTTPS_PROXY": f"http://{LOGIN}bad host:1"})
    assert exit_code == 3 and text.startswith("HTTPS_PROXY: not a proxy's URL"), text


def test_an_inspecting_proxy_is_told_by_its_issuer_and_works_once_its_root_is_trusted(site):
    proxy = site.registry.upstream(Mitmproxy(site.directory, "mitmproxy")).start(site.network.ca)

    exit_code, text = site.said(proxy_url=proxy.url())

    assert exit_code == 5
    assert text.startswith('ADIT-1105: network\'s certificate not trusted: it was issued by "CN=mitmproxy'), text
    assert re.search("SHA-256 fingerprint ([0-9A-F]{2}:){31}[0-9A-F]{2}", text), text
    for remedy in ("may be inspecting", "trust its root", "bypass rule", "where nothing inspects"):
        assert remedy in text, text
    site.agent(proxy_url=proxy.url(), connect_cas=str(proxy.root)).start()
    assert site.echoes()


def test_an_inspector_that_lets_the_network_pass_needs_no_trust(site):
    proxy = site.registry.upstream(Mitmproxy(site.directory, "mitmproxy")).start(site.network.ca, "--ignore-hosts", r"^localhost:")

    site.agent(proxy_url=proxy.url()).start()

    assert site.echoes()


def test_a_name_is_resolved_anew_at_each_attempt_by_the_servers_that_are_named(site):
    dns = site.registry.upstream(Dns({}))
    silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    silent.bind(("127.0.0.1", 0))
    site.registry.upstream(silent)
    servers = [f"127.0.0.1:{silent.getsockname()[1]}", dns.address]
    agent = site.agent(connect_url=f"node.test:{site.network.ports['ingress']}", server_name="localhost", dns_resolver_ips=servers)
    agent.spawn()

    agent.process.wait_for("ADIT-1101.*node.test does not exist")
    dns.answers["node.test"] = ["127.0.0.9"]  # nobody listens there
    agent.process.wait_for("ADIT-1102.*127.0.0.9")
    dns.answers["node.test"] = ["127.0.0.9", "127.0.0.1"]
    dns.truncated = True
    agent.wait_bound(deadline=60)

    assert site.echoes()
    assert {(transport, kind) for transport, name, kind in dns.asked if name == "node.test"} == {("udp", 1), ("udp", 28), ("tcp", 1), ("tcp", 28)}


def test_the_name_of_a_proxy_is_resolved_by_the_servers_that_are_named(site):
    dns = site.registry.upstream(Dns({"proxy.test": ["127.0.0.1"]}))
    proxy = site.proxy(Tinyproxy)

    site.agent(proxy_url=f"http://proxy.test:{proxy.port}", dns_resolver_ips=[dns.address]).start()

    assert site.echoes()
    assert {name for _, name, _ in dns.asked} == {"proxy.test"}


def test_diagnose_says_of_each_step_what_it_found_how_long_it_took_and_what_to_do(site):
    proxy = site.proxy(Tinyproxy, f"BasicAuth customer {PASSWORD}")
    report = site.directory / "report.json"

    exit_code, text = site.command("diagnose", "--write", str(report), proxy_url=proxy.url(LOGIN))

    assert exit_code == 0, text
    found = json.loads(report.read_text())
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    results = {check["check"]: check["result"] for check in found["checks"]}
    assert results == {
        "authtoken": "ok", "dns": "skipped", "tcp": "ok", "proxy": "ok", "tls": "ok", "protocol": "ok", "crl": "ok", "clock": "ok", "upstream": "ok",
    }
    assert found["proxy"] == {"url": proxy.url(), "from": "agent.proxy_url"}
    assert all(check["took_ms"] > 0 for check in found["checks"] if check["check"] in ("tcp", "proxy", "tls", "upstream"))
    clock = next(check for check in found["checks"] if check["check"] == "clock")
    assert "was made at" in clock["found"] and "what the network shows is good until" in clock["found"]
    assert "s3cret" not in report.read_text() and site.token.secret not in report.read_text()
    assert f"ok       proxy      {site.network.connect_url}" in text
    protocol = next(check for check in found["checks"] if check["check"] == "protocol")
    assert protocol["found"] == "it speaks version 1; nothing was said about who asks"


def test_diagnose_is_no_failure_of_anybody_at_the_network_however_often(site):
    asked = 'adit_ingress_errors_total{reason="asked"}'
    before = site.network.process.text().count("an agent was refused")

    for _ in range(3):
        exit_code, text = site.command("diagnose")
        assert exit_code == 0 and "ok       protocol" in text, text
    exit_code, text = site.command("diagnose", authtoken="adit_" + "a" * 16 + "_" + "b" * 52 + "_" + "c" * 8)
    assert exit_code == 0, "a token that is good for nothing is not shown"

    wait_until(lambda: site.network.metric(asked) == 4, "each was counted as a question", deadline=60)
    counted = [line for line in site.network.metrics().splitlines() if line.startswith(("adit_refused_total", "adit_limits_total"))]
    assert all(line.endswith(" 0") for line in counted), counted
    assert site.network.process.text().count("an agent was refused") == before


@pytest.mark.parametrize("answer", [lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n", lambda heard: heard, lambda _: b""], ids=["http", "echo", "leaves"])
def test_diagnose_tells_what_only_agrees_on_the_protocol_s_name_from_a_network(site, answer):
    pem, key = site.certificate()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    context.set_alpn_protocols(["adit/1"])

    def serve(sock):
        with context.wrap_socket(sock, server_side=True) as tls:
            tls.sendall(answer(tls.recv(4_096)))

    server = site.registry.upstream(RawUpstream(serve))

    exit_code, text = site.command("diagnose", "--json", connect_url=f"127.0.0.1:{server.port}", connect_cas=str(pem), crl="off")

    found = {check["check"]: check for check in json.loads(text)["checks"]}
    assert (exit_code, found["tls"]["result"], found["protocol"]["code"]) == (5, "ok", "ADIT-1109"), text
    assert "was asked in it" in found["protocol"]["error"] and "ends TLS itself" in found["protocol"]["remedy"]


def test_diagnose_names_what_fails_and_ends_with_its_exit_code(site):
    site.endpoints["gone"] = {"url": f"tcp://:{free_port()}", "upstream": {"url": f"tcp://127.0.0.1:{free_port()}"}}
    exit_code, text = site.command("diagnose", "--json")
    found = json.loads(text)
    failed = [(check["check"], check["code"]) for check in found["checks"] if check["result"] == "failed"]
    assert (exit_code, failed, found["result"]) == (1, [("upstream", "ADIT-1201")], "failed")

    exit_code, text = site.command("diagnose", "--json", connect_cas="host", proxy_url="none")
    found = json.loads(text)
    failed = {check["check"]: check for check in found["checks"] if check["result"] == "failed"}
    assert exit_code == 5 and failed["tls"]["code"] == "ADIT-1105", text
    assert "trust its root" in failed["tls"]["remedy"]
    assert {check["check"]: check["result"] for check in found["checks"]}["protocol"] == "skipped"

    exit_code, text = site.command("diagnose", connect_url=f"127.0.0.1:{site.upstream.port}")
    assert exit_code == 5 and "failed   tls" in text or "failed   protocol" in text, text


def test_firewall_lists_names_addresses_and_ports(site):
    proxy = site.proxy(Tinyproxy)
    dns = site.registry.upstream(Dns({"node.test": ["192.0.2.7", "2001:db8::7"]}))

    exit_code, text = site.command("firewall", "--json", connect_url="node.test:4443", dns_resolver_ips=[dns.address])
    rules = json.loads(text)
    assert exit_code == 0 and rules["inbound"] == []
    network = next(rule for rule in rules["outbound"] if rule["purpose"] == "network")
    assert (network["host"], network["port"], network["transport"], network["from"]) == ("node.test", 4443, "tcp", "agent")
    assert network["addresses"] == ["192.0.2.7", "2001:db8::7"]

    exit_code, text = site.command("firewall", proxy_url=proxy.url())
    assert exit_code == 0
    assert f"  agent tcp 127.0.0.1:{proxy.port}  proxy\n" in text
    assert f"  proxy tcp localhost:{site.network.ports['ingress']}  network\n" in text
    assert f"  agent tcp {site.upstream.target}  upstream of echo\n" in text
    assert "To open, inwards: nothing." in text

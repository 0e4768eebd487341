"""Revocation lists and releases go the way that sessions go: through real proxies, and nobody is asked past them."""

import json
import os
import subprocess

import pytest

from harness.authority import Authority
from harness.clients import dial, receive
from harness.deployment import AGENT, yaml
from harness.lists import Lists
from harness.ports import free_port
from harness.process import run
from harness.proxies import Dns, Microsocks, Squid, Tinyproxy
from harness.raw_upstream import RawUpstream, echo
from harness.releases import NEW, OLD, Releases

PASSWORD = "s3cretpass"
LOGIN = "customer:s3cret%70ass@"


class Site:
    """A network whose certificate names a list, a place of releases, and an agent that reaches both and the network by one way."""

    def __init__(self, registry, tmp_path):
        self.registry, self.directory = registry, tmp_path
        self.ours = Authority(tmp_path, "ours")
        self.lists = registry.upstream(Lists())
        self.lists.give("/list", self.ours.list(tmp_path / "list.pem").read_bytes())
        self.network = registry.network(ingress=self.ours.serve("network", f"{self.lists.url}/list")).start()
        self.upstream = registry.upstream(RawUpstream(echo))
        self.port = free_port()
        self.token = self.network.token(f"tcp:{self.port}")
        self.endpoints = {"echo": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://{self.upstream.target}"}}}
        self.ingress = self.network.ports["ingress"]
        self.state = tmp_path / "state"

    def proxy(self, kind, *lines, **options):
        proxy = self.registry.upstream(kind(self.directory, f"proxy-{len(self.registry.closers)}"))
        return proxy.start(*lines, **options)

    def agent(self, **settings):
        return self.registry.agent(self.network, self.token, self.endpoints, connect_cas=str(self.ours.pem), **settings)

    def command(self, *arguments, program=AGENT, env=None, **settings):
        agent = {"connect_url": self.network.connect_url, "connect_cas": str(self.ours.pem), "authtoken": self.token.secret, **settings}
        file = self.directory / "command.yml"
        entries = [{"name": name, **entry} for name, entry in self.endpoints.items()]
        file.write_text(yaml({"version": 1, "agent": agent, "endpoints": entries}) + "\n")
        file.chmod(0o600)
        environment = {**os.environ, "XDG_STATE_HOME": str(self.state), **(env or {})}
        done = subprocess.run([program, *arguments, "--config", file], capture_output=True, text=True, timeout=180, env=environment)
        text = done.stdout + done.stderr
        assert "s3cret" not in text and self.token.secret not in text
        return done.returncode, text

    def carries(self):
        with dial(self.port) as sock:
            sock.sendall(b"ping")
            return receive(sock, 4) == b"ping"


@pytest.fixture
def site(registry, tmp_path):
    return Site(registry, tmp_path)


def tinyproxy(site):
    """It gives CONNECT to TLS alone, as most do: what is not TLS has to be asked of it itself."""
    return site.proxy(Tinyproxy, f"BasicAuth customer {PASSWORD}", f"ConnectPort {site.ingress}"), {}


def squid_in_tls(site):
    pem, key = site.directory / "proxy.pem", site.directory / "proxy.key"
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=proxy.test",
         "-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", pem])  # fmt: skip
    proxy = site.registry.upstream(Squid(site.directory, "squid"))
    rules = [f"acl lists port {site.lists.port}", "acl asks method CONNECT", "http_access deny asks lists"]
    return proxy.start(*proxy.users("customer", PASSWORD), *rules, certificate=pem, key=key), {"proxy_cas": str(pem)}


def microsocks(site):
    return site.proxy(Microsocks, "-u", "customer", "-P", PASSWORD), {}


KINDS = [tinyproxy, squid_in_tls, microsocks]


@pytest.mark.parametrize("kind", KINDS)
def test_a_revocation_list_is_fetched_through_the_proxy_and_by_nobody_else(site, kind):
    proxy, more = kind(site)

    agent = site.agent(proxy_url=proxy.url(LOGIN), crl_refresh="1s", **more).start()

    agent.process.wait_for(f"a newer revocation list is in force.*{site.lists.url}/list through {proxy.url()}")
    assert site.carries()
    # Again while it runs, revoked by what came through the proxy.
    site.ours.revoke("network")
    site.lists.give("/list", site.ours.list(site.directory / "new.pem").read_bytes())
    agent.process.wait_for("ADIT-1111: network's certificate was revoked", deadline=60)
    assert len(site.lists.asked) >= 2 and "adit" not in site.lists.askers, site.lists.askers
    assert PASSWORD not in agent.process.text() and "s3cret" not in agent.process.text()


def test_the_name_of_a_list_is_resolved_by_the_proxy_and_what_is_excepted_is_asked_directly(site):
    proxy = site.registry.upstream(Squid(site.directory, "squid")).start(hosts=[("127.0.0.1", "lists.test")])
    dns = site.registry.upstream(Dns({"lists.test": ["127.0.0.1"]}))
    url = f"http://lists.test:{site.lists.port}/list"
    settings = {"proxy_url": proxy.url(), "crl_url": url, "dns_resolver_ips": [dns.address]}

    agent = site.agent(**settings).start()
    agent.process.wait_for(f"a newer revocation list is in force.*{url} through {proxy.url()}")
    assert dns.asked == [] and site.lists.askers and "adit" not in site.lists.askers
    agent.stop()

    site.lists.askers.clear()
    other = site.registry.agent(site.network, site.token, site.endpoints, name="other", connect_cas=str(site.ours.pem), **settings)
    other.spawn(env={"NO_PROXY": f"lists.test:{site.lists.port}"})
    other.wait_bound()
    other.process.wait_for(f"a newer revocation list is in force.*{url}\"")
    assert site.lists.askers and set(site.lists.askers) == {"adit"}
    # By the servers that are named, as for the network: this machine's own do not know it.
    assert {name for _, name, _ in dns.asked} == {"lists.test"}


def wants_a_login(site):
    return site.proxy(Tinyproxy, f"BasicAuth customer {PASSWORD}").url()


def refuses_the_login(site):
    proxy = site.registry.upstream(Squid(site.directory, "squid"))
    return proxy.start(*proxy.users("customer", PASSWORD)).url("customer:s3cret-other@")


def says_401(site):
    """What some say to a password that is wrong, a server could have said as well."""
    return site.proxy(Tinyproxy, f"BasicAuth customer {PASSWORD}").url("customer:s3cret-other@")


def socks_wants_a_login(site):
    return site.proxy(Microsocks, "-u", "customer", "-P", PASSWORD).url()


def forbids(site):
    return site.proxy(Squid, "http_access deny all").url()


def nobody_there(_):
    return f"http://{LOGIN}127.0.0.1:{free_port()}"


@pytest.mark.parametrize(
    "kind, of_list, of_releases",
    [
        (wants_a_login, "ADIT-1132: proxy wants credentials: it wants a user and a password; it offers Basic", None),
        (refuses_the_login, "ADIT-1133: proxy does not take the credentials", None),
        (says_401, "the answer is 401", "ADIT-1133: proxy does not take the credentials"),
        (socks_wants_a_login, "ADIT-1132: proxy wants credentials", None),
        (forbids, "the answer is 403", "ADIT-1134: proxy's rules forbid"),
        (nobody_there, "ADIT-1131: proxy not reachable: it cannot be reached: 127.0.0.1:", None),
    ],
)
def test_what_a_proxy_refuses_is_told_with_the_proxy_and_the_step(site, kind, of_list, of_releases):
    proxy = kind(site)
    place = proxy.replace(LOGIN, "").replace("customer:s3cret-other@", "")
    releases = site.registry.upstream(Releases(site.directory / "releases"))
    # The network itself is reached without.
    env, settings = {"NO_PROXY": f"localhost:{site.ingress}"}, {"proxy_url": proxy, "update": releases.settings()}

    tcp = ["tcp", str(site.upstream.port), "--url", f"tcp://:{site.port}", "--log", "off"]
    exit_code, text = site.command(*tcp, env=env, **settings)
    assert (exit_code, text[:9]) == (5, "ADIT-1121") and f"{site.lists.url}/list through {place}: {of_list}" in text, text

    exit_code, text = site.command("update", "--check", env=env, **settings)
    assert exit_code == 5 and "ADIT-1032: " in text, text
    assert f"{releases.url}/stable.json through {place}: {of_releases or of_list}" in text, text
    assert site.lists.asked == [] and releases.asked == []


@pytest.mark.parametrize("kind", KINDS)
def test_releases_are_looked_for_through_the_proxy_and_by_nobody_else(site, kind):
    proxy, more = kind(site)
    releases = site.registry.upstream(Releases(site.directory / "releases"))
    if kind is tinyproxy:
        proxy.close()
        config = proxy.directory / "tinyproxy.conf"
        config.write_text(config.read_text() + f"ConnectPort {releases.port}\n")
        proxy.run(*proxy.process.child.args)
    releases.publish(b"not a program")
    settings = {"proxy_url": proxy.url(LOGIN), "update": releases.settings(), **more}

    exit_code, text = site.command("update", "--check", "--output", "json", **settings)

    assert exit_code == 0 and json.loads(text)["offered"] == "9.9.9", text
    assert releases.asked == ["/stable.json", "/stable.json.minisig"]
    assert "adit" not in releases.askers, releases.askers

    exit_code, text = site.command("update", "--check", env={"NO_PROXY": f"localhost:{releases.port}"}, **settings)
    assert exit_code == 0 and releases.askers[2:] == ["adit", "adit"], (text, releases.askers)


def test_a_release_is_taken_through_the_proxy_of_the_environment(site):
    """The proxy of all programs, which the agent uses for what is not on this machine: the releases' name is known to the proxy alone."""
    proxy = site.registry.upstream(Squid(site.directory, "squid")).start(hosts=[("127.0.0.1", "releases.test")])
    releases = site.registry.upstream(Releases(site.directory / "releases", host="releases.test"))
    program = site.directory / "bin" / "adit"
    program.parent.mkdir()
    run(["strip", "-o", program, AGENT.resolve()])
    releases.publish(program.read_bytes().replace(OLD, NEW))

    for name in ("HTTPS_PROXY", "all_proxy"):
        exit_code, text = site.command("update", "--check", program=program, env={name: proxy.url()}, update=releases.settings())
        assert exit_code == 0 and "version 9.9.9 is there" in text, text
    exit_code, text = site.command("update", program=program, env={"HTTPS_PROXY": proxy.url()}, update=releases.settings())

    assert exit_code == 0 and "version 9.9.9 is in the place of 0.1.0" in text, text
    assert "adit" not in releases.askers, releases.askers
    assert json.loads(run([program, "version", "--output", "json"]).stdout)["version"] == "9.9.9"
    # Without the proxy nobody knows the name.
    exit_code, text = site.command("update", "--check", program=program, env={"HTTPS_PROXY": proxy.url(), "no_proxy": ".test"}, update=releases.settings())
    assert exit_code == 5 and "ADIT-1032" in text and " through " not in text, text


def test_it_is_told_what_goes_through_the_proxy(site):
    proxy, more = tinyproxy(site)
    releases = site.registry.upstream(Releases(site.directory / "releases"))
    releases.publish(b"not a program")
    url = f"{site.lists.url}/list"
    settings = {"proxy_url": proxy.url(LOGIN), "crl_url": url, "update": releases.settings()}

    _, text = site.command("firewall", **settings)
    for line in [
        f"agent tcp 127.0.0.1:{proxy.port}  proxy",
        f"proxy tcp localhost:{site.ingress}  network",
        f"proxy tcp localhost:{site.lists.port}  revocation list",
        f"proxy tcp localhost:{releases.port}  releases",
    ]:
        assert f"  {line}\n" in text, text
    _, text = site.command("explain", **settings)
    for part in [f"through {proxy.url()} (agent.proxy_url)", f"fetched from {url} through {proxy.url()}", f"{releases.url} through {proxy.url()}, by the vendor's signature"]:
        assert part in text, text

    exit_code, text = site.command("diagnose", "--json", **settings)
    checks = {check["check"]: check for check in json.loads(text)["checks"]}
    assert f"from {url} through {proxy.url()}" in checks["crl"]["found"], text
    # CONNECT to the releases' port is not allowed there: the agent does its work without.
    assert checks["releases"]["result"] == "warning" and checks["releases"]["code"] == "ADIT-1032", text
    assert "ADIT-1134" in checks["releases"]["error"] and exit_code == 0, text
    exit_code, text = site.command("diagnose", "--json", env={"NO_PROXY": f"localhost:{releases.port}"}, **settings)
    found = {check["check"]: check for check in json.loads(text)["checks"]}["releases"]
    assert (exit_code, found["subject"], found["found"]) == (0, releases.url, "version 9.9.9 is signed as the newest"), text
    assert not (site.state / "adit" / "update.json").exists(), "nothing is remembered of a look"

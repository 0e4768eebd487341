"""`adit prove`: where TLS of callers ends, as a caller sees it."""

import json

import pytest

from harness.certificates import Authority, OwnTls
from harness.deployment import AGENT, DOMAIN, NETWORK
from harness.http_upstream import HttpUpstream
from harness.process import run
from harness.proxies import Microsocks, Tinyproxy
from harness.raw_upstream import RawUpstream


def name(label):
    return f"{label}.{DOMAIN}"


class Site:
    """A network, and an agent whose endpoints end TLS at each of the places where it can."""

    def __init__(self, registry):
        root = registry.root
        self.network = registry.network().start()
        http = registry.upstream(HttpUpstream())
        self.tls, self.other = OwnTls(made(root / "own"), name("sealed")), OwnTls(made(root / "other"), name("sealed"))
        sealed = registry.upstream(RawUpstream(self.tls.serve))
        self.impostor = registry.upstream(RawUpstream(self.other.serve))
        asks = {"mutual_tls_certificate_authorities": [str(Authority(root, "ours").pem)]}
        endpoints = {
            "crm": {"url": f"https://{name('crm')}", "upstream": {"url": http.url}, "agent_tls_termination": {}},
            "callers": {"url": f"https://{name('callers')}", "upstream": {"url": http.url}, "agent_tls_termination": {"max_version": "1.2", **asks}},
            "sealed": {"url": f"tls://{name('sealed')}", "upstream": {"url": f"tcp://{sealed.target}"}},
            "open": {"url": f"https://{name('open')}", "upstream": {"url": http.url}},
        }
        self.agent = registry.agent(self.network, self.network.token(f"*.{DOMAIN}"), endpoints)
        for label in ("crm", "callers"):
            asked, answer = root / f"{label}.csr", root / label
            self.adit("certificate", "request", label, "--out", asked)
            run([NETWORK, "ca", "issue", "--config", self.network.config, "--csr", asked, "--out", answer])
            self.adit("certificate", "install", label, f"{answer}.pem")
        self.agent.start()

    def adit(self, *arguments, check=True, env=None):
        return run([AGENT, *arguments, "--config", self.agent.config], check=check, env=env)

    def prove(self, url, *options, port=None, to=None, env=None):
        to = to or f"127.0.0.1:{port or self.network.ports['https']}"
        done = self.adit("prove", url, "--connect-to", to, "--callers-ca", self.network.ca, "--output", "json", *options, check=False, env=env)
        return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr.decode()


def made(folder):
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    from conftest import Registry

    registry = Registry(tmp_path_factory.mktemp("prove"))
    try:
        yield Site(registry)
    finally:
        registry.close()
    assert list(registry.faults()) == []


@pytest.mark.parametrize("label", ["crm", "callers"])
def test_tls_that_ends_at_the_agent_is_shown_to_whether_callers_need_certificates_or_not(site, label):
    code, told = site.prove(f"https://{name(label)}/some/path")

    assert (code, told["proven"], told["tls_end"], told["trusted"]) == (0, True, "agent", True)
    assert told["served"]["key_sha256"] == told["ours"]["key_sha256"]
    assert told["ours"]["from"].endswith(f"{label}.pem") and told["verdict"] == "TLS of callers ends at this agent"
    # What no probe shows is said, for people and programs.
    text = site.adit("prove", f"https://{name(label)}", "--connect-to", f"127.0.0.1:{site.network.ports['https']}").stdout.decode()
    assert all(limit in text for limit in told["limits"]) and "Ask from other places" in text


def test_tls_that_ends_at_the_upstream_is_shown_to_and_callers_may_not_trust_it(site):
    code, told = site.prove(f"tls://{name('sealed')}")

    assert (code, told["proven"], told["tls_end"], told["trusted"]) == (0, True, "upstream", False)
    assert told["ours"]["from"].startswith("the upstream 127.0.0.1:") and "invalid peer certificate" in told["distrust"]


def test_tls_that_the_network_ends_is_not_ours_and_neither_is_a_certificate_of_others(site):
    code, told = site.prove(f"https://{name('open')}")
    assert (code, told["proven"], told["tls_end"], told["ours"]) == (1, False, "network", None)
    assert told["verdict"].startswith("ADIT-1408") and "the vendor reads what callers send" in told["verdict"]

    # Somebody serves the same name with a certificate of their own.
    for url in (f"tls://{name('sealed')}", f"https://{name('crm')}"):
        code, told = site.prove(url, port=site.impostor.port)
        assert (code, told["proven"], told["trusted"]) == (1, False, False)
        assert "another certificate is served, whose key is not held here" in told["verdict"]
        assert told["served"]["key_sha256"] != told["ours"]["key_sha256"]


def test_what_cannot_be_asked_or_is_not_known_has_its_own_exit_code(site):
    code, told = site.prove(f"https://{name('crm')}", port=1)
    assert code == 5 and "ADIT-1413" in told and "127.0.0.1:1" in told
    assert site.prove("https://other.example.com")[0] == 3
    assert site.prove(f"http://{name('open')}")[0] == 2


def test_what_answers_otherwise_or_has_no_address_is_told_with_what_to_do(site, registry):
    url = f"https://{name('crm')}"
    plain = registry.upstream(RawUpstream(lambda sock: sock.recv(4096) and sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    code, told = site.prove(url, port=plain.port)
    assert code == 5 and "ADIT-1410" in told and "it answers in plain HTTP" in told and "Check the port" in told
    garbage = registry.upstream(RawUpstream(lambda sock: sock.recv(4096) and sock.sendall(b"220 mail.example ESMTP\r\n")))
    code, told = site.prove(url, port=garbage.port)
    assert code == 5 and "ADIT-1410" in told and 'begins with "220 mail.example ESMTP"' in told
    code, told = site.prove(url, to="nowhere.invalid:443")
    assert code == 5 and "ADIT-1409" in told and "nowhere.invalid" in told and "callers' DNS" in told


@pytest.mark.parametrize("make", [Tinyproxy, Microsocks])
def test_it_calls_through_the_proxy_that_the_agent_has_and_not_where_none_is_for_it(site, registry, make):
    proxy = registry.upstream(make(registry.root, "proxy").start())
    env = {"HTTPS_PROXY": proxy.url(), "NO_PROXY": ""}
    # What is on this machine is called without it, by what all programs share.
    code, told = site.prove(f"https://{name('crm')}", env=env)
    assert (code, told["proven"]) == (0, True) and "through" not in told["address"]

    # By a name that this machine does not have and the proxy resolves: nobody called but the proxy.
    env = {"ADIT_PROXY_URL": proxy.url()}
    code, told = site.prove(f"https://{name('crm')}", env=env)
    assert (code, told["proven"]) == (0, True)
    assert told["address"] == f"127.0.0.1:{site.network.ports['https']} through {proxy.url()}"
    code, told = site.prove(f"https://{name('crm')}", env={**env, "NO_PROXY": "127.0.0.1"})
    assert (code, told["proven"]) == (0, True) and "through" not in told["address"]

    # What the proxy says is the proxy's.
    code, told = site.prove(f"https://{name('crm')}", port=1, env=env)
    assert code == 5 and "ADIT-113" in told and proxy.url() in told
    proxy.close()
    code, told = site.prove(f"https://{name('crm')}", env=env)
    assert code == 5 and "ADIT-1131" in told

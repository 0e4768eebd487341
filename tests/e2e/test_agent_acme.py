"""Certificates that the agent orders for itself, through the tunnel, from pebble: issued, renewed, refused, and kept while the authority is away."""

import base64
import json
import signal
import socket
import ssl

import pytest

from harness.acme import Pebble
from harness.certificates import Authority
from harness.deployment import AGENT, DOMAIN
from harness.http_upstream import HttpUpstream
from harness.process import run, wait_until
from harness.proxies import Tinyproxy

PATIENCE = 60  # the authority asks in its own time, and is asked again ever more rarely


def name(label):
    return f"{label}.{DOMAIN}"


class Site:
    """A network, an authority that comes in by its public port, and an agent that is yet to be started."""

    def __init__(self, registry, ca=None, policy=None, **acme):
        self.registry, self.root = registry, registry.root
        self.network = registry.network().start()
        self.upstream = registry.upstream(HttpUpstream())
        self.pebble = Pebble(registry.root / "ca", self.network.ports, **(ca or {}))
        registry.upstream(self.pebble)
        self.gate = self.pebble.start().gate
        self.acme = {"directory": self.gate.directory, "accept_terms": True, "contact": ["ops@e2e.test"], "ca": str(self.pebble.root), **acme}
        self.token = self.network.token(f"*.{DOMAIN}")
        self.trust = self.pebble.issuer()
        self.policy = policy

    def agent(self, *labels, ends=None, scheme="https", settings=None):
        """Starts the agent with these endpoints; `ends` is for the section `agent_tls_termination` of each."""
        endpoints = {
            label: {"url": f"{scheme}://{name(label)}", "upstream": {"url": self.upstream.url}, "agent_tls_termination": {"acme": self.acme, **(ends or {})}}
            for label in labels
        }
        return self.start(endpoints, **(settings or {}))

    def start(self, endpoints, **settings):
        self.agent = self.registry.agent(self.network, self.token, endpoints, **settings)
        if self.policy is not None:
            self.allow(self.policy)
        return self.agent.start()

    def allow(self, text):
        path = self.agent.directory / "policy.yml"
        draft = path.with_suffix(".draft")
        draft.write_text(f"{text}files: ['{self.root}']\n")  # the roots of the authority are there
        draft.chmod(0o600)
        draft.rename(path)

    @property
    def kept(self):
        return self.agent.state / "adit" / "acme"

    def adit(self, *arguments, check=True):
        done = run([AGENT, *arguments, "--config", self.agent.config], check=check, env={"XDG_STATE_HOME": str(self.agent.state)})
        return done.stdout.decode() + done.stderr.decode()

    def status(self, label, **wanted):
        """What `adit status` says of a certificate, once it says what is wanted."""

        def find():
            endpoints = json.loads(self.adit("status", "--output", "json"))["endpoints"]
            status = next(endpoint["certificate"] for endpoint in endpoints if endpoint["name"] == label)
            return status if status and wanted.items() <= status.items() else None

        return wait_until(find, f"{label} with {wanted}", PATIENCE)

    def said(self, message, label, after=0):
        """Waits for a line of the agent's log about an endpoint."""

        def find():
            for line in self.agent.process.lines[after:]:
                entry = parsed(line)
                if entry.get("message") == message and entry.get("name") == label:
                    return entry

        return wait_until(find, f"{message} ({label})", PATIENCE)

    def ordered(self, label, after=0):
        return self.said("a certificate was ordered", label, after)

    def audited(self, kind):
        log = self.agent.state / "adit" / "audit"
        records = [parsed(line) for file in sorted(log.glob("*.jsonl")) for line in file.read_text().splitlines()]
        return [record for record in records if record.get("kind") == kind]

    def connect(self, label, trust=None, alpn=None):
        context = trust or self.trust
        if alpn:
            context.set_alpn_protocols(alpn)
        return context.wrap_socket(socket.create_connection(("127.0.0.1", self.network.ports["https"]), timeout=20), server_hostname=name(label))

    def shown(self, label):
        """The certificate that a caller is shown, be it over or not."""
        with self.connect(label, ssl._create_unverified_context()) as secure:
            return secure.getpeercert(True)

    def get(self, label, trust=None):
        """The status of a request by a caller that checks the certificate against the authority."""
        with self.connect(label, trust) as secure:
            return ask(secure, label)

    def refused(self, label, alpn=None):
        """The alert that a caller gets."""
        with pytest.raises(ssl.SSLError) as refused:
            self.connect(label, ssl._create_unverified_context(), alpn).close()
        return str(refused.value).upper().replace(" ", "_")


def ask(secure, label):
    secure.sendall(f"GET /hello HTTP/1.1\r\nHost: {name(label)}\r\n\r\n".encode())
    answer = b""
    while b"hello from upstream" not in answer:
        piece = secure.recv(4_096)
        assert piece, answer
        answer += piece
    return int(answer.split(b" ")[1])


def parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return {}


def test_certificates_are_issued_through_the_tunnel_and_their_keys_are_nowhere_else(registry):
    site = Site(registry)
    callers = Authority(site.root, "callers")
    ends = {"acme": site.acme}
    site.start({
        "crm": {"url": f"https://{name('crm')}", "upstream": {"url": site.upstream.url}, "agent_tls_termination": ends},
        "sealed": {"url": f"tls://{name('sealed')}", "upstream": {"url": site.upstream.url}, "agent_tls_termination": ends},
        "callers": {"url": f"https://{name('callers')}", "upstream": {"url": site.upstream.url}, "agent_tls_termination": {**ends, "mutual_tls_certificate_authorities": [str(callers.pem)]}},
    })  # fmt: skip
    for label in ("crm", "sealed", "callers"):
        site.ordered(label)
        assert label == "callers" or site.get(label) == 200
    # Whoever comes with a certificate is let in, and the authority was let in without.
    certificate = callers.issue("ada")
    trust = site.pebble.issuer()
    trust.load_cert_chain(certificate[1], certificate[3])
    assert site.get("callers", trust) == 200
    assert site.agent.process.text().count("a challenge of the authority was answered") >= 3
    assert site.gate.paths.count("/sign-me-up") - nonces(site) <= 1, "one account for all"

    # The files are for the agent's user alone, and what is secret in them was sent to nobody.
    files = sorted(path.name for path in site.kept.iterdir())
    account = next(file for file in files if file.startswith("account-"))
    assert files == sorted([account] + [f"{name(label)}.{end}" for label in ("crm", "sealed", "callers") for end in ("json", "pem")])
    assert site.kept.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in site.kept.iterdir())
    secrets = [scalar_of(path.read_text()) for path in site.kept.glob("*.pem")]
    secrets.append(scalar_of_account(json.loads((site.kept / account).read_text())))
    assert len(set(secrets)) == 4, "each has its own key"
    texts = [path.read_bytes() for folder in (site.network.directory, site.root / "ca") for path in folder.rglob("*") if path.is_file()]
    texts += [site.agent.process.text().encode(), site.network.process.text().encode(), *site.gate.sent]
    for secret in secrets:
        for form in (secret, secret.hex().encode(), base64.b64encode(secret)[:40], base64.urlsafe_b64encode(secret)[:40]):
            assert not any(form in text for text in texts)

    # The authority's question is answered while it asks, and never again.
    for label in ("crm", "sealed", "callers"):
        for alpn in (["acme-tls/1"], ["acme-tls/1", "http/1.1"]):
            assert "NO_APPLICATION_PROTOCOL" in site.refused(label, alpn)
    # A new start orders nothing.
    orders, shown = list(site.gate.orders), site.shown("crm")
    assert site.agent.stop() == 0
    site.agent.start()
    site.said("certificate in use", "crm")
    assert site.shown("crm") == shown and site.gate.orders == orders


def nonces(site):
    """How often a new account was asked for again because the authority refused the nonce."""
    return sum(1 for sent in site.gate.sent if b'"termsOfServiceAgreed":true' in sent) - 1


def scalar_of(pem):
    """The secret number in a key of P-256, which stands behind its own tag in PKCS #8."""
    body = pem.split("-----BEGIN PRIVATE KEY-----")[1].split("-----END")[0]
    return scalar(base64.b64decode("".join(body.split())))


def scalar_of_account(account):
    text = account["key_pkcs8"]
    return scalar(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def scalar(der):
    at = der.index(b"\x02\x01\x01\x04\x20") + 5
    return der[at : at + 32]


def test_before_the_first_certificate_callers_get_an_alert_and_everybody_is_told_why(registry):
    site = Site(registry)
    site.gate.down = True
    site.agent("crm")
    failed = site.said("a certificate cannot be ordered: callers are refused", "crm")
    assert "ADIT-1011" in failed["error"] and failed["level"].lower() == "error" and 30 <= failed["wait"] <= 60

    assert "INTERNAL_ERROR" in site.refused("crm")
    assert "NO_APPLICATION_PROTOCOL" in site.refused("crm", ["acme-tls/1"])
    wait_until(lambda: "ADIT-1014" in site.agent.process.text(), "the log says why callers are refused")
    status = site.status("crm", failures=1)
    assert status["valid_until"] is None and "ADIT-1011" in status["problem"]
    assert "none yet" in site.adit("status") and "ADIT-1011" in site.adit("diagnose", check=False)
    assert site.upstream.requests == []

    site.gate.down = False
    assert "within a second" in site.adit("certificate", "renew", "crm")
    site.ordered("crm")
    assert site.get("crm") == 200
    assert site.status("crm", failures=0, problem=None)["valid_until"]
    assert "the directory takes orders" in site.adit("diagnose", check=False)


def test_a_certificate_is_renewed_in_time_and_what_is_open_goes_on(registry):
    site = Site(registry, ca={"certificateValidityPeriod": 24})
    site.agent("crm")
    site.ordered("crm")
    before, key = site.shown("crm"), scalar_of((site.kept / f"{name('crm')}.pem").read_text())
    with site.connect("crm", ssl._create_unverified_context()) as open_before:
        assert ask(open_before, "crm") == 200
        wait_until(lambda: site.shown("crm") != before, "another certificate", PATIENCE)
        assert ask(open_before, "crm") == 200, "connections go on"
    assert scalar_of((site.kept / f"{name('crm')}.pem").read_text()) != key, "with a key of its own"


def test_a_renewal_that_fails_keeps_the_old_certificate_and_says_so_everywhere(registry):
    site = Site(registry)
    site.agent("crm", "other")
    site.ordered("crm"), site.ordered("other")
    before, orders = site.shown("crm"), site.gate.orders.count(name("crm"))

    # The name leads elsewhere: the authority refuses.
    site.pebble.dns_set("add-a", host=f"{name('crm')}.", addresses=["127.0.0.77"])
    site.adit("certificate", "renew", "crm")
    failed = site.said("a certificate cannot be renewed: the last one stays", "crm")
    assert "ADIT-1012" in failed["error"] and failed["remedy"] and failed["until"]
    status = site.status("crm", failures=1)
    assert status["problem"].startswith("ADIT-1012") and status["valid_until"]
    assert site.shown("crm") == before and site.get("crm") == 200
    assert site.gate.orders.count(name("crm")) == orders + 1

    # The directory is away.
    site.gate.down, mark = True, site.agent.process.mark()
    site.adit("certificate", "renew", "other")
    failed = site.said("a certificate cannot be renewed: the last one stays", "other", mark)
    assert "ADIT-1011" in failed["error"] and site.get("other") == 200
    # What failed is not tried again by a new start.
    orders = list(site.gate.orders)
    assert site.agent.stop() == 0
    site.agent.start()
    site.status("crm", failures=1)
    assert site.shown("crm") == before and site.gate.orders == orders

    # The network is away: nothing is ordered that nobody could answer for, and then it is.
    site.gate.down = False
    site.pebble.dns_set("clear-a", host=f"{name('crm')}.")
    site.network.process.signal(signal.SIGKILL)
    wait_until(lambda: not json.loads(site.adit("status", "--output", "json"))["session"]["online"], "the network is gone")
    site.adit("certificate", "renew", "crm")
    wait_until(lambda: not (site.kept / f"{name('crm')}.renew").exists(), "the wish is taken")
    assert site.gate.orders == orders
    site.network.start()
    site.ordered("crm")
    assert site.shown("crm") != before


def test_what_the_authority_refuses_or_limits_is_told_and_nobody_gets_around_it(registry):
    bad, limited = name("bad"), name("limited")
    site = Site(registry, ca={"domainBlocklist": [bad]})
    site.gate.limited[limited] = "7200"
    site.agent("bad", "limited", "good")

    assert "rejectedIdentifier" in site.said("a certificate cannot be ordered: callers are refused", "bad")["error"]
    told = site.said("a certificate cannot be ordered: callers are refused", "limited")
    assert "ADIT-1013" in told["error"] and told["wait"] == 7200, "as long as the authority says"
    site.ordered("good")
    assert site.get("good") == 200

    site.gate.limited.clear()
    assert site.agent.stop() == 0
    site.agent.start()
    site.adit("certificate", "renew", "limited")
    site.said("a new certificate is asked for by hand, and the authority has said until when to wait", "limited")
    site.adit("certificate", "renew", "bad")
    wait_until(lambda: site.gate.orders.count(bad) == 2, "what only failed is tried at once", PATIENCE)
    assert site.gate.orders.count(limited) == 1


def test_an_account_is_bound_to_one_that_the_authority_knows_and_a_wrong_key_is_refused(registry):
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    file = registry.root / "eab.key"
    file.write_text("A" * 64 + "\n")
    file.chmod(0o600)
    eab = {"key_id": "kid-1", "hmac_key_file": str(file)}
    site = Site(registry, ca={"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": key}}, eab=eab)
    site.agent("crm")
    assert "ADIT-1012" in site.said("a certificate cannot be ordered: callers are refused", "crm")["error"]
    assert site.gate.orders == []

    file.write_text(key + "\n")
    file.chmod(0o644)
    assert "chmod 600" in site.adit("config", "check", check=False)
    file.chmod(0o600)
    site.adit("certificate", "renew", "crm")
    site.ordered("crm")
    assert site.get("crm") == 200
    assert not any(key.encode() in text for text in [*site.gate.sent, site.agent.process.text().encode()])


def test_a_certificate_is_renewed_when_the_authority_says_so_and_the_order_names_what_it_replaces(registry):
    site = Site(registry)
    site.gate.windows = [(-7200, -3600), (30 * 86400, 31 * 86400)]
    site.agent("crm")

    wait_until(lambda: site.gate.orders == [name("crm")] * 2, "the window is over: the certificate is replaced at once", PATIENCE)
    wait_until(lambda: len(site.gate.asked) == 2, "the authority is asked about the new one", PATIENCE)
    assert site.gate.replaced == [None, site.gate.asked[0]]
    assert site.said("the authority says when the certificate is to be renewed", "crm")["why"] == "https://ca.example/why"
    assert site.gate.orders == [name("crm")] * 2, "the second window is to come"


RULE = "version: 1\nallow: [{name: all, endpoints: ['*'], hosts: [127.0.0.1], ports: [1-65535], protocols: [http]}]\n"


def test_nobody_is_asked_whom_the_customers_policy_does_not_have(registry):
    site = Site(registry, policy=RULE)
    site.agent("crm")
    host = site.gate.directory.removeprefix("https://").removesuffix("/dir")
    barred = site.said("no certificate is ordered: the policy does not allow it", "crm")
    assert "ADIT-1402" in barred["error"] and f"acme.hosts does not have {host}" in barred["error"]
    wait_until(lambda: "ADIT-1402" in (site.status("crm")["problem"] or ""), "status says why nothing is ordered")
    assert f"not ordered from {site.gate.directory}" in site.adit("explain")
    assert "ADIT-1402" in site.adit("diagnose", check=False)
    assert site.gate.paths == [], "not even the directory"
    firewall = json.loads(site.adit("firewall", "--json"))["outbound"]
    assert [rule["purpose"] for rule in firewall if f"{rule['host']}:{rule['port']}" == host] == ["certificate authority"]
    assert site.adit("config", "check")

    site.allow(f"{RULE}acme: {{ hosts: ['{host}'] }}\n")
    site.ordered("crm")
    assert site.get("crm") == 200 and site.status("crm", problem=None)["valid_until"]
    assert f"ordered by the agent from {site.gate.directory}" in site.adit("explain")
    # The customer's log has it, and whom it was answered for.
    wanted = [("not ordered", name("crm")), ("ordered", name("crm"))]
    wait_until(lambda: [(record["event"], record["host"]) for record in site.audited("certificate")] == wanted, "both are written down")
    answered = wait_until(lambda: [record for record in site.audited("end") if "certificate authority" in record.get("detail", "")], "its question too")
    assert all(record["ending"] == "not carried" for record in answered)


def test_the_authority_is_asked_through_the_proxy_where_there_is_one(registry):
    site = Site(registry)
    proxy = registry.upstream(Tinyproxy(site.root, "tinyproxy").start())
    site.agent("crm", settings={"proxy_url": proxy.url()})
    site.ordered("crm")
    assert site.get("crm") == 200
    port = site.gate.directory.split(":")[2].split("/")[0]
    assert f"CONNECT localhost:{port}" in proxy.process.text()
    firewall = json.loads(site.adit("firewall", "--json"))["outbound"]
    assert [rule["from"] for rule in firewall if rule["purpose"] == "certificate authority"] == ["proxy"]

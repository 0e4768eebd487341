"""Certificates that the network orders for itself, from pebble: each challenge, each refusal, renewal."""

import json
import signal
import ssl
import urllib.error
import urllib.request

import pytest

from harness.acme import Issuing
from harness.deployment import DOMAIN, NETWORK
from harness.http_upstream import HttpUpstream
from harness.process import Timeout, run, wait_until

CRM = f"crm.{DOMAIN}"


@pytest.fixture
def issuing(registry):
    """Makes a network with a CA, and agents that bind names."""

    def make(*names, **settings):
        made = Issuing(registry, **settings)
        made.upstream = registry.upstream(HttpUpstream())
        made.token = made.network.token(DOMAIN, f"*.{DOMAIN}")
        if names:
            bind(made, *names)
        return made

    return make


def bind(issuing, *names):
    endpoints = {f"e{at}": {"url": f"https://{name}", "upstream": {"url": issuing.upstream.url}} for at, name in enumerate(names)}
    return issuing.registry.agent(issuing.network, issuing.token, endpoints, name=f"agent-{len(issuing.registry.agents)}").start()


def names_of(certificate):
    return [name for _, name in certificate["subjectAltName"]]


def failing(issuing):
    return issuing.network.metric("adit_certificate_orders_failing")


def said(issuing, message, name=None, after=0):
    """Waits for a line of the log about a name; returns it as data."""

    def find():
        for line in issuing.network.process.lines[after:]:
            if message in line:
                entry = json.loads(line)
                if name is None or fields(entry).get("name") == name:
                    return entry

    try:
        return wait_until(find, f"{message} ({name})", 60)  # the CA asks in its own time, and is asked again ever more rarely
    except Timeout as timeout:
        raise Timeout(f"{timeout}:\n{issuing.network.process.text()[-3000:]}") from None


def fields(entry):
    return entry.get("fields", entry)


def test_http_01_orders_when_a_name_is_bound_a_first_caller_waits_and_a_restart_orders_nothing(issuing):
    made = issuing(acme={"challenges": ["http-01"]})
    bind(made, CRM)

    # The caller comes while the order is under way, or after: it is served either way.
    shown = made.certificate(CRM)
    assert names_of(shown) == [CRM]
    assert made.gate.orders == [CRM]
    assert fields(said(made, "a challenge of the CA is answered"))["challenge"] == "http-01"
    url = f"http://127.0.0.1:{made.network.ports['http']}/.well-known/acme-challenge/x"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(urllib.request.Request(url, headers={"Host": CRM}), timeout=10)
    assert refused.value.code == 404, "nothing is answered when no order is open"

    # Nobody holds these: no order, and a clear refusal.
    for name in (f"made-up.{DOMAIN}", "made-up.example", f"{CRM}.internal"):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME|unrecognized name"):
            made.connect(name, ssl._create_unverified_context())
    assert made.gate.orders == [CRM]

    assert made.network.stop_and_start()
    assert made.certificate(CRM) == shown
    assert made.gate.orders == [CRM], "what is kept is not ordered again"
    listed = run([NETWORK, "certificates", "list", "--config", made.network.config]).stdout.decode()
    assert "acme" in listed and CRM in listed


def test_tls_alpn_01_shows_its_certificate_to_the_ca_alone(issuing):
    made = issuing(CRM, acme={"challenges": ["tls-alpn-01"]})

    assert fields(said(made, "a challenge of the CA is answered"))["challenge"] == "tls-alpn-01"
    said(made, "a certificate was ordered", CRM)
    assert names_of(made.certificate(CRM)) == [CRM]
    context = ssl._create_unverified_context()
    context.set_alpn_protocols(["acme-tls/1"])
    with pytest.raises(ssl.SSLError):
        made.connect(CRM, context)


def test_dns_01_gets_a_wildcard_and_takes_its_record_away(issuing):
    made = issuing(acme=lambda pebble: {"dns_hook": pebble.hook()})
    agent = bind(made, f"*.wild.{DOMAIN}")

    for name in (f"a.wild.{DOMAIN}", f"b.wild.{DOMAIN}"):
        assert names_of(made.certificate(name)) == [f"*.wild.{DOMAIN}"]
    bind(made, f"c.wild.{DOMAIN}")
    assert names_of(made.certificate(f"c.wild.{DOMAIN}")) == [f"*.wild.{DOMAIN}"]
    assert made.gate.orders == [f"*.wild.{DOMAIN}"], "one order for all of them"
    deeds = [line.split(" ")[:2] for line in made.pebble.hooked()]
    record = f"_acme-challenge.wild.{DOMAIN}"
    assert deeds == [["present", record], ["cleanup", record]]
    assert agent.process.alive()


def test_an_account_of_the_ca_is_bound_to_ours_by_its_key_and_a_wrong_key_is_refused(issuing):
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    ca = {"externalAccountBindingRequired": True, "externalAccountMACKeys": {"kid-1": key}}

    def acme(pebble):
        path = pebble.directory / "eab.key"
        path.write_text("A" * 64 + "\n")
        path.chmod(0o600)
        return {"eab": {"key_id": "kid-1", "hmac_key_file": str(path)}}

    made = issuing(CRM, acme=acme, pebble=ca)
    wrong = said(made, "a certificate cannot be ordered", CRM)
    assert "urn:ietf:params:acme:error" in fields(wrong)["error"] and made.gate.orders == []
    with pytest.raises(ssl.SSLError):
        made.certificate(CRM)

    (made.pebble.directory / "eab.key").write_text(key + "\n")
    made.network.stop_and_start()
    wait_until(lambda: failing(made) == 1, "what failed is remembered")  # once the agent is back
    made.network.process.signal(signal.SIGHUP)  # tries what failed at once
    said(made, "a certificate was ordered", CRM)
    assert names_of(made.certificate(CRM)) == [CRM]


def test_what_the_ca_refuses_waits_and_harms_nobody_else(issuing):
    bad, elsewhere, limited, good = (f"{name}.{DOMAIN}" for name in ("bad", "elsewhere", "limited", "good"))
    made = issuing(pebble={"domainBlocklist": [bad]})
    made.gate.limited[limited] = "7200"
    made.pebble.dns_set("add-a", host=f"{elsewhere}.", addresses=["127.0.0.77"])
    bind(made, good)
    assert names_of(made.certificate(good)) == [good]

    bind(made, bad, elsewhere)
    assert "rejectedIdentifier" in fields(said(made, "cannot be ordered", bad))["error"]
    assert "connection" in fields(said(made, "cannot be ordered", elsewhere))["error"].lower()
    wait_until(lambda: failing(made) == 2, "two names that fail")
    bind(made, limited)
    assert fields(said(made, "cannot be ordered", limited))["wait"] == 7200, "as long as the CA says"
    assert made.network.metric('adit_certificate_orders_total{reason="limited"}') == 1
    for name in (bad, elsewhere, limited):
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME|unrecognized name"):
            made.connect(name, ssl._create_unverified_context())
    assert names_of(made.certificate(good)) == [good]
    assert sorted(made.gate.orders) == sorted([good, bad, elsewhere, limited]), "each was tried once"

    # The operator corrects a name: a restart tries nothing before its time, the signal what the CA does not limit.
    made.pebble.dns_set("clear-a", host=f"{elsewhere}.")
    made.network.stop_and_start()
    wait_until(lambda: failing(made) == 3, "what failed is remembered")
    made.gate.limited.clear()
    made.network.process.signal(signal.SIGHUP)
    said(made, "cannot be ordered", bad)
    assert made.gate.orders.count(limited) == 1, "nothing is a way around a limit"


def test_renewal_in_time_and_a_renewal_that_fails_keeps_the_old_certificate_and_says_so(issuing):
    stuck, fine = f"stuck.{DOMAIN}", f"fine.{DOMAIN}"
    made = issuing(stuck, fine, pebble={"certificateValidityPeriod": 12})
    before = {name: made.shown(name) for name in (stuck, fine)}
    made.pebble.dns_set("add-a", host=f"{stuck}.", addresses=["127.0.0.77"])

    wait_until(lambda: made.shown(fine) != before[fine], "a new certificate of the name that leads here")
    assert said(made, "a certificate cannot be renewed", stuck)["level"] in ("warn", "error")

    assert made.shown(stuck) == before[stuck], "the old one stays"
    assert failing(made) == 1
    wait_until(lambda: made.network.metric("adit_certificates_ending") >= 1, "the end is seen coming")
    assert said(made, "a certificate comes to its end", stuck)["level"] in ("warn", "error")


def test_a_certificate_is_renewed_when_the_ca_says_so_and_the_order_names_what_it_replaces(issuing):
    made = issuing()
    made.gate.windows = [(-7200, -3600), (30 * 86400, 31 * 86400)]
    bind(made, CRM)

    wait_until(lambda: made.gate.orders == [CRM, CRM], "the CA's window is over: the certificate is replaced at once")
    wait_until(lambda: len(made.gate.asked) == 2, "the CA is asked about the new one")
    assert made.gate.replaced == [None, made.gate.asked[0]]
    advice = fields(said(made, "the CA says when a certificate is to be renewed", CRM))
    assert advice["why"] == "https://ca.example/why"
    wait_until(lambda: made.network.metric('adit_certificate_orders_total{reason="renewed"}') == 1, "it was renewed")
    assert names_of(made.certificate(CRM)) == [CRM]
    assert made.gate.orders == [CRM, CRM], "the second window is to come"


def test_a_ca_that_is_down_is_asked_again_and_agents_are_served_meanwhile(issuing):
    made = issuing()
    made.gate.down = True
    bind(made, CRM, f"b.{DOMAIN}", f"c.{DOMAIN}")

    wait_until(lambda: failing(made) >= 1, "what failed is remembered")
    assert made.network.metric('adit_certificate_orders_total{reason="unreachable"}') <= 3
    assert made.gate.orders == []
    made.gate.down = False
    made.network.process.signal(signal.SIGHUP)

    for name in (CRM, f"b.{DOMAIN}", f"c.{DOMAIN}"):
        said(made, "a certificate was ordered", name)
        assert names_of(made.certificate(name)) == [name]

"""Certificates of callers that are revoked: lists of openssl and of the private CA, from files and fetched."""

import datetime
import http.client
import http.server
import json
import threading

import pytest

from harness.authority import Authority
from harness.clients import curl, dial, tls_context
from harness.deployment import DOMAIN, NETWORK
from harness.http_upstream import HttpUpstream
from harness.process import run, wait_until

PAST = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"]


def name(label):
    return f"{label}.{DOMAIN}"


def deploy(registry, labels, **settings):
    """A network with an endpoint of each label that verifies callers, and an upstream behind them."""
    items = [
        {"url": f"https://{name(label)}", "account": "e2e", "type": "agent", "client_certificates": {"mode": "verify", **more}}
        for label, more in labels.items()
    ]  # fmt: skip
    network = registry.network(endpoints=items, **settings).start()
    upstream = registry.upstream(HttpUpstream())
    endpoints = {f"e{at}": {"url": f"https://{name(label)}", "upstream": {"url": upstream.url}} for at, label in enumerate(labels)}
    registry.agent(network, network.token(f"*.{DOMAIN}"), endpoints).start()
    return network


def ask(network, label, *options):
    return curl(network, f"https://{name(label)}/hello", *options).status


def refused(network, label, reason, *options):
    counter = f'adit_tls_failures_total{{reason="{reason}"}}'
    before = network.metric(counter)
    with pytest.raises(AssertionError, match="curl: \\((35|52|55|56)\\)"):
        ask(network, label, *options)
    wait_until(lambda: network.metric(counter) > before, f"the refusal is counted as {reason}")


def reads(network, reason):
    return network.metric(f'adit_revocation_reads_total{{reason="{reason}"}}')


def test_a_caller_that_is_revoked_is_refused_and_loses_its_standing_connection(registry):
    ours = Authority(registry.root, "ours")
    alice, bob = ours.issue("alice"), ours.issue("bob")
    listed = ours.list(ours.directory / "list.pem")
    network = deploy(registry, {"crm": {"ca": str(ours.pem), "crl": str(listed)}})
    assert ask(network, "crm", *alice) == ask(network, "crm", *bob) == 200

    context = tls_context(network)
    context.load_cert_chain(alice[1], alice[3])
    standing = http.client.HTTPSConnection(name("crm"), network.ports["https"], context=context)
    standing.sock = context.wrap_socket(dial(network.ports["https"]), server_hostname=name("crm"))

    def status():
        standing.request("GET", "/hello", headers={"Host": name("crm")})
        answer = standing.getresponse()
        answer.read()
        return answer.status

    assert status() == 200
    ours.revoke("alice")
    ours.list(listed)
    wait_until(lambda: reads(network, "taken") >= 1, "the list is read")
    assert status() == 421, "the connection is to be made anew"
    refused(network, "crm", "revoked", *alice)
    assert ask(network, "crm", *bob) == 200

    # What is put in its place and cannot be used, or is older, lets nobody in again.
    good = listed.read_bytes()
    listed.write_bytes(good[: len(good) // 2])
    wait_until(lambda: reads(network, "refused") >= 1, "half of a list is refused")
    refused(network, "crm", "revoked", *alice)
    (ours.directory / "crlnumber").write_text("01\n")
    (ours.directory / "index.txt").write_text("")
    ours.list(listed)
    wait_until(lambda: reads(network, "refused") >= 2, "an older list is refused")
    refused(network, "crm", "revoked", *alice)
    assert ask(network, "crm", *bob) == 200
    assert any("older than one that was in force" in line for line in network.process.lines)

    # Nor does a restart: the endpoint is stopped, and says so.
    network.stop_and_start()
    refused(network, "crm", "stopped", *bob)
    network.process.wait_for("the endpoint is stopped")


def test_a_list_that_is_over_refuses_everybody_until_its_successor_and_a_grace_is_the_operators(registry):
    ours, other = Authority(registry.root, "ours"), Authority(registry.root, "other")
    alice = ours.issue("alice")
    over = ours.list(registry.root / "over.pem", *PAST)
    foreign = other.list(registry.root / "foreign.pem")
    both = [str(ours.pem), str(other.pem)]
    network = deploy(registry, {
        "over": {"ca": str(ours.pem), "crl": str(over)},
        "unknown": {"ca": both, "crl": str(foreign)},
        "wrong": {"ca": str(ours.pem), "crl": str(foreign)},
    })  # fmt: skip
    refused(network, "over", "revocation_unknown", *alice)
    refused(network, "unknown", "revocation_unknown", *alice)
    refused(network, "wrong", "stopped", *alice)
    network.process.wait_for("certificates of its issuer are refused")
    wait_until(lambda: network.metric('adit_revocation_lists{state="over"}') == 1, "the list is shown to be over")
    run(["openssl", "crl", "-in", over, "-noout", "-CAfile", ours.pem])  # it is a list, and signed

    der = registry.root / "new.der"
    new = ours.list(registry.root / "new.pem")
    run(["openssl", "crl", "-in", new, "-outform", "DER", "-out", der])
    der.rename(over)
    wait_until(lambda: reads(network, "taken") >= 1, "the successor is read, DER as well as PEM")
    assert ask(network, "over", *alice) == 200


def ago(days):
    return (datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=days)).strftime("%Y%m%d%H%M%SZ")


def test_a_grace_keeps_a_list_that_is_over_and_says_so(registry):
    ours = Authority(registry.root, "ours")
    alice, bob = ours.issue("alice"), ours.issue("bob")
    ours.revoke("bob")
    late = ours.list(registry.root / "late.pem", "-crl_lastupdate", ago(days=3), "-crl_nextupdate", ago(days=1))
    network = deploy(registry, {"crm": {"ca": str(ours.pem), "crl": str(late), "crl_grace": "48h"}})
    assert ask(network, "crm", *alice) == 200
    refused(network, "crm", "revoked", *bob)
    network.process.wait_for("it is believed for crl_grace")
    wait_until(lambda: network.metric('adit_revocation_lists{state="grace"}') == 1, "the list is shown to be over")


class Lists(http.server.BaseHTTPRequestHandler):
    """Serves what `answers` has for a path: a status and a body."""

    answers = {}

    def do_GET(self):
        status, body = self.answers.get(self.path, (404, b""))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/good")
        self.end_headers()
        try:
            for _ in range(100 if self.path == "/huge" else 1):
                self.wfile.write(body)
        except OSError:
            pass  # who has enough does not listen to the end

    def log_message(self, *_):
        pass


def test_lists_are_fetched_where_policies_may_go_and_the_last_good_one_outlasts_server_and_restart(registry):
    ours, other = Authority(registry.root, "ours"), Authority(registry.root, "other")
    alice, bob = ours.issue("alice"), ours.issue("bob")
    ours.revoke("bob")
    good = ours.list(registry.root / "good.pem").read_bytes()
    foreign = other.list(registry.root / "foreign.pem").read_bytes()
    Lists.answers = {"/good": (200, good), "/redirect": (302, b""), "/cut": (200, good[:-100]), "/foreign": (200, foreign), "/huge": (200, bytes(1 << 20))}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Lists)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    bad = ["redirect", "cut", "foreign", "huge", "missing"]
    labels = {label: {"ca": str(ours.pem), "crl_url": f"{url}/{label}"} for label in ["good", *bad]}
    labels["private"] = {"ca": str(ours.pem), "crl_url": "http://169.254.169.254/list"}
    network = deploy(registry, labels, policy_fetch={"allow": ["127.0.0.1"]})

    wait_until(lambda: reads(network, "fetched") == 1 and reads(network, "unreachable") == len(bad) + 1, "each is asked once")
    wait_until(lambda: reads(network, "taken") == 1, "one is of use")
    assert ask(network, "good", *alice) == 200
    refused(network, "good", "revoked", *bob)
    for label in [*bad, "private"]:
        refused(network, label, "revocation_unknown", *alice)
    assert network.metric('adit_revocation_lists{state="missing"}') == len(bad) + 1

    server.shutdown()
    server.server_close()
    network.stop_and_start()
    wait_until(lambda: reads(network, "unreachable") >= 1, "the server is gone")
    wait_until(lambda: ask(network, "good", *alice) == 200, "the agent is back, and the last list is in force")
    refused(network, "good", "revoked", *bob)


def test_the_private_ca_issues_for_callers_and_revokes_what_it_issued(registry):
    folder = registry.root / "callers"

    def ca(*arguments):
        return run([NETWORK, "ca", arguments[0], "--dir", folder, *arguments[1:]]).stdout.decode().splitlines()

    ca("init", "--name", "Callers")
    for who in ("alice", "bob"):
        ca("issue", "--client", "--out", folder / who, who, f"{who}@example.com", f"spiffe://example.com/{who}")
    [listed] = ca("crl")
    shown = {who: ["--cert", folder / f"{who}.pem", "--key", folder / f"{who}.key"] for who in ("alice", "bob")}
    network = deploy(registry, {"crm": {"ca": str(folder / "ca.pem"), "crl": listed}})
    assert ask(network, "crm", *shown["alice"]) == ask(network, "crm", *shown["bob"]) == 200

    [again] = ca("revoke", folder / "alice.pem", "--reason", "key-compromise")
    assert again == listed
    wait_until(lambda: reads(network, "taken") >= 1, "the list is read")
    refused(network, "crm", "revoked", *shown["alice"])
    assert ask(network, "crm", *shown["bob"]) == 200

    # Programs of others read it as we do.
    verify = ["openssl", "verify", "-crl_check", "-CAfile", folder / "ca.pem", "-CRLfile", listed]
    assert b"certificate revoked" in run([*verify, folder / "alice.pem"], check=False).stderr
    assert run([*verify, folder / "bob.pem"]).stdout.decode().strip().endswith("OK")
    text = run(["openssl", "crl", "-in", listed, "-noout", "-text"]).stdout.decode()
    assert "Key Compromise" in text and "X509v3 CRL Number: \n                2" in text
    issued = {entry["names"][0]: entry for entry in json.loads("\n".join(ca("list", "--output", "json")))}
    assert issued["alice"]["revoked"]["reason"] == "key-compromise" and "revoked" not in issued["bob"]

    # By its serial number, in any spelling; and what was never issued is not revoked.
    serial = issued["bob"]["serial"].upper()
    ca("revoke", ":".join(serial[at : at + 2] for at in range(0, len(serial), 2)))
    wait_until(lambda: reads(network, "taken") >= 2, "the list is read")
    refused(network, "crm", "revoked", *shown["bob"])
    done = run([NETWORK, "ca", "revoke", "--dir", folder, "abcdef"], check=False)
    assert done.returncode == 1 and b"ADIT-1506" in done.stderr

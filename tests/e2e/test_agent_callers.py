"""Callers that show a certificate to the agent: revocation lists of openssl."""

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

"""`terminate-tls` as policies of ngrok have it: versions, callers' certificates and a certificate of the policy, by rule."""

import signal

import pytest

from harness.authority import Authority
from harness.certificates import OwnTls
from harness.clients import curl
from harness.deployment import DOMAIN, yaml
from harness.http_upstream import HttpUpstream
from harness.process import run

REFUSED = "curl: \\((35|52|55|56)\\)"


def name(label):
    return f"{label}.{DOMAIN}"


def terminate(expression=None, **config):
    rule = {"actions": [{"type": "terminate-tls", "config": config}]}
    return {"expressions": [expression], **rule} if expression else rule


def deploy(registry, policies):
    network = registry.network()
    endpoints = []
    for label, rules in policies.items():
        path = network.directory / f"{label}.yml"
        path.write_text(yaml({"on_tcp_connect": rules}) + "\n")
        path.chmod(0o600)
        endpoints.append({"url": f"https://{name(label)}", "account": "e2e", "type": "agent", "policy": str(path)})
    network.settings["endpoints"] = endpoints
    network.write_config()
    network.start()
    upstream = registry.upstream(HttpUpstream())
    binds = {f"e{at}": {"url": f"https://{name(label)}", "upstream": {"url": upstream.url}} for at, label in enumerate(policies)}
    registry.agent(network, network.token(f"*.{DOMAIN}"), binds).start()
    return network


def test_rules_choose_by_the_callers_address_and_the_last_one_counts(registry):
    ours = Authority(registry.root, "ours")
    alice = ours.issue("alice")
    authorities = [ours.pem.read_text()]
    network = deploy(registry, {
        "outside": [
            terminate(min_version="1.3"),
            {"actions": [{"type": "restrict-ips", "config": {"allow": ["127.0.0.0/8", "::1/128"]}}]},
            terminate("conn.client_ip.contains(':')", mutual_tls_certificate_authorities=authorities),
        ],
        "strict": [terminate(mutual_tls_certificate_authorities=authorities, mutual_tls_verification_strategy="require-and-verify"), terminate("conn.client_ip == '192.0.2.1'")],
    })  # fmt: skip

    def ask(label, *options, **more):
        return curl(network, f"https://{name(label)}/hello", *options, **more).status

    assert ask("outside", "--tlsv1.3") == 200
    with pytest.raises(AssertionError, match=REFUSED):
        ask("outside", "--tls-max", "1.2")
    with pytest.raises(AssertionError, match=REFUSED):
        ask("outside", address="[::1]")
    assert ask("outside", *alice, address="[::1]") == 200
    with pytest.raises(AssertionError, match=REFUSED):
        ask("strict")
    assert ask("strict", *alice) == 200


def test_a_policy_brings_its_certificate_and_nobody_sees_its_key(registry):
    own = OwnTls(registry.root, name("own"))
    key = (registry.root / "own.key").read_text()
    policy = [terminate(server_certificate=own.certificate.read_text(), server_private_key=key, min_version="1.2")]
    network = deploy(registry, {"own": policy, "plain": [terminate(min_version="1.2")]})

    def shown(label, ca):
        return run(["openssl", "s_client", "-connect", f"127.0.0.1:{network.ports['https']}", "-servername", name(label), "-CAfile", ca, "-verify_return_error"], check=False)

    assert curl(network, f"https://{name('own')}/hello", "--cacert", own.certificate).status == 200
    assert shown("own", network.ca).returncode != 0, "it is not one of the network's"
    assert shown("plain", network.ca).returncode == 0

    # The file of a key that others may read is refused, as every such file; the old policy stays in force.
    path = network.directory / "own.yml"
    path.chmod(0o644)
    path.write_text(path.read_text() + "# changed\n")
    mark = network.process.mark()
    network.process.signal(signal.SIGHUP)
    network.process.wait_for("it holds a private key, and others may read or change it", after=mark)
    assert curl(network, f"https://{name('own')}/hello", "--cacert", own.certificate).status == 200
    secret = key.splitlines()[1]
    assert not any(secret in line for line in network.process.lines)
    assert secret not in network.metrics()

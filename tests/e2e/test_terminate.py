"""`terminate-tls` as policies of ngrok have it: versions, callers' certificates and a certificate of the policy, by rule."""

import hashlib
import os
import signal
import socket
import ssl
import threading

import pytest

from harness.authority import Authority
from harness.certificates import OwnTls
from harness import payload
from harness.clients import curl, dial, receive, tls_context
from harness.deployment import DOMAIN, yaml
from harness.http_upstream import HttpUpstream
from harness.process import run
from harness.raw_upstream import RawUpstream, echo, read_all, reset

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


class Carried:
    """A cloud endpoint `tls://db…` that ends TLS and forwards what is inside to a TCP service, which asks for certificates or not."""

    def __init__(self, registry, serve, url="tcp://db.internal:5432", **config):
        self.name = name("db")
        self.network = registry.network()
        path = self.network.directory / "db.yml"
        forward = {"actions": [{"type": "forward-internal", "config": {"url": url}}]}
        path.write_text(yaml({"on_tcp_connect": [terminate(**config), forward]}) + "\n")
        self.network.settings["endpoints"] = [{"url": f"tls://{self.name}", "account": "e2e", "policy": str(path)}]
        self.network.write_config()
        self.network.start()
        upstream = registry.upstream(RawUpstream(serve))
        urls = {"db": "tcp://db.internal:5432", "secure": "tls://db.internal"}
        binds = {label: {"url": url, "upstream": {"url": f"tcp://{upstream.target}"}} for label, url in urls.items()}
        registry.agent(self.network, self.network.token("*.internal"), binds).start()

    def call(self, context=None):
        context = context or tls_context(self.network)
        return context.wrap_socket(dial(self.network.ports["https"]), server_hostname=self.name, suppress_ragged_eofs=False)


def test_a_cloud_endpoint_ends_tls_and_carries_what_is_inside_both_ways(registry):
    ended = threading.Event()

    def serve(sock):
        octets = receive(sock, total)
        sock.sendall(octets)
        assert sock.recv(1) == b""
        ended.set()

    total = 8 << 20
    site = Carried(registry, serve, min_version="1.3")
    with site.call(tls_context(site.network, "postgresql")) as caller:
        assert (caller.version(), caller.selected_alpn_protocol()) == ("TLSv1.3", None)
        for block in payload.blocks(total):
            caller.sendall(block)
        assert hashlib.sha256(receive(caller, total)).hexdigest() == payload.digest(total)
        caller.unwrap().close()
    assert ended.wait(30), "the end of TLS is the end at the upstream"


def test_tls_that_breaks_off_is_no_end_for_the_upstream(registry):
    seen = []
    broken = threading.Event()

    def serve(sock):
        try:
            sock.sendall(b"hello")
            seen.append(read_all(sock))
        except ConnectionError as error:
            seen.append(error)
        broken.set()

    site = Carried(registry, serve)
    caller = site.call()
    assert receive(caller, 5) == b"hello"
    caller.sendall(b"half")
    socket.socket(fileno=caller.detach()).close()  # no close_notify
    assert broken.wait(30)
    assert isinstance(seen[0], ConnectionError), "it looks complete to the upstream"


def test_an_upstream_that_ends_or_resets_shows_as_that_inside_tls(registry):
    def serve(sock):
        if sock.recv(1) == b"e":
            sock.sendall(b"last words")
        else:
            reset(sock)

    site = Carried(registry, serve)
    with site.call() as caller:
        caller.sendall(b"e")
        assert read_all(caller) == b"last words"
    with site.call() as caller:
        caller.sendall(b"r")
        with socket.socket(fileno=os.dup(caller.fileno())) as below, pytest.raises(ConnectionResetError):
            below.settimeout(30)
            while below.recv(1 << 16):
                pass


def test_what_was_inside_is_not_given_to_an_endpoint_that_expects_tls(registry):
    """Which `config check` cannot see: the rule makes up the endpoint for each caller."""
    accepted = []
    site = Carried(registry, accepted.append, url="tls://${conn.tls.sni.split('.')[0]}.internal")
    with site.call() as caller, pytest.raises((ssl.SSLError, ConnectionError)):
        caller.sendall(b"secret")
        caller.recv(1)
    assert accepted == []


def test_callers_of_a_cloud_endpoint_show_their_certificates_before_a_byte_is_carried(registry):
    ours, theirs = Authority(registry.root, "ours"), Authority(registry.root, "theirs")
    accepted = []

    def serve(sock):
        accepted.append(sock)
        echo(sock)

    site = Carried(registry, serve, mutual_tls_certificate_authorities=[ours.pem.read_text()])

    def ask(authority):
        context = tls_context(site.network)
        if authority:
            _, certificate, _, key = authority.issue("alice")
            context.load_cert_chain(certificate, key)
        with site.call(context) as caller:
            caller.sendall(b"question")
            return receive(caller, 8)

    for authority in (None, theirs):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(authority)
    assert accepted == []
    assert ask(ours) == b"question"

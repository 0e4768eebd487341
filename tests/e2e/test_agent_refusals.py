"""What the agent refuses a network that asks for too much: as that network is told it, and as the customer reads it.

The network is the peer of the conformance suite, which can be made to break the rules; what it is told it prints.
"""

import json
import re
import signal
import socket
import sys

import pytest

from harness.audit import audited
from harness.authority import Authority
from harness.deployment import AGENT, ROOT, yaml
from harness.ports import free_port
from harness.process import Process, run, wait_until

PEER = ROOT / "conformance" / "peer" / "peer.py"
FORBIDDEN, UNSUPPORTED, DISALLOWED, CONFIGURATION, CERTIFICATE = 0x104, 0x10C, 0x111, 0x112, 0x113


class Vendor:
    """A network that says what it is told, and does wrong on demand."""

    def __init__(self, registry, *bugs):
        self.authority = Authority(registry.root, "vendor")
        shown = self.authority.serve("ingress")
        self.port = free_port()
        env = {"ADIT_ROLE": "network", "ADIT_ADDRESS": f"127.0.0.1:{self.port}", "ADIT_CERTIFICATE": shown["certificate"], "ADIT_KEY": shown["key"]}
        argv = [sys.executable, PEER, *[word for bug in bugs for word in ("--bug", bug)]]
        # Its orders come by a pipe that stays open.
        self.process = Process("vendor", ["sh", "-c", 'mkfifo "$0" && exec "$@" 3<>"$0" <"$0"', registry.root / "orders", *argv], env=env)
        self.orders = registry.root / "orders"
        registry.upstream(self)
        self.process.wait_for('"ready"')

    def close(self):
        self.process.kill()

    def order(self, act):
        with self.orders.open("w", encoding="utf-8") as orders:
            orders.write(json.dumps({"act": act}) + "\n")

    def told(self, event, **fields):
        """Waits for what its application is told."""

        def look():
            said = [json.loads(line) for line in self.process.lines if line.startswith("{")]
            fit = [one for one in said if one.get("event") == event and all(one.get(key) == value for key, value in fields.items())]
            return fit[-1] if fit else None

        return wait_until(look, f"{event} {fields} in:\n{self.process.text()[-2000:]}")


class Customer:
    """An agent with a policy that allows both of its endpoints."""

    def __init__(self, registry, vendor, **agent):
        self.folder = registry.root / "customer"
        self.folder.mkdir()
        self.config, self.policy = self.folder / "adit.yml", self.folder / "policy.yml"
        self.agent = {
            "connect_url": f"localhost:{vendor.port}",
            "connect_cas": str(vendor.authority.pem),
            "authtoken": "t0k3n",
            "log": "stderr",
            "log_level": "debug",
            "log_format": "json",
            **agent,
        }
        seal = vendor.authority.serve("sealed", None, "sealed.example")
        self.sealed = {
            "name": "sealed",
            "url": "https://sealed.example",
            "upstream": {"url": "http://localhost:1"},
            "agent_tls_termination": {"server_certificate": seal["certificate"], "server_private_key": seal["key"]},
        }
        self.plain = {"name": "plain", "url": "tcp://:1", "upstream": {"url": "tcp://localhost:1"}}
        self.write([self.sealed, self.plain])
        self.allow(["*"])
        self.env = {"XDG_STATE_HOME": str(self.folder / "state")}
        self.process = Process("customer", [AGENT, "start", "--all", "--config", self.config], cwd=self.folder, env=self.env)
        registry.upstream(self)

    def close(self):
        self.process.kill()

    def write(self, endpoints):
        self.config.write_text(yaml({"version": 1, "agent": self.agent, "endpoints": endpoints}) + "\n")
        self.config.chmod(0o600)

    def allow(self, endpoints, **whole):
        rule = {"name": "all", "endpoints": endpoints, "hosts": ["localhost"], "ports": [1], "protocols": ["http", "tcp"]}
        draft = self.policy.with_suffix(".draft")
        draft.write_text(yaml({"version": 1, "files": [str(self.folder.parent)], **whole, "allow": [rule]}) + "\n")
        draft.chmod(0o600)
        draft.rename(self.policy)

    def adit(self, *arguments):
        return run([AGENT, *arguments, "--config", self.config], env=self.env).stdout.decode()

    def reads(self, message, after=0, **fields):
        """Waits for a line of the log."""

        def look():
            lines = [json.loads(line) for line in self.process.lines[after:] if line.startswith("{")]
            return next((one for one in lines if one["message"] == message and all(one.get(key) == value for key, value in fields.items())), None)

        return wait_until(look, f"{message} {fields} in:\n{self.process.text()[-3000:]}")

    def audited(self, kind, **fields):
        return audited(self.adit, kind, **fields)

    def shown(self, name):
        status = json.loads(self.adit("status", "--output", "json"))
        return next(one for one in status["endpoints"] if one["name"] == name)


@pytest.mark.parametrize("bug", ["ends-tls-at-the-network", "says-nothing-of-tls"])
def test_a_network_that_would_read_what_is_sealed_is_refused(registry, bug):
    vendor = Vendor(registry, bug)
    customer = Customer(registry, vendor)

    told = vendor.told("given_up", code=UNSUPPORTED)
    assert "the network would end TLS of callers elsewhere" in told["text"]

    line = customer.reads("endpoint refused", name="sealed")
    assert "ADIT-1115" in line["error"]
    record = customer.audited("bind", event="refused", endpoint="sealed")
    assert record["decision"] == "refused" and "ADIT-1115" in record["why"]
    shown = wait_until(lambda: customer.shown("sealed")["problem"] and customer.shown("sealed"), "the status to say so")
    assert not shown["bound"] and "ADIT-1115" in shown["problem"]


@pytest.mark.parametrize("configured, whole, why", [
    ({}, {}, "ADIT-1"),
    ({"remote_management": {"stop": True}}, {}, "commands.stop of the policy is not true"),
])  # fmt: skip
def test_a_command_that_is_not_allowed_is_answered_so_and_written_down(registry, configured, whole, why):
    vendor = Vendor(registry)
    customer = Customer(registry, vendor, **configured)
    customer.reads("endpoint bound", name="plain")

    vendor.order({"command": {"command": 1}})

    assert vendor.told("result")["code"] == FORBIDDEN
    line = customer.reads("remote command refused", command="stop")
    assert re.match("ADIT-1[0-9]{3}: ", line["error"])
    record = customer.audited("command", command="stop")
    assert record["decision"] == "refused" and why in record["why"]
    assert customer.process.alive()


def test_what_is_given_up_is_told_with_its_reason_and_each_side_reads_the_same(registry):
    vendor = Vendor(registry)
    customer = Customer(registry, vendor)
    for name in ("sealed", "plain"):
        customer.reads("endpoint bound", name=name)

    def given_up(name, code):
        told = vendor.told("given_up", code=code)
        line = customer.reads("endpoint given up", name=name, told={DISALLOWED: "DISALLOWED", CONFIGURATION: "CONFIGURATION", CERTIFICATE: "CERTIFICATE"}[code])
        assert told["text"] == line["why"]
        record = customer.audited("bind", event="given up", endpoint=name, told=line["told"])
        assert record["why"] == line["why"]
        # Nothing of what is inside is told outside.
        assert "localhost" not in told["text"] and str(customer.folder) not in told["text"]

    customer.allow(["https://*"])
    given_up("plain", DISALLOWED)
    wait_until(lambda: "no rule is for the endpoint" in (customer.shown("plain")["refusal"] or ""), "the status to say so")
    mark = customer.process.mark()
    customer.allow(["*"])
    customer.reads("endpoint bound", after=mark, name="plain")

    termination = {**customer.sealed["agent_tls_termination"], "server_certificate": str(customer.folder / "gone.pem")}
    customer.write([{**customer.sealed, "agent_tls_termination": termination}, customer.plain])
    customer.process.signal(signal.SIGHUP)
    given_up("sealed", CERTIFICATE)
    wait_until(lambda: "gone.pem" in (customer.shown("sealed")["problem"] or ""), "the status to say so")

    mark = customer.process.mark()
    customer.write([customer.sealed, customer.plain])
    customer.process.signal(signal.SIGHUP)
    customer.reads("endpoint bound", after=mark, name="sealed")
    customer.write([customer.plain])
    customer.process.signal(signal.SIGHUP)
    given_up("sealed", CONFIGURATION)


def test_no_file_of_the_host_reaches_the_vendor_by_the_configuration(registry):
    vendor = Vendor(registry)
    customer = Customer(registry, vendor)
    for name in ("sealed", "plain"):
        customer.reads("endpoint bound", name=name)

    # A policy that has the key of the endpoint no more: it is given up at once.
    keys = str(customer.folder)
    shown = [customer.agent["connect_cas"], keys]
    customer.allow(["*"], files=shown)
    line = customer.reads("endpoint given up", name="sealed", told="DISALLOWED")
    told = vendor.told("given_up", code=DISALLOWED)
    assert told["text"] == line["why"] and keys not in told["text"]
    line = customer.reads("endpoint not possible", name="sealed")
    key = customer.sealed["agent_tls_termination"]["server_private_key"]
    assert "ADIT-1412" in line["error"] and "add its path to `files`" in line["remedy"]
    assert customer.audited("bind", event="not asked for", endpoint="sealed")["decision"] == "refused"
    wait_until(lambda: "ADIT-1412" in (customer.shown("sealed")["problem"] or ""), "the status to say so")
    explained = json.loads(customer.adit("explain", "--json"))
    files = {one["path"]: one["allowed"] for one in explained["files"]}
    assert files[customer.agent["connect_cas"]] and not files[key]
    assert f"{key} is not read: {key} is none of the files that the configuration may name" in customer.adit("explain")
    customer.process.kill()

    # The host's own secret as the token: nothing is sent, and everything says why.
    secret = registry.root / "id_ed25519"
    secret.write_text("of-the-host\n")
    secret.chmod(0o600)
    # Of a link in a listed folder it is the customer's word where it leads, unless others may change it.
    shared = customer.folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    (shared / "token").symlink_to(secret)
    sent = len([line for line in vendor.process.lines if '"event"' in line])
    for named in (secret, shared / "token", "../id_ed25519"):
        del_token = {key: value for key, value in customer.agent.items() if key != "authtoken"}
        customer.config.write_text(yaml({"version": 1, "agent": {**del_token, "authtoken_file": str(named)}, "endpoints": [customer.plain]}) + "\n")
        start = run([AGENT, "start", "--all", "--config", customer.config], env=customer.env, check=False)
        said = start.stderr.decode()
        assert start.returncode == 6 and "agent.authtoken_file: ADIT-1412" in said and "files` of the policy" in said, said
        checked = run([AGENT, "config", "check", "--config", customer.config], env=customer.env, check=False)
        assert checked.returncode == 3 and re.search(r"adit.yml:\d+:\d+: agent.authtoken_file: ADIT-1412", checked.stderr.decode()), checked
        assert "of-the-host" not in said
    assert len([line for line in vendor.process.lines if '"event"' in line]) == sent
    assert "why" in customer.audited("configuration", event="not taken")

    # On the customer's own command line it is the customer's word.
    again = Process("again", [AGENT, "start", "--all", "--config", customer.config, "--authtoken-file", secret], cwd=customer.folder, env=customer.env)
    registry.upstream(type("Closing", (), {"close": lambda self: again.kill()})())
    again.wait_for("endpoint bound")


def test_who_asks_a_running_agent_sends_no_file_while_the_policy_cannot_be_read(tmp_path):
    """What the configuration names as the token of the local interface goes to whoever listens there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        config, policy, secret = tmp_path / "adit.yml", tmp_path / "policy.yml", tmp_path / "secret"
        local = {"socket": "off", "address": f"127.0.0.1:{listening.getsockname()[1]}", "token_file": str(secret)}
        config.write_text(yaml({"version": 1, "agent": {"local": local}}) + "\n")
        secret.write_text("s" * 40 + "\n")
        policy.write_text("version: 1\nfoo: 1\n")
        for file in (config, policy, secret):
            file.chmod(0o600)
        env = {"XDG_STATE_HOME": str(tmp_path / "state")}
        for words in (["status"], ["logs"], ["requests", "list"]):
            asked = run([AGENT, *words, "--config", config], env=env, check=False)
            assert asked.returncode == 3 and f"{policy}:2:1" in asked.stderr.decode(), (words, asked)
            with pytest.raises(BlockingIOError):
                listening.accept()

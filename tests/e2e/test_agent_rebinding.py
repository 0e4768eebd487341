"""A DNS server that changes its answer: the address that is dialed is the one that the policy allows, or none."""

import json
import os
import pathlib
import socket
import struct
import threading

import pytest

from harness.deployment import AGENT, yaml
from harness.namespaces import FAR, NEAR, FarAgent, NearNetwork, entered, namespaces, wire
from harness.ports import free_port
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")

NAME = "moving.corp.test"
ALLOWED, ELSEWHERE = "127.0.0.1", "127.0.0.2"


class Dns:
    """Answers every question for an address with the one that it holds at that moment, for no time at all."""

    def __init__(self):
        self.address = ALLOWED
        self.asked = 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 53))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                question, whoever = self.sock.recvfrom(4_096)
            except OSError:
                return
            self.sock.sendto(self._answer(question), whoever)

    def _answer(self, question):
        end = question.index(b"\0", 12) + 5
        (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
        is_address = kind == 1
        self.asked += is_address
        head = question[:2] + struct.pack("!HHHHH", 0x8180, 1, int(is_address), 0, 0)
        record = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 0, 4) + socket.inet_aton(self.address)
        return head + question[12:end] + (record if is_address else b"")

    def close(self):
        self.sock.close()


@pytest.fixture
def resolver():
    """The namespace of the agent asks a server of its own: `ip netns exec` puts these files in the place of the machine's."""
    folder = pathlib.Path("/etc/netns") / FAR
    folder.mkdir(parents=True)
    files = {"resolv.conf": "nameserver 127.0.0.1\noptions attempts:1 timeout:5\n", "nsswitch.conf": "hosts: dns\n", "hosts": "127.0.0.1 localhost\n"}
    for file, text in files.items():
        (folder / file).write_text(text)
    yield
    for file in files:
        (folder / file).unlink()
    folder.rmdir()


def call(port):
    """What an upstream sends back to a caller beside the network; nothing when it is refused."""
    with entered(NEAR):
        sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    with sock:
        try:
            sock.sendall(b"alive")
            return sock.recv(5)
        except ConnectionError:
            return b""


def test_a_name_that_is_rebound_to_an_address_that_the_policy_does_not_have_is_refused_and_both_sides_are_told(tmp_path, resolver):
    with namespaces() as devices, wire(devices):
        with entered(FAR):
            dns = Dns()
            # It would answer at either address.
            upstream = RawUpstream(echo, host="0.0.0.0")
        access = tmp_path / "access.log"
        network = NearNetwork(tmp_path / "network", log={"format": "json", "level": "debug", "access": {"to": str(access)}})
        agent = None
        try:
            network.start()
            port = free_port()
            token = network.token(f"tcp:{port}")
            endpoints = {"raw": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{NAME}:{upstream.port}"}}}
            agent = FarAgent(network, tmp_path / "agent", token, endpoints)
            rule = {"name": "inside", "endpoints": ["*"], "hosts": [NAME], "addresses": [f"{ALLOWED}/32"], "ports": [upstream.port], "protocols": ["tcp"]}
            policy = agent.directory / "policy.yml"
            policy.write_text(yaml({"version": 1, "allow": [rule]}) + "\n")
            policy.chmod(0o600)
            agent.start()
            assert call(port) == b"alive" and dns.asked > 0

            dns.address = ELSEWHERE
            # What was known of the name is used for some seconds more; it is the address that was allowed.
            wait_until(lambda: call(port) == b"", "the new address to be refused", deadline=60)

            lines = [json.loads(line) for line in agent.process.lines if line.startswith("{")]
            (line,) = [line for line in lines if line["message"] == "connection refused by the policy"][:1]
            assert (line["reason"], line["rule"], line["told"]) == ("address", "inside", "POLICY")
            assert f"{NAME}:{upstream.port} is at {ELSEWHERE}, which is not in {ALLOWED}" in line["detail"]
            # So does the audit log: what was allowed by the name was refused by the address.
            log = agent.directory / "state" / "adit" / "audit"
            shown = [AGENT, "audit", "show", "--decision", "refused", "--output", "json", "--path", log]
            record = json.loads(wait_until(lambda: run(shown).stdout.decode().splitlines(), "the record of it")[0])
            assert (record["kind"], record["ending"], record["reason"], record["rule"]) == ("end", "not carried", "address", "inside")
            assert (record["address"], record["told"], record["begin"] > 0) == (ELSEWHERE, "POLICY", True)
            # The vendor is told the code, and nothing of what is inside.
            wait_until(lambda: "POLICY" in network.process.text() or "ADIT-3017" in (access.read_text() if access.exists() else ""), "the vendor to be told")
            assert ELSEWHERE not in network.process.text()

            dns.address = ALLOWED
            wait_until(lambda: call(port) == b"alive", "the name to be back", deadline=60)
        finally:
            for process in (agent.runs if agent else []) + network.runs:
                process.kill()
            dns.close()
            upstream.close()

"""The disk of the audit log is slow, or does not answer at all: nobody is carried without a record, everything closes in time, nothing is lost."""

import concurrent.futures
import json
import time

import pytest

from harness.clients import curl, dial, receive
from harness.deployment import AGENT, DOMAIN, yaml
from harness.disk import Disk
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo

# A connection waits so long for its record.
PATIENCE = 5.0


class Site:
    """A network, and an agent whose audit log lies on a disk of its own."""

    def __init__(self, registry, **audit):
        self.network = registry.network().start()
        self.port = free_port()
        self.http = registry.upstream(HttpUpstream())
        self.raw = registry.upstream(RawUpstream(echo))
        endpoints = {
            "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": self.http.url}},
            "raw": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://localhost:{self.raw.port}"}},
        }
        self.agent = registry.agent(self.network, self.network.token(f"web.{DOMAIN}", f"tcp:{self.port}"), endpoints)
        folder = self.agent.directory / "disk" / "audit"
        folder.parent.mkdir()
        self.disk = Disk(registry.root, folder)
        registry.closers.append(self)
        policy = self.agent.directory / "policy.yml"
        hosts = {"hosts": ["localhost", "127.0.0.1"], "addresses": ["127.0.0.0/8"], "ports": ["1-65535"]}
        rule = {"name": "all", "endpoints": ["*"], **hosts, "protocols": ["http", "tcp"]}
        policy.write_text(yaml({"version": 1, "audit": {"path": str(folder), **audit}, "allow": [rule]}) + "\n")
        policy.chmod(0o600)
        self.agent.spawn(env=self.disk.environment)
        self.agent.wait_bound()

    def close(self):
        self.disk.go_on()  # who waits for it can be ended

    def adit(self, *arguments, check=True):
        return run([AGENT, *arguments, "--config", self.agent.config], check=check, env={"XDG_STATE_HOME": str(self.agent.state)})

    def records(self, kind):
        shown = self.adit("audit", "show", "--output", "json", "--kind", kind).stdout.decode()
        return [json.loads(line) for line in shown.splitlines()]

    def call(self):
        """Whether a caller is carried, and after how many seconds that is known."""
        begun = time.monotonic()
        with dial(self.port) as sock:
            try:
                sock.sendall(b"ping")
                carried = sock.recv(4) == b"ping"
            except OSError:
                carried = False
        return carried, time.monotonic() - begun

    def get(self):
        return curl(self.network, f"https://web.{DOMAIN}/hello").status


def test_a_disk_that_hangs_carries_nobody_new_keeps_what_is_open_freezes_in_time_and_loses_nothing(registry):
    site = Site(registry)
    standing = dial(site.port)
    standing.sendall(b"open")
    assert receive(standing, 4) == b"open"
    (first,) = wait_until(lambda: site.records("connection"), "its record")

    site.disk.hang()

    carried, after = site.call()
    assert not carried and PATIENCE - 1 < after < 2 * PATIENCE, after
    assert site.get() == 503
    standing.sendall(b"still")
    assert receive(standing, 5) == b"still", "what is open goes on"
    status = json.loads(site.adit("status", "--output", "json").stdout)["audit"]
    assert status["refuses"] and "ADIT-1404" in status["problem"] and "nothing was written for 5s" in status["problem"], status
    assert site.records("connection") == [first]

    # Nothing that closes waits for that disk.
    begun = time.monotonic()
    done = site.adit("freeze", "--output", "json")
    took = time.monotonic() - begun
    assert json.loads(done.stdout)["confirmed"] is True and took < 2, took  # its second, and a program that begins
    standing.settimeout(1)
    with pytest.raises(ConnectionResetError):
        assert standing.recv(1) == b""
        raise ConnectionResetError
    assert site.records("freeze") == []

    site.disk.go_on()

    (frozen,) = wait_until(lambda: site.records("freeze"), "that it froze is written")
    assert frozen["connections_ended"] == 1
    ends = {end["begin"]: end for end in wait_until(lambda: len(site.records("end")) == 2 and site.records("end"), "both ends")}
    assert (ends[first["seq"]]["up"], ends[first["seq"]]["down"], ends[first["seq"]]["ending"]) == (9, 9, "revoked")
    (late,) = [record for record in site.records("connection") if record != first]
    assert (ends[late["seq"]]["decision"], ends[late["seq"]]["reason"]) == ("refused", "audit"), "written late, and not carried"
    refused = site.records("refused")
    assert {(record["endpoint"], record["reason"], record["told"]) for record in refused} == {("raw", "audit", "LIMIT"), ("web", "audit", "LIMIT")}
    site.adit("thaw")
    wait_until(lambda: site.call()[0], "callers are carried again")
    assert site.get() == 200
    assert site.adit("audit", "verify", check=False).returncode == 0


def test_a_slow_disk_slows_new_callers_and_who_was_carried_has_a_record_when_the_agent_is_killed(registry):
    site = Site(registry, sync="each")
    standing = dial(site.port)
    standing.sendall(b"open")
    assert receive(standing, 4) == b"open"

    site.disk.slow(500)

    with concurrent.futures.ThreadPoolExecutor(4) as callers:
        told = list(callers.map(lambda _: site.call(), range(8)))
    assert all(carried and after >= 1 for carried, after in told), told  # written, and kept
    begun = time.monotonic()
    standing.sendall(b"still")
    assert receive(standing, 5) == b"still" and time.monotonic() - begun < 0.5, "what is open waits for no disk"

    site.agent.process.kill()

    assert len(site.records("connection")) == 1 + 8
    assert site.adit("audit", "verify", check=False).returncode == 0

"""The clock of the agent's machine is wrong: what is refused by it says so, and what has expired stays so when it is set back."""

import datetime
import json
import time

import pytest

from harness.authority import Authority
from harness.clients import dial, receive
from harness.clock import Clock
from harness.deployment import AGENT, yaml
from harness.ports import free_port
from harness.process import run
from harness.raw_upstream import RawUpstream, echo

HOUR, DAY = 3_600, 86_400
YEAR = 365 * DAY
EXPIRED = "the policy as a whole: expired at"


class Site:
    """A network whose clock is right, and an agent that has its own."""

    def __init__(self, registry, authority=None, ingress=None, **agent):
        self.clock = Clock(registry.root)
        self.port = free_port()
        self.raw = registry.upstream(RawUpstream(echo))
        self.network = registry.network(**({"ingress": ingress} if ingress else {})).start()
        token = self.network.token(f"tcp:{self.port}")
        endpoints = {"echo": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://localhost:{self.raw.port}"}}}
        trust = {"connect_cas": str(authority.pem)} if authority else {}
        self.agent = registry.agent(self.network, token, endpoints, **trust, **agent)

    def spawn(self):
        self.agent.spawn(env=self.clock.environment)
        return self

    def carries(self):
        with dial(self.port) as sock:
            sock.sendall(b"ping")
            return receive(sock, 4) == b"ping"

    def refuses(self):
        """Whether a caller is reset, or met by nobody."""
        try:
            return not self.carries()
        except OSError:
            return True

    def diagnosed(self):
        env = {"XDG_STATE_HOME": str(self.agent.state), **self.clock.environment}
        done = run([AGENT, "diagnose", "--json", "--config", self.agent.config], check=False, env=env)
        return {check["check"]: check for check in json.loads(done.stdout)["checks"]}, done.returncode

    def refused(self, code):
        """What the log says of an attempt that failed so."""
        self.agent.process.wait_for(code)
        lines = [json.loads(line) for line in self.agent.process.lines if code in line]
        return lines[-1]


def day(moved):
    return datetime.datetime.fromtimestamp(time.time() + moved, datetime.UTC).strftime("%Y-%m-%d")


@pytest.mark.parametrize("moved, code, said, result, way", [(-2 * YEAR, "ADIT-1108", "valid from", "failed", "it is behind by"), (2 * YEAR, "ADIT-1107", "valid until", "warning", "it is ahead, or the vendor is late, by")])
def test_a_certificate_that_a_wrong_clock_refuses_is_told_with_that_clock_and_is_good_when_it_is_set(registry, moved, code, said, result, way):
    site = Site(registry)
    site.clock.move(moved)
    site.spawn()

    line = json.dumps(site.refused(code))

    assert said in line and f"this machine's clock says {day(moved)}" in line, line
    found, exit_code = site.diagnosed()
    clock = found["clock"]
    assert (exit_code, found["tls"]["code"], clock["code"], clock["result"]) == (5, code, "ADIT-1123", result), clock
    assert "this machine's clock is wrong" in clock["error"] and way in clock["error"], clock["error"]
    assert site.network.metric("adit_sessions_began_total") == 0
    site.clock.move(0)
    site.agent.wait_bound(deadline=90)
    assert site.carries()


def test_a_list_that_is_over_by_a_clock_that_is_ahead_is_not_believed_and_is_when_the_clock_is_set(registry):
    ours = Authority(registry.root, "ours")
    files = ours.serve("network", None, "localhost", "-enddate", "21000101000000Z")
    listed = ours.list(registry.root / "list.pem")
    site = Site(registry, ours, {**files, "crl": [str(listed)]}, crl="require")
    site.clock.move(100 * DAY)
    site.spawn()

    line = json.dumps(site.refused("ADIT-1121"))

    assert "CN=ours" in line and day(100 * DAY) in line, line
    found, exit_code = site.diagnosed()
    assert exit_code == 5 and found["clock"]["result"] != "ok", found
    site.clock.move(0)
    site.agent.wait_bound(deadline=90)
    assert site.carries()


def test_what_has_expired_stays_so_when_the_clock_is_set_back_and_the_agent_is_started_again(registry):
    site = Site(registry)
    until = datetime.datetime.fromtimestamp(time.time() + HOUR, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    policy = site.agent.directory / "policy.yml"

    def allow(word):
        rule = {"name": "raw", "endpoints": ["*"], "hosts": ["localhost"], "ports": ["1-65535"], "protocols": ["tcp"]}
        draft = policy.with_suffix(".draft")
        draft.write_text(f"# {word}\n" + yaml({"version": 1, "expires": until, "allow": [rule]}) + "\n")
        draft.chmod(0o600)
        draft.rename(policy)

    allow("first")
    site.spawn()
    site.agent.wait_bound()
    assert site.carries()

    site.clock.move(2 * HOUR)
    site.agent.process.wait_for(EXPIRED)
    site.clock.move(0)
    assert site.refuses(), "time goes on by a clock that never goes back"
    site.agent.stop()

    # The clock is right again, and says that there is an hour left.
    site.spawn()
    site.agent.process.wait_for(f"{EXPIRED}.*, by a time that the clock has shown before")
    assert site.refuses()

    # Another text of the policy begins anew.
    mark = site.agent.process.mark()
    allow("second")
    site.agent.process.wait_for("policy in force", after=mark)
    assert site.carries()

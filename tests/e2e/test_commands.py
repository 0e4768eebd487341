"""The vendor asks an agent to stop: what the vendor is told, what the customer reads, and who must allow it."""

import json

import pytest

from harness.deployment import DOMAIN, NETWORK, yaml
from harness.process import run, wait_until

URL = f"http://web.{DOMAIN}"
RULE = {"name": "all", "endpoints": ["*"], "hosts": ["*"], "addresses": ["127.0.0.0/8"], "ports": ["1-65535"], "protocols": ["http"]}


class Site:
    """A network and an agent; `policy` says which commands the policy of its owner allows, if there is one."""

    def __init__(self, registry, policy=None, **settings):
        self.network = registry.network().start()
        token = self.network.token(f"web.{DOMAIN}")
        self.agent = registry.agent(self.network, token, {"web": {"url": URL, "upstream": {"url": "http://127.0.0.1:9"}}}, **settings)
        if policy is not None:
            file = self.agent.directory / "policy.yml"
            file.write_text(yaml({"version": 1, "commands": policy, "allow": [RULE]}) + "\n")
            file.chmod(0o600)
        self.agent.start()
        wait_until(lambda: self.agents() != [], "the agent to be listed")

    def agents(self, *more):
        shown = run([NETWORK, "agents", "--config", self.network.config, "--output", "json", *more])
        return [agent for agent in json.loads(shown.stdout)["agents"] if agent["endpoints"] == [URL]]

    def ask(self, command, *more):
        done = run([NETWORK, "command", URL, command, "--text", "ticket 4711", "--config", self.network.config, *more], check=False)
        return done.returncode, done.stderr.decode()

    def told(self, message):
        """What the log of the agent says of it."""
        for line in self.agent.process.lines:
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("message") == message:
                return entry
        return None


@pytest.mark.parametrize(
    "settings, policy, words, code",
    [
        ({}, None, "the agent's configuration does not allow it", "ADIT-1301"),
        ({"remote_management": {"stop": True}}, {}, "the customer's policy does not allow it", "ADIT-1402"),
        ({"remote_management": {"stop": True}}, {"restart": True}, "the customer's policy does not allow it", "ADIT-1402"),
        ({"remote_management": {"restart": True}}, {"stop": True}, "the agent's configuration does not allow it", "ADIT-1301"),
    ],
)
def test_a_command_that_is_not_allowed_is_refused_and_both_sides_read_why(registry, settings, policy, words, code):
    site = Site(registry, policy, **settings)

    exit, said = site.ask("stop")

    assert exit == 4 and "ADIT-1510" in said and words in said, said
    told = wait_until(lambda: site.told("remote command refused"), "the customer to read it")
    assert code in told["error"] and told["remedy"] and (told["command"], told["text"]) == ("stop", "ticket 4711"), told
    assert site.agent.process.alive() and site.agents() != []
    assert site.network.metric_of('adit_commands_total{command="stop",result="FORBIDDEN"}') == 1


@pytest.mark.parametrize("policy", [None, {"stop": True}])
def test_a_command_that_is_allowed_is_obeyed(registry, policy):
    site = Site(registry, policy, remote_management={"stop": True})

    exit, said = site.ask("stop")

    assert (exit, "obeys" in said) == (0, True), said
    assert site.agent.process.wait() == 0
    told = site.told("remote command obeyed")
    assert (told["command"], told["text"]) == ("stop", "ticket 4711")
    wait_until(lambda: site.agents() == [], "the agent to be away")
    (away,) = site.agents("--all")
    assert away["state"] == "away"

    # One that is away is named by its id, and what it is asked does not wait for it longer than the vendor does.
    argv = [NETWORK, "command", away["agent"], "restart", "--wait", "1s", "--config", site.network.config]
    done = run(argv, check=False)
    assert (done.returncode, b"ADIT-1516" in done.stderr) == (10, True), done.stderr
    assert site.ask("stop")[0] == 8

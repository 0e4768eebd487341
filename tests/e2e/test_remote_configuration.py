"""The vendor sends endpoints, over a network that sends commands: refused by default, taken where the customer says so, over restarts, and given up."""

import json

import pytest

from harness.deployment import AGENT, BIN, yaml
from harness.process import Process, run, wait_until

VENDOR = BIN / "examples" / "sample_vendor"
OWN, SENT = "https://own.example", "https://sent.example"
LONG = 60.0


class Site:
    """An agent with one endpoint and a policy, a vendor that it dials, and a document of the vendor's."""

    def __init__(self, registry, folder, remote_management, commands):
        self.folder, self.registry = folder, registry
        ca = folder / "vendor.pem"
        self.vendor = Process("vendor", [VENDOR, ca], interactive=True)
        registry.upstream(Closing(self.vendor))
        agent = {
            "connect_url": self.vendor.wait_for("READY (.*)").group(1), "connect_cas": str(ca), "authtoken": "any", "log": "stderr",
            "log_format": "json", "remote_management": remote_management,
        }  # fmt: skip
        self.write("adit.yml", {"version": 1, "agent": agent, "endpoints": [self.endpoint("own", OWN)]})
        self.policy(commands)
        self.start()

    @staticmethod
    def endpoint(name, url, **upstream):
        return {"name": name, "url": url, "upstream": {"url": "http://127.0.0.1:9", **upstream}}

    def write(self, name, value):
        file = self.folder / name
        file.write_text(yaml(value) + "\n")
        file.chmod(0o600)

    def policy(self, commands):
        rule = {"name": "all", "endpoints": ["https://*.example"], "hosts": ["127.0.0.0/8"], "ports": [9], "protocols": ["http"]}
        self.write("policy.yml", {"version": 1, "commands": commands, "allow": [rule]})

    def start(self):
        mark = self.vendor.mark()
        environment = {"XDG_STATE_HOME": str(self.folder / "state")}
        self.process = Process("agent", [AGENT, "start", "--all", "--config", self.folder / "adit.yml"], cwd=self.folder, env=environment)
        self.registry.upstream(Closing(self.process))
        self.vendor.wait_for(f"bound {OWN}", after=mark, deadline=LONG)

    def adit(self, *arguments):
        shown = run([AGENT, *arguments, "--config", self.folder / "adit.yml"], env={"XDG_STATE_HOME": str(self.folder / "state")})
        return shown.stdout.decode()

    def ask(self, *endpoints):
        """Sends a document, and returns what the agent answers: its code and its words."""
        self.write("document.yml", {"version": 1, "endpoints": list(endpoints)})
        answers = []

        def is_looked_at():
            mark = self.vendor.mark()
            self.vendor.say(f"configuration {self.folder / 'document.yml'} ticket 4711")
            answers.append(self.vendor.wait_for(r"^answer (\S+) ?(.*)$", after=mark, deadline=LONG).groups())
            return answers[-1] != ("BUSY", "one document a second is looked at")

        wait_until(is_looked_at, "looked at")
        return answers[-1]

    def names(self):
        return [endpoint["name"] for endpoint in json.loads(self.adit("status", "--output", "json"))["endpoints"]]


class Closing:
    def __init__(self, process):
        self.process = process

    def close(self):
        self.process.kill()


ALLOWED = {"configuration": True}


@pytest.mark.parametrize(
    "remote_management, commands, words",
    [
        ({}, ALLOWED, "the agent's configuration does not allow it"),
        (ALLOWED, {}, "the customer's policy does not allow it"),
    ],
)
def test_endpoints_of_the_vendor_are_refused_unless_the_customer_says_so_twice(registry, tmp_path, remote_management, commands, words):
    site = Site(registry, tmp_path, remote_management, commands)

    assert site.ask(site.endpoint("sent", SENT)) == ("FORBIDDEN", words)

    assert site.names() == ["own"] and site.process.alive()


def test_endpoints_of_the_vendor_are_taken_last_and_go_when_the_customer_takes_the_word_back(registry, tmp_path):
    site = Site(registry, tmp_path, ALLOWED, ALLOWED)
    mark = site.vendor.mark()

    assert site.ask(site.endpoint("sent", SENT, ca="/etc/shadow"))[0] == "DOCUMENT"
    assert site.ask(site.endpoint("sent", SENT)) == ("NO_ERROR", "")

    site.vendor.wait_for(f"bound {SENT}", after=mark, deadline=LONG)
    assert site.names() == ["own", "sent"]
    assert "ticket 4711" in site.adit("status")
    site.process.kill()
    mark = site.vendor.mark()
    site.start()
    site.vendor.wait_for(f"bound {SENT}", after=mark, deadline=LONG)
    site.policy({})
    wait_until(lambda: site.names() == ["own"], "given up")
    assert "not in force: commands.configuration of the policy is not true" in site.adit("status")
    assert site.ask(site.endpoint("sent", SENT))[0] == "FORBIDDEN"

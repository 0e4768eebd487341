"""The vendor asks for a newer version, by `adit-network command`: what the customer allows, what is refused, what both read."""

import json
import shutil

import pytest

from harness.deployment import AGENT, DOMAIN, NETWORK, yaml
from harness.process import Process, run, wait_until
from harness.releases import NEW, OLD, Releases

URL = f"https://web.{DOMAIN}"
LONG = 90.0


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program without what debuggers read, so that it is copied and hashed fast."""
    path = tmp_path_factory.mktemp("program") / "adit"
    run(["strip", "-o", path, AGENT.resolve()])
    return path.read_bytes()


class Site:
    """An agent with a program of its own below a folder, its policy, releases, and the vendor's network."""

    def __init__(self, registry, folder, program, commands, remote_management, update=True):
        self.folder = folder
        self.network = registry.network(folder.name).start()
        self.releases = registry.upstream(Releases(folder / "releases"))
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.program = self.bin / "adit"
        self.program.write_bytes(program)
        self.program.chmod(0o755)
        self.new = program.replace(OLD, NEW)
        agent = {
            "connect_url": self.network.connect_url, "connect_cas": str(self.network.ca), "authtoken": self.network.token(f"web.{DOMAIN}").secret,
            "log": "stderr", "log_format": "json",
            "remote_management": remote_management, **({"update": self.releases.settings(check=False)} if update else {}),
        }  # fmt: skip
        self.write("adit.yml", {"version": 1, "agent": agent, "endpoints": [{"name": "web", "url": URL, "upstream": {"url": "http://127.0.0.1:9"}}]})
        rule = {"name": "all", "endpoints": ["*"], "hosts": ["*"], "addresses": ["127.0.0.0/8"], "ports": ["1-65535"], "protocols": ["http"]}
        self.write("policy.yml", {"version": 1, "files": [str(folder.parent)], "commands": commands, "allow": [rule]})
        self.environment = {"XDG_STATE_HOME": str(folder / "state")}

    def write(self, name, value):
        file = self.folder / name
        file.write_text(yaml(value) + "\n")
        file.chmod(0o600)

    def start(self, registry):
        self.process = Process("agent", [self.program, "start", "--all", "--config", self.folder / "adit.yml"], cwd=self.folder, env=self.environment)
        registry.upstream(Closing(self.process))
        self.serves("0.1.0")
        return self

    def serves(self, version):
        """Waits until the network lists the agent, in this version, with its endpoint."""

        def listed():
            agents = json.loads(run([NETWORK, "agents", "--config", self.network.config, "--output", "json"]).stdout)["agents"]
            return any(agent["software"].startswith(f"adit/{version}") and agent["endpoints"] == [URL] for agent in agents)

        wait_until(listed, lambda: f"adit/{version} serves {URL}:\n{self.process.text()[-3000:]}", LONG)

    def ask(self, text):
        """Asks for an update; returns the exit code, what the agent answers, and its words."""
        argv = [NETWORK, "command", URL, "update", "--text", text, "--wait", "90s", "--config", self.network.config, "--output", "json"]
        done = run(argv, check=False)
        answer = json.loads(done.stdout)
        return done.returncode, answer["code"], answer["answer"]

    def audit(self, *kinds):
        """The records of the audit log of these kinds, without what all records have."""
        shown = run([self.program, "audit", "show", "--output", "json", "--config", self.folder / "adit.yml"], env=self.environment)
        records = [json.loads(line) for line in shown.stdout.decode().splitlines()]
        common = ("prev", "seq", "time", "passed", "policy", "hash")
        return [{key: value for key, value in record.items() if key not in common} for record in records if record["kind"] in kinds]

    def version(self, name="adit"):
        return json.loads(run([self.bin / name, "version", "--output", "json"]).stdout)["version"]

    def told(self, message, **fields):
        """A line of the agent's log with this message and these fields."""

        def found():
            for line in self.process.lines:
                entry = json.loads(line) if line.startswith("{") else {}
                if message in entry.get("message", "") and all(value in str(entry.get(key)) for key, value in fields.items()):
                    return entry
            return None

        return wait_until(found, f"{message} {fields} in\n{self.process.text()}")


class Closing:
    def __init__(self, process):
        self.process = process

    def close(self):
        self.process.kill()


BOTH = {"commands": {"update": True}, "remote_management": {"update": True}}


def test_what_the_vendor_asks_for_and_the_customer_allows_is_put_in_place_and_connects(registry, tmp_path, program):
    site = Site(registry, tmp_path, program, **BOTH)
    site.releases.publish(site.new)
    site.start(registry)
    assert site.releases.asked == [], "nothing is looked for unasked"

    assert site.ask("ticket 4711") == (0, "NO_ERROR", "")

    site.serves("9.9.9")
    site.process.wait_for("the new version connects: its trial is over", deadline=LONG)
    assert site.process.alive(), "it is the same process"
    assert (site.version(), site.version("adit.previous")) == ("9.9.9", "0.1.0")
    assert site.releases.asked == ["/stable.json", "/stable.json.minisig", "/adit-9.9.9"]
    command, installed, stays = site.audit("command", "update")
    assert command == {"kind": "command", "command": "update", "text": "ticket 4711", "decision": "obeyed"}
    assert (installed["event"], installed["version"], installed["from"], len(installed["sha256"])) == ("installed", "9.9.9", "0.1.0", 64)
    assert (stays["event"], stays["version"]) == ("stays", "9.9.9")
    assert [record["version"] for record in site.audit("start")] == ["0.1.0", "9.9.9"]


@pytest.mark.parametrize(
    "commands, remote_management, words, code",
    [
        ({}, {"update": True}, "the customer's policy does not allow it", "ADIT-1402"),
        ({"update": True}, {}, "the agent's configuration does not allow it", "ADIT-1301"),
        ({"update": True}, {"restart": True}, "the agent's configuration does not allow it", "ADIT-1301"),
    ],
)
def test_what_policy_or_configuration_do_not_allow_is_refused_and_both_sides_read_why(registry, tmp_path, program, commands, remote_management, words, code):
    site = Site(registry, tmp_path, program, commands, remote_management)
    site.releases.publish(site.new)
    site.start(registry)

    assert site.ask("now") == (4, "FORBIDDEN", words)

    told = site.told("remote command refused", command="update", error=code)
    assert told["text"] == "now" and told["remedy"]
    (record,) = site.audit("command", "update")
    assert (record["command"], record["text"], record["decision"]) == ("update", "now", "refused") and record["why"], record
    # Nothing was asked, nothing has changed, and it goes on.
    assert site.releases.asked == [] and [path.name for path in site.bin.iterdir()] == ["adit"]
    assert site.process.alive() and site.ask("again")[:2] == (4, "FORBIDDEN")


def test_a_release_that_is_not_the_vendor_s_own_is_not_taken_whoever_asks(registry, tmp_path, program):
    site = Site(registry, tmp_path, program, **BOTH)
    site.releases.publish(site.new, key="other")
    site.start(registry)

    assert site.ask("please") == (0, "NO_ERROR", "")

    told = site.told("no update", error="ADIT-1033")
    assert "none of the keys" in told["error"] and told["remedy"]
    wait_until(lambda: len(site.audit("command", "update")) == 2, "what became of it is written down")
    command, update = site.audit("command", "update")
    assert command["decision"] == "obeyed" and update["event"] == "not installed" and "ADIT-1033" in update["why"], update
    assert [path.name for path in site.bin.iterdir()] == ["adit"] and site.version() == "0.1.0"
    # The session goes on, and the next wish is heard.
    site.releases.publish(site.new)
    assert site.ask("then") == (0, "NO_ERROR", "")
    site.serves("9.9.9")


def test_an_agent_that_cannot_replace_its_program_says_so_once(registry, tmp_path, program):
    site = Site(registry, tmp_path, program, **BOTH, update=False)
    site.start(registry)
    assert site.ask("please") == (6, "UNSUPPORTED", "this agent has no place for updates")
    (record,) = site.audit("command", "update")
    assert record["decision"] == "refused" and "ADIT-" in record["why"], record

    managed = tmp_path / "managed"
    managed.mkdir()
    other = Site(registry, managed, program, **BOTH)
    keep = managed / "nix" / "store" / "x-adit"
    keep.mkdir(parents=True)
    shutil.move(other.program, keep / "adit")
    other.bin, other.program = keep, keep / "adit"
    other.start(registry)
    assert other.ask("please") == (6, "UNSUPPORTED", "the program of this agent is looked after by another")
    (record,) = other.audit("command", "update")
    assert record["decision"] == "refused" and record["text"] == "please" and "ADIT-1035" in record["why"], record
    assert other.releases.asked == []

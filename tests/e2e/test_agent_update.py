"""`adit update`: signed releases from a server of the test, what is refused, and what comes back when it does not connect.

The payload is the real program with another version number of the same length written into it.
"""

import json
import os
import shutil
import subprocess

import pytest

from harness.deployment import AGENT, DOMAIN, yaml
from harness.http_upstream import HttpUpstream
from harness.process import Process, run, wait_until
from harness.releases import NEW, OLD, Releases


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The program without what debuggers read, so that it is copied and hashed fast."""
    path = tmp_path_factory.mktemp("program") / "adit"
    run(["strip", "-o", path, AGENT.resolve()])
    return path.read_bytes()


class Site:
    """An agent with a program of its own, below a folder, and a network."""

    def __init__(self, registry, tmp_path, program, **update):
        self.releases = Releases(tmp_path / "releases")
        registry.closers.append(self.releases)
        self.network = registry.network().start()
        self.http = registry.upstream(HttpUpstream())
        token = self.network.token(f"*.{DOMAIN}")
        endpoints = {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": self.http.url}}}
        self.agent = registry.agent(self.network, token, endpoints, update=self.releases.settings(**update))
        self.folder = tmp_path / "bin"
        self.folder.mkdir()
        self.program = self.folder / "adit"
        self.program.write_bytes(program)
        self.program.chmod(0o755)
        self.environment = {"XDG_STATE_HOME": str(self.agent.directory / "state")}
        self.new = program.replace(OLD, NEW)
        assert self.new != program

    def policy(self, **whole):
        path = self.agent.directory / "policy.yml"
        rule = {"name": "all", "endpoints": ["*"], "hosts": ["*"], "addresses": ["127.0.0.0/8"], "ports": ["1-65535"], "protocols": ["http"]}
        path.write_text(yaml({"version": 1, "files": [str(path.parent.parent)], **whole, "allow": [rule]}) + "\n")
        path.chmod(0o600)

    def update(self, *arguments, code=0):
        argv = [self.program, "update", "--config", self.agent.config, *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=180, env={**os.environ, **self.environment})
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def version(self, name="adit"):
        return json.loads(run([self.folder / name, "version", "--output", "json"]).stdout)["version"]

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def start(self):
        """Starts the agent with the program of this site."""
        self.process = Process("agent", [self.program, "start", "--all", "--config", self.agent.config], cwd=self.agent.directory, env=self.environment)
        self.agent.process = self.process
        self.agent.runs.append(self.process)
        return self.process

    def record(self):
        path = self.agent.directory / "state" / "adit" / "update.json"
        return json.loads(path.read_text()) if path.exists() else None


def test_a_newer_version_is_shown_taken_and_kept_apart_from_the_old_one(registry, tmp_path, program):
    site = Site(registry, tmp_path, program)
    site.releases.publish(site.new)

    seen = json.loads(site.update("--check", "--output", "json"))
    assert seen == {"current": "0.1.0", "offered": "9.9.9", "newer": True, "installed": False, "previous": None}
    assert site.names() == ["adit"] and site.version() == "0.1.0"

    told = site.update()
    assert "version 9.9.9 is in the place of 0.1.0" in told
    assert site.names() == ["adit", "adit.previous"]
    assert (site.version(), site.version("adit.previous")) == ("9.9.9", "0.1.0")
    # What was fetched by hand, for a place that cannot be reached, is asked no less.
    assert "nothing to do" in site.update("--from", site.releases.files)
    (site.releases.files / "stable.json").write_bytes((site.releases.files / "stable.json").read_bytes() + b" ")
    assert "none of the keys" in site.update("--from", site.releases.files, code=1)
    site.releases.publish(site.new)
    # It connects: its trial ends well.
    process = site.start()
    process.wait_for("its trial is over", deadline=60)
    assert site.record()["trial"] is None
    assert "nothing to do" in site.update()
    assert site.update("--channel", "beta", code=5).count("ADIT-1032") == 1


def test_what_is_not_the_vendor_s_or_is_old_is_refused_and_changes_nothing(registry, tmp_path, program):
    site = Site(registry, tmp_path, program)
    publish, new = site.releases.publish, site.new

    def refused(code, *words):
        told = site.update(code=1)
        assert code in told and all(word in told for word in words), told
        assert site.names() == ["adit"] and site.version() == "0.1.0"

    publish(new, key="other")
    refused("ADIT-1033", "none of the keys")
    publish(new, comment="adit beta 9.9.9")
    refused("ADIT-1033", "trusted comment")
    publish(new, expires=-1)
    refused("ADIT-1033", "expired")
    publish(new, signed=200_000)
    refused("ADIT-1033", "yet to come")
    publish(new, offered=new[:-1] + b"x")
    refused("ADIT-1033", "not the one that was signed for")
    publish(new, offered=new + b"x")
    told = site.update(code=5)
    assert "ADIT-1032" in told and "more than" in told
    publish(new, target="sparc64-sun-solaris")
    refused("ADIT-1034", "not made for")
    publish(program)
    refused("ADIT-1036", "says that it is version 0.1.0, and 9.9.9 was promised")
    publish(b"#!/bin/sh\nexit 1\n")
    refused("ADIT-1036", "does not say its version")
    # A copy that is older than what has been seen.
    publish(program, version="0.1.0", signed=-30)
    assert "nothing to do" in site.update()
    publish(new, signed=-3600)
    refused("ADIT-1033", "old copy")
    # A lower version is not taken, unless a person says so.
    lower = program.replace(OLD, b"0.0.9")
    publish(lower, version="0.0.9", signed=-20)
    assert "nothing to do" in site.update()
    assert "0.0.9 is in the place" in site.update("--allow-downgrade")
    assert site.version() == "0.0.9"


def test_a_version_that_does_not_connect_is_not_taken_by_hand(registry, tmp_path, program):
    site = Site(registry, tmp_path, program)
    environment = {**os.environ, **site.environment}

    def probe(*arguments):
        argv = [site.program, "probe", *arguments, "--config", site.agent.config]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, env=environment)

    assert probe().returncode == 0
    site.network.process.stop()
    probed = probe("--within", "1s")
    assert probed.returncode == 5 and "ADIT-1103" in probed.stderr, probed.stderr
    # With a token that is not valid it is not connected either, and the new version is not taken.
    site.network.restart()
    site.releases.publish(site.new)
    site.agent.config.write_text(site.agent.config.read_text().replace(site.network.secrets[0], "wrong"))
    assert "ADIT-1036" in site.update(code=1) and site.names() == ["adit"]


def test_a_version_that_ends_at_its_start_is_put_back_by_the_fourth(registry, tmp_path, program):
    site = Site(registry, tmp_path, program)
    # It says its version and does not know the configuration: a program that ends whenever it is started.
    site.releases.publish(site.new.replace(b"connect_url", b"connect_uri"))
    assert "ADIT-1036" in site.update(code=1) and site.names() == ["adit"]

    site.update("--no-probe")
    for _ in range(3):
        assert site.start().wait(60) == 3
    process = site.start()

    process.wait_for("never connected; 0.1.0 is put back")
    site.agent.wait_bound()
    assert site.version() == "0.1.0" and site.record()["failed"] == ["9.9.9"]
    assert "did not connect here" in site.update(code=1)
    assert "version 9.9.9 is there" in site.update("--check", "--retry")


def test_by_itself_only_what_the_policy_says_and_back_when_it_does_not_connect(registry, tmp_path, program):
    site = Site(registry, tmp_path, program, trial="10s")
    site.releases.publish(site.new)
    # A policy that says nothing of updates: nothing is looked for.
    site.policy()
    process = site.start()
    site.agent.wait_bound()
    process.stop()
    assert site.releases.asked == []
    # It lets them be looked for: told, and not taken.
    site.policy(updates={"check": True})
    process = site.start()
    process.wait_for("a newer version is there")
    process.stop()
    assert site.version() == "0.1.0"
    # It lets them be installed, and the network is gone when the new version comes.
    site.policy(updates={"check": True, "install": True})
    site.agent.process = process = site.start()
    process.wait_for("a new version is installed", deadline=60)
    site.network.process.kill()
    process.wait_for("a new version is on trial", deadline=60)
    process.wait_for("a new version is put back", deadline=90)
    wait_until(lambda: site.version() == "0.1.0", "the old version in its place")
    mark = process.mark()
    site.network.restart()
    process.wait_for("endpoint bound", deadline=90, after=mark)
    process.wait_for("did not connect here and was put back", deadline=60)
    assert site.record()["failed"] == ["9.9.9"] and process.alive()


def test_frozen_or_out_of_the_policy_s_bounds_nobody_is_asked_for_a_newer_version(registry, tmp_path, program):
    site = Site(registry, tmp_path, program)
    site.releases.publish(site.new)
    updates = {"check": True, "install": True}
    file = site.agent.directory / "frozen"

    site.policy(updates=updates)
    file.touch()
    process = site.start()
    process.wait_for("frozen: everything is closed")
    mark = process.mark()
    site.policy(updates=updates, expires="2020-01-01T00:00:00Z")
    process.wait_for("policy in force", after=mark)
    file.unlink()
    process.wait_for("endpoint bound")  # its callers are refused
    assert site.releases.asked == [] and site.version() == "0.1.0"

    site.policy(updates=updates)
    process.wait_for("a new version is installed", deadline=60)
    assert site.releases.asked != []


def test_a_file_that_somebody_else_looks_after_is_left_to_them(registry, tmp_path, program):
    site = Site(registry, tmp_path, program)
    site.releases.publish(site.new)
    keep = tmp_path / "nix" / "store" / "x-adit"
    keep.mkdir(parents=True)
    # Whose folder it is counts, wherever it lies.
    shutil.move(site.program, keep / "adit")
    site.folder, site.program = keep, keep / "adit"

    told = site.update(code=1)
    assert "ADIT-1035" in told and "Nix" in told and site.names() == ["adit"]

    assert "9.9.9 is in the place" in site.update("--managed")


def test_without_a_place_for_updates_that_is_told(registry, tmp_path):
    config = tmp_path / "adit.yml"
    config.write_text("version: 1\n")
    done = subprocess.run([AGENT, "update", "--config", config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3 and "ADIT-1031" in done.stderr
    config.write_text("version: 1\nagent:\n  update:\n    url: http://releases.example.com\n    public_key: nonsense\n")
    done = subprocess.run([AGENT, "config", "check", "--config", config], capture_output=True, text=True, timeout=60)
    assert f"{config}:4:10: agent.update.url: not a place over HTTPS" in done.stderr
    assert f"{config}:5:17: agent.update.public_key: not a public key of minisign" in done.stderr

"""`adit service`: what is installed, what is refused, how systemd is told, and what it could not do if it wanted.

`systemd-analyze verify` and `security` judge the unit, `systemctl --root` enables it in an image of a system. Where it matters what is said whatever the
manager answers, a program in the place of systemctl answers. The service under systemd itself: test_service_runs.py.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile

import pytest

from harness.deployment import AGENT, ROOT, yaml
from harness.http_upstream import HttpUpstream
from harness.process import Process, run, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a service is installed by root")
TOKEN = "adit_0123456789abcdef_s3cr3t"
# How much a service that was taken over could do, as systemd counts it: 10 is anything.
MOST_EXPOSED = 2.0


@pytest.fixture
def place():
    """A folder where a hardened service may have its program and its files: pytest's own is below /tmp."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adit e2e 50% ", dir="/opt"))
    folder.chmod(0o755)
    program = folder / "adit"
    shutil.copyfile(AGENT, program)
    program.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


class Site:
    def __init__(self, folder, **agent):
        self.folder = folder
        self.image = folder / "image"
        self.program = folder / "adit"
        self.config = folder / "adit.yml"
        self.token = folder / "a token"
        self.token.write_text(TOKEN + "\n")
        self.token.chmod(0o600)
        self.write(**agent)

    def write(self, endpoints=None, **agent):
        endpoints = endpoints or [{"name": "web", "url": "https://web.example", "upstream": {"url": "http://localhost:8080"}}]
        agent = {"connect_url": "localhost:1", "connect_cas": "host", "authtoken_file": str(self.token), **agent}
        agent = {key: value for key, value in agent.items() if value is not None}
        self.config.write_text(yaml({"version": 1, "agent": agent, "endpoints": endpoints}) + "\n")
        self.config.chmod(0o644)

    def adit(self, *argv, check=True, stdin=None, env=None):
        return run([self.program, "service", *argv], check=check, stdin=stdin, env=env)

    def install(self, *argv, **how):
        return self.adit("install", "--config", self.config, "--root", self.image, *argv, **how)

    def refused(self, *argv, **how):
        """What is said when nothing is installed."""
        done = self.install(*argv, check=False, **how)
        assert done.returncode == 3, done.stderr.decode()
        assert not self.image.exists()
        return done.stderr.decode()

    @property
    def unit(self):
        return self.image / "etc/systemd/system/adit.service"


@pytest.fixture
def site(place):
    return Site(place)


def exposure(unit):
    """The unit as `systemd-analyze security` sees it."""
    said = run(["systemd-analyze", "security", "--offline=true", "--no-pager", unit]).stdout.decode()
    return float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", said).group(1))


def test_the_unit_is_understood_by_systemd_enabled_in_an_image_and_next_to_harmless(site):
    done = site.install()

    text = site.unit.read_text()
    assert f"LoadCredential=authtoken:{str(site.token).replace('%', '%%')}\n" in text
    assert oct(site.unit.stat().st_mode & 0o7777) == "0o644" and TOKEN not in text
    wanted = site.image / "etc/systemd/system/multi-user.target.wants/adit.service"
    assert wanted.is_symlink() and os.readlink(wanted).endswith("/adit.service")
    assert "multi-user.target.wants" in done.stdout.decode() or "enable adit.service" in done.stdout.decode()

    verified = run(["systemd-analyze", "verify", "--man=no", site.unit], check=False)
    ours = [line for line in verified.stderr.decode().splitlines() if "adit" in line]
    assert verified.returncode == 0 and ours == [], verified.stderr.decode()
    assert exposure(site.unit) <= MOST_EXPOSED


def test_packaged_units_say_what_the_command_writes_and_are_next_to_harmless_too(site):
    for name in ("adit", "adit-network"):
        assert exposure(ROOT / f"packaging/systemd/{name}.service") <= MOST_EXPOSED

    site.install()
    varying = re.compile(r"^(#.*|ExecStart=.*|LoadCredential=.*|DynamicUser=yes|User=adit|ConditionPathExists=.*|)$")
    lines = lambda path: [line for line in path.read_text().splitlines() if not varying.match(line)]
    assert lines(ROOT / "packaging/systemd/adit.service") == lines(site.unit)


def test_installed_again_nothing_changes_and_removed_the_rest_stays(site):
    site.install()
    before = site.unit.stat()
    again = site.install()
    assert site.unit.stat().st_mtime_ns == before.st_mtime_ns and "wrote" not in again.stdout.decode()

    state = site.image / "var/lib/private/adit"
    state.mkdir(parents=True)
    (state / "audit").touch()
    removed = site.adit("uninstall", "--root", site.image)
    assert f"removed {site.unit}" in removed.stdout.decode()
    assert not site.unit.exists() and not (site.image / "etc/systemd/system/multi-user.target.wants/adit.service").is_symlink()
    assert site.config.exists() and (state / "audit").exists()
    done = site.adit("uninstall", "--root", site.image, check=False)
    assert done.returncode == 3 and b"is not there" in done.stderr


def test_purged_its_files_are_gone_as_well(site):
    inside = site.image / site.config.relative_to("/")
    site.install()
    inside.parent.mkdir(parents=True)
    shutil.copy(site.config, inside)
    state = site.image / "var/lib/private/adit"
    state.mkdir(parents=True)

    site.adit("uninstall", "--root", site.image, "--purge")

    assert not inside.exists() and not state.exists() and site.config.exists()


def test_purged_it_leaves_what_another_service_reads(site):
    inside = site.image / site.config.relative_to("/")
    inside.parent.mkdir(parents=True)
    shutil.copy(site.config, inside)
    for name in ("adit", "adit-b"):
        site.install("--name", name)

    kept = site.adit("uninstall", "--root", site.image, "--name", "adit-b", "--purge")

    assert f"another service reads it: {site.config}" in kept.stdout.decode() and inside.exists()
    site.adit("uninstall", "--root", site.image, "--purge")
    assert not inside.exists()


def test_of_what_was_installed_and_purged_no_file_is_left(site):
    site.write(authtoken_file=None)
    site.install("--authtoken-file", "-", stdin=TOKEN.encode() + b"\n")
    files = lambda: {str(path.relative_to(site.image)) for path in site.image.rglob("*") if path.is_symlink() or path.is_file()}
    wanted = "etc/systemd/system/multi-user.target.wants/adit.service"
    assert files() == {"etc/adit/adit.token", "etc/systemd/system/adit.service", wanted}

    site.adit("uninstall", "--root", site.image, "--purge")

    assert files() == set()


def test_what_managers_run_that_try_again_ends_in_order_when_somebody_has_to_act_and_says_why(site):
    site.write(connect_urls="x")
    done = site.adit("run", "--config", site.config)
    assert b"Did you mean `connect_url`?" in done.stderr

    # Once its log is there, that says it too.
    site.write(log_format="logfmt")
    policy = site.folder / "policy.yml"
    policy.write_text("version: 1\nfoo: 1\n")
    done = site.adit("run", "--config", site.config)
    said = [line for line in done.stderr.decode().splitlines() if "not started again before it is mended" in line]
    assert len(said) == 1 and "level=error" in said[0] and "ADIT-1401" in said[0], done.stderr.decode()
    assert TOKEN not in done.stderr.decode()


def test_a_token_from_standard_input_or_the_environment_is_kept_for_root_alone(site):
    site.write(authtoken_file=None)
    kept = site.image / "etc/adit/adit.token"
    for how in ({"stdin": TOKEN.encode() + b"\n"}, {"env": {"ADIT_AUTHTOKEN": TOKEN}}):
        flag = ["--authtoken-file", "-"] if "stdin" in how else []
        shutil.rmtree(site.image, ignore_errors=True)
        shown = site.install("--dry-run", *flag, **how).stdout.decode()
        assert "write the authtoken to" in shown and TOKEN not in shown and not site.image.exists()

        done = site.install(*flag, **how)

        assert kept.read_text() == TOKEN and oct(kept.stat().st_mode & 0o7777) == "0o600"
        assert TOKEN not in done.stdout.decode() + site.unit.read_text()
        assert "LoadCredential=authtoken:/etc/adit/adit.token\n" in site.unit.read_text()


@pytest.mark.parametrize(
    "change, said",
    [
        ({"authtoken_file": None}, "ADIT-1002"),
        ({"authtoken_file": None, "authtoken": TOKEN}, "install --authtoken-file -"),
        ({"connect_url": None}, "agent.connect_url"),
        ({"log": "/var/log/adit.log"}, "agent.log: /var/log/adit.log cannot be written by the service"),
        ({"connect_urls": "x"}, "Did you mean `connect_url`?"),
        ({"endpoints": [{"name": "s", "url": "tcp://:1", "upstream": {"url": "unix:/tmp/s.sock"}}]}, "endpoint s: the service does not see /tmp"),
        ({"connect_cas": "/nowhere.pem"}, "ADIT-1004"),
    ],
)
def test_what_would_not_work_as_a_service_is_refused_before_anything_is_written(site, change, said):
    site.write(**change)
    if "authtoken" in change:
        site.config.chmod(0o600)
    text = site.refused()
    assert said in text and TOKEN not in text, text


def test_files_that_the_service_could_not_read_or_others_could_change_are_refused(site):
    site.config.chmod(0o640)
    assert "does not let the service read it. chmod o+r" in site.refused()
    site.config.chmod(0o644)

    policy = site.folder / "policy.yml"
    policy.write_text("version: 1\nallow: []\nfoo: 1\n")
    assert "ADIT-1401" in site.refused()
    policy.write_text("version: 1\n")
    policy.chmod(0o600)
    assert f"{policy}: mode 0600" in site.refused()
    policy.chmod(0o644)

    site.token.chmod(0o644)
    assert "ADIT-1003" in site.refused()
    site.token.chmod(0o600)

    site.program.chmod(0o777)
    assert "lets others change what the system runs" in site.refused()
    site.program.chmod(0o755)
    assert "Name another user" in site.refused("--user", "root")
    assert "useradd --system" in site.refused("--user", "nobody-has-this-name")

    site.install("--user", "nobody", "--policy", policy)
    text = site.unit.read_text()
    assert "\nUser=nobody\n" in text and "DynamicUser" not in text and f'--policy "{policy}"'.replace("%", "%%") in text


def test_what_something_else_has_made_is_left_alone(site):
    site.unit.parent.mkdir(parents=True)
    site.unit.write_text("[Service]\n")
    done = site.install(check=False)
    assert done.returncode == 3 and b"--replace" in done.stderr and site.unit.read_text() == "[Service]\n"
    assert site.adit("uninstall", "--root", site.image, check=False).returncode == 3

    site.unit.unlink()
    packaged = site.image / "usr/lib/systemd/system/adit.service"
    packaged.parent.mkdir(parents=True)
    packaged.touch()
    done = site.install(check=False)
    assert done.returncode == 3 and b"is from a package" in done.stderr


MANAGER = """#!/bin/sh
# In the place of systemctl, in the tests: notes what it is asked, and says what stands in the file `state`.
echo "$*" >>"$(dirname "$0")/asked"
case $1 in
  show) cat "$(dirname "$0")/state" ;;
  is-system-running) echo running ;;
esac
"""


class Manager:
    """A program in the place of systemctl."""

    def __init__(self, folder):
        folder.mkdir()
        self.folder = folder
        program = folder / "systemctl"
        program.write_text(MANAGER)
        program.chmod(0o755)
        self.env = {"PATH": f"{folder}:{os.environ['PATH']}"}

    def says(self, **state):
        state = {"LoadState": "loaded", "NRestarts": 0, "UnitFileState": "enabled", **state}
        (self.folder / "state").write_text("".join(f"{key}={value}\n" for key, value in state.items()))

    def asked(self):
        lines = (self.folder / "asked").read_text().splitlines()
        (self.folder / "asked").unlink()
        return [line for line in lines if not line.startswith("show ")]


def test_the_manager_is_told_to_start_and_stop_and_what_it_says_is_passed_on(site):
    manager = Manager(site.folder / "bin")
    manager.says(ActiveState="active", SubState="running", StatusText="online; 1 of 1 endpoints bound", MainPID=42)
    started = site.adit("start", env=manager.env)
    assert manager.asked() == ["start --no-block adit.service"]
    assert "online; 1 of 1 endpoints bound" in started.stdout.decode()
    site.adit("restart", "--name", "adit-west", env=manager.env)
    site.adit("stop", env=manager.env)
    assert manager.asked() == ["restart --no-block adit-west.service", "stop adit.service"]

    state = json.loads(site.adit("status", "--output", "json", env=manager.env).stdout)
    assert (state["active"], state["process"], state["at_boot"]) == ("active", 42, True)

    manager.says(ActiveState="failed", SubState="failed", Result="exit-code", ExecMainStatus=4, StatusText="connecting")
    failed = site.adit("start", env=manager.env, check=False)
    assert failed.returncode == 4 and b"journalctl -u adit.service" in failed.stderr
    assert site.adit("status", env=manager.env, check=False).returncode == 1

    # After a minute systemd waits no more: what it calls active may not be connected.
    for state, more in (("activating", "start"), ("active", "running")):
        manager.says(ActiveState=state, SubState=more, StatusText="connecting: ADIT-1103: network did not answer in time")
        waiting = site.adit("start", "--wait", "0", env=manager.env, check=False)
        assert waiting.returncode == 5 and b"ADIT-1103" in waiting.stderr and b"it goes on trying" in waiting.stderr

    manager.says(LoadState="not-found", ActiveState="inactive")
    missing = site.adit("start", env=manager.env, check=False)
    assert missing.returncode == 1 and b"ADIT-1022" in missing.stderr and b"adit service install" in missing.stderr


def test_where_systemd_does_not_run_nothing_is_written_and_the_ways_out_are_named(site):
    if pathlib.Path("/run/systemd/system").exists():
        pytest.skip("systemd runs here")
    done = site.adit("install", "--config", site.config, "--name", "adit-e2e", check=False)

    assert done.returncode == 1 and b"--root FOLDER" in done.stderr
    assert not pathlib.Path("/etc/systemd/system/adit-e2e.service").exists()


@pytest.mark.parametrize("system", ["launchd", "windows"])
def test_what_other_systems_would_get_is_shown(site, system):
    user = ["--user", "_adit"] if system == "launchd" else []
    shown = site.adit("install", "--config", site.config, "--dry-run", "--system", system, *user).stdout.decode()

    assert TOKEN not in shown
    if system == "launchd":
        import plistlib

        begin = shown.index("<?xml")
        plist = plistlib.loads("\n".join(line.removeprefix("    ") for line in shown[begin:shown.index("</plist>") + 8].splitlines()).encode())
        assert plist["ProgramArguments"][:5] == [str(site.program), "service", "run", "--name", "adit"]
        assert plist["KeepAlive"] == {"SuccessfulExit": False} and plist["UserName"] == "_adit"
    else:
        assert "sc.exe create adit binPath=" in shown and "icacls.exe" in shown


class Systemd:
    """The socket on which systemd hears how a service is."""

    def __init__(self, folder):
        self.path = folder / "notify"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(60)
        self.heard = []

    def wait_for(self, line):
        """Waits for a line among those that were not looked at yet; returns what stood before it."""
        passed = []
        while True:
            while self.heard:
                passed.append(self.heard.pop(0))
                if passed[-1].startswith(line):
                    return passed
            self.heard += self.socket.recv(4096).decode().splitlines()


def test_systemd_hears_when_endpoints_are_bound_when_a_configuration_is_read_and_that_the_loop_turns(registry, tmp_path):
    network = registry.network().start()
    token = network.token("web.e2e.test")
    upstream = registry.upstream(HttpUpstream())
    endpoints = {"web": {"url": "https://web.e2e.test", "upstream": {"url": f"http://localhost:{upstream.port}"}}}
    agent = registry.agent(network, token, endpoints, log_format="logfmt")
    systemd = Systemd(tmp_path)
    credential = tmp_path / "authtoken"
    credential.write_text(token.secret)
    credential.chmod(0o400)
    agent.config.write_text(re.sub(r".*authtoken.*\n", "", agent.config.read_text()))

    # What goes to standard error is the journal if systemd says so by the numbers of that file.
    log = tmp_path / "log"
    with open(log, "wb") as journal:
        numbers = os.fstat(journal.fileno())
        env = {
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "NOTIFY_SOCKET": str(systemd.path),
            "WATCHDOG_USEC": "4000000",
            "JOURNAL_STREAM": f"{numbers.st_dev}:{numbers.st_ino}",
        }
        argv = [AGENT, "start", "--all", "--config", agent.config, "--authtoken-file", credential]
        child = subprocess.Popen([str(part) for part in argv], stdin=subprocess.DEVNULL, stderr=journal, env={**os.environ, **env})
    try:
        assert not any("STATUS=online; 1 of 1" in line for line in systemd.wait_for("READY=1"))
        systemd.wait_for("STATUS=online; 1 of 1 endpoints bound")
        systemd.wait_for("WATCHDOG=1")
        systemd.wait_for("WATCHDOG=1")

        os.kill(child.pid, 1)  # SIGHUP
        systemd.wait_for("RELOADING=1")
        systemd.wait_for("MONOTONIC_USEC=")
        systemd.wait_for("READY=1")
        agent.config.write_text("version: 1\nagent: {}\nendpoint: []\n")
        os.kill(child.pid, 1)
        systemd.wait_for("RELOADING=1")
        systemd.wait_for("READY=1")
        assert "Did you mean `endpoints`?" in systemd.wait_for("STATUS=configuration not taken: ")[-1]

        network.process.kill()
        systemd.wait_for("STATUS=reconnecting")
        child.terminate()
        systemd.wait_for("STOPPING=1")
        child.wait(60)
    finally:
        child.kill()
        child.wait()
    lines = log.read_text().splitlines()
    assert lines and all(re.match(r"<[3467]>", line) for line in lines), lines[:3]
    assert any(line.startswith("<6>") and "endpoint bound" in line for line in lines)
    assert any(line.startswith("<3>") and "configuration not taken" in line for line in lines)
    assert token.secret not in log.read_text()


def test_systemd_is_not_told_that_an_agent_is_there_before_its_endpoint_is_bound(registry, tmp_path):
    network = registry.network()
    token = network.token("web.e2e.test")
    endpoints = {"web": {"url": "https://web.e2e.test", "upstream": {"url": "http://localhost:1"}}}
    agent = registry.agent(network, token, endpoints)
    systemd = Systemd(tmp_path)
    env = {"XDG_STATE_HOME": str(tmp_path / "state"), "NOTIFY_SOCKET": str(systemd.path)}
    agent.process = Process("agent", [AGENT, "start", "--all", "--config", agent.config], env=env)
    agent.runs.append(agent.process)

    before = systemd.wait_for("STATUS=connecting: ADIT-11")
    agent.process.signal(1)  # read again, which must not say that it is there
    agent.process.wait_for("ADIT-11", after=agent.process.mark())
    network.start()
    before += systemd.wait_for("STATUS=online")

    assert before.count("READY=1") == 1 and before.index("READY=1") >= len(before) - 2, before
    assert not any(line.startswith("RELOADING") for line in before)
    wait_until(lambda: agent.stop() == 0, "the agent to end in order")

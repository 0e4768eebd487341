"""The installed service under the real systemd, which runs in namespaces of its own: started, crashed, refused, booted again."""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import tempfile

import pytest

from harness.clients import curl
from harness.deployment import AGENT, DOMAIN, NETWORK, ROOT, yaml
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import run, wait_until
from harness.releases import NEW, OLD, Releases
from harness.systemd import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="namespaces and services need root")


class Installed:
    """A network here, and a machine with the agent's program, configuration and token, as a customer would put them."""

    def __init__(self, registry, folder):
        self.network = registry.network().start()
        self.token = self.network.token(f"web.{DOMAIN}")
        self.upstream = registry.upstream(HttpUpstream())
        self.machine = Machine(folder)
        self.program = folder / "adit"
        shutil.copyfile(AGENT, self.program)
        self.program.chmod(0o755)
        files = self.machine.state / "adit"
        shutil.copyfile(self.network.ca, files / "ca.pem")
        (files / "ca.pem").chmod(0o644)
        agent = {"connect_url": self.network.connect_url, "connect_cas": "ca.pem", "log_level": "debug", "drain_timeout": "1s"}
        endpoint = {"name": "web", "url": f"https://web.{DOMAIN}", "upstream": {"url": f"http://127.0.0.1:{self.upstream.port}"}}
        self.config = files / "adit.yml"
        self.config.write_text(yaml({"version": 1, "agent": agent, "endpoints": [endpoint]}) + "\n")
        self.config.chmod(0o644)

    def adit(self, *argv, **how):
        return self.machine.run(self.program, "service", *argv, **how)

    def install(self, token=None):
        return self.adit("install", "--authtoken-file", "-", stdin=(token or self.token.secret).encode() + b"\n")

    def main(self):
        """The process of the service as this machine knows it."""
        inside = self.machine.show("adit.service", "MainPID")
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            try:
                numbers = re.search(r"^NSpid:\t(.*)$", status.read_text(), re.M).group(1).split()
                where = os.readlink(status.parent / "ns/pid")
            except (OSError, AttributeError):
                continue
            if numbers[-1] == inside and where == os.readlink(f"/proc/{self.machine.first}/ns/pid"):
                return status.parent
        raise AssertionError(f"no process {inside}")

    def answers(self):
        return curl(self.network, f"https://web.{DOMAIN}/hello").status == 200


@pytest.fixture
def installed(registry):
    # Not below /tmp, which the service does not see.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adit-e2e-", dir="/opt"))
    folder.chmod(0o755)
    installed = Installed(registry, folder)
    installed.machine.boot()
    yield installed
    installed.machine.kill()
    shutil.rmtree(folder)


def status(process):
    return dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)


def test_a_service_is_bound_when_it_is_started_has_no_rights_and_comes_back_after_a_crash_and_a_boot(installed):
    machine = installed.machine
    installed.install()
    started = installed.adit("start", "--wait", "60").stdout.decode()

    assert "adit: active (running)" in started and "online; 1 of 1 endpoints bound" in started
    assert installed.answers()

    process = installed.main()
    facts = status(process)
    users = [int(user) for user in facts["Uid"].split()]
    assert all(61_184 <= user <= 65_519 for user in users), users  # those of DynamicUser=
    assert (facts["NoNewPrivs"], facts["Seccomp"], int(facts["CapBnd"], 16), int(facts["CapPrm"], 16)) == ("1", "2", 0, 0)
    # Neither in the command line nor in the environment, and in no file that others read.
    for place in ("cmdline", "environ"):
        assert installed.token.secret.encode() not in (process / place).read_bytes()
    kept = machine.state / "adit" / "adit.token"
    assert (kept.stat().st_mode & 0o777, kept.stat().st_uid) == (0o600, 0)
    log = machine.run("journalctl", "--no-pager", "-u", "adit.service").stdout.decode()
    assert "endpoint bound" in log and installed.token.secret not in log
    graver = machine.run("journalctl", "--no-pager", "-u", "adit.service", "-p", "warning").stdout.decode()
    assert "endpoint bound" not in graver

    # Root finds the agent that runs as somebody who exists only meanwhile.
    board = machine.run(installed.program, "status", "--config", "/etc/adit/adit.yml").stdout.decode()
    assert f"https://web.{DOMAIN}" in board, board

    os.kill(int(process.name), signal.SIGKILL)
    machine.wait_for("adit.service", "NRestarts", "1")
    machine.wait_for("adit.service", "ActiveState", "active")
    assert installed.answers()

    machine.kill()
    machine.boot()
    machine.wait_for("adit.service", "ActiveState", "active")
    assert installed.answers()

    machine.run("systemctl", "reload", "adit.service")
    assert machine.show("adit.service", "ActiveState") == "active"
    installed.adit("stop")
    assert machine.show("adit.service", "Result") == "success" and machine.show("adit.service", "ActiveState") == "inactive"
    installed.adit("uninstall")
    assert machine.show("adit.service", "LoadState") == "not-found" and installed.config.exists() and kept.exists()


def test_a_service_that_is_refused_for_good_or_is_misconfigured_is_not_started_again(installed):
    machine = installed.machine
    wrong = installed.network.token(f"web.{DOMAIN}")
    installed.network.revoke(wrong)
    installed.install(wrong.secret)

    failed = installed.adit("start", "--wait", "60", check=False)

    assert failed.returncode == 4, failed.stderr.decode()
    assert machine.show("adit.service", "NRestarts") == "0" and machine.show("adit.service", "ActiveState") == "failed"
    installed.config.write_text("version: 1\nagents: {}\n")
    failed = installed.adit("start", "--wait", "60", check=False)
    assert failed.returncode == 3 and machine.show("adit.service", "NRestarts") == "0"


def test_a_service_without_a_network_goes_on_trying_and_is_started_when_it_is_bound(installed):
    machine = installed.machine
    installed.install()
    installed.network.process.kill()

    waiting = installed.adit("start", "--wait", "2", check=False)

    assert waiting.returncode == 5 and b"it goes on trying" in waiting.stderr, waiting.stderr.decode()
    assert machine.show("adit.service", "ActiveState") == "activating"
    installed.network.restart()
    machine.wait_for("adit.service", "ActiveState", "active")
    wait_until(installed.answers, "the endpoint to answer")


def test_a_service_replaces_itself_by_nothing_and_root_replaces_it_by_what_connects_alone(installed, registry, tmp_path):
    machine, files = installed.machine, installed.machine.state / "adit"
    run(["strip", "-o", installed.program, AGENT.resolve()])
    program = installed.program.read_bytes()
    releases = registry.upstream(Releases(tmp_path / "releases"))
    shutil.copyfile(releases.ca, files / "releases.pem")
    (files / "releases.pem").chmod(0o644)
    config = installed.config.read_text().replace("agent:\n", f"agent:\n  update: {json.dumps(releases.settings(ca='releases.pem'))}\n")
    installed.config.write_text(config)
    rule = {"name": "all", "endpoints": ["*"], "hosts": ["*"], "addresses": ["127.0.0.0/8"], "ports": ["1-65535"], "protocols": ["http"]}
    policy = files / "policy.yml"
    policy.write_text(yaml({"version": 1, "updates": {"check": True, "install": True}, "allow": [rule]}) + "\n")
    policy.chmod(0o644)
    new = program.replace(OLD, NEW)
    releases.publish(new)

    def update(*argv, code=0):
        argv = [installed.program, "update", "--config", "/etc/adit/adit.yml", "--authtoken-file", "/etc/adit/adit.token", *argv]
        done = machine.run("env", "XDG_STATE_HOME=/etc/adit/state-of-root", *argv, check=False)
        told = (done.stdout + done.stderr).decode()
        assert done.returncode == code, told
        return told

    def version():
        return json.loads(machine.run(installed.program, "version", "--output", "json").stdout)["version"]

    # The policy lets it install what it finds, and its own file is not its to write: it says so and goes on.
    installed.install()
    installed.adit("start", "--wait", "60")
    log = lambda: machine.run("journalctl", "--no-pager", "-u", "adit.service").stdout.decode()  # noqa: E731
    wait_until(lambda: "no update" in log(), "the service says why there is no update", 60)
    assert "ADIT-1008" in log(), log()
    assert version() == "0.1.0" and installed.answers()
    # One that says its version and knows no network: nothing has changed, and the service runs on.
    before = machine.show("adit.service", "MainPID")
    releases.publish(new.replace(b"connect_url", b"connect_uri"), signed=-40)
    assert "ADIT-1036" in update(code=1)
    assert version() == "0.1.0" and installed.answers() and machine.show("adit.service", "MainPID") == before
    # One that connects takes its place, and is what the service runs when it is started again.
    releases.publish(new, signed=-20)
    assert "version 9.9.9 is in the place of 0.1.0" in update()
    assert machine.show("adit.service", "MainPID") == before and installed.answers()
    mark = installed.network.process.mark()
    installed.adit("restart")
    machine.wait_for("adit.service", "ActiveState", "active")
    installed.network.process.wait_for("a session began.*adit/9.9.9|adit/9.9.9.*a session began", deadline=60, after=mark)
    assert version() == "9.9.9" and installed.answers() and machine.show("adit.service", "NRestarts") == "0"


def privileged_port():
    """A free port below 1024."""
    for port in range(600, 1024):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port below 1024")


def test_the_packaged_unit_of_the_network_serves_on_a_port_below_1024_with_that_one_right(registry):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adit-e2e-", dir="/opt"))
    folder.chmod(0o755)
    program = folder / "adit-network"
    shutil.copyfile(NETWORK, program)
    program.chmod(0o755)
    machine = Machine(folder)
    http = privileged_port()
    state = "/var/lib/adit-network"
    config = {
        "version": 1,
        "domains": [DOMAIN],
        "private_ca": f"{state}/pki",
        "database": {"path": f"{state}/adit.db"},
        "ingress": {"listen": f"127.0.0.1:{free_port()}", "names": ["localhost"]},
        "http": {"listen": f"127.0.0.1:{http}"},
        "admin": {"listen": f"127.0.0.1:{free_port()}"},
    }
    (machine.state / "adit" / "network.yml").write_text(yaml(config) + "\n")
    (machine.state / "adit" / "network.yml").chmod(0o644)
    unit = (ROOT / "packaging/systemd/adit-network.service").read_text()
    (machine.state / "system" / "adit-network.service").write_text(unit.replace("/usr/bin/adit-network", str(program)))
    try:
        machine.boot()
        machine.run("adduser", "--system", "--group", "--quiet", "--no-create-home", "--home", state, "adit-network")
        machine.run("install", "-d", "-m", "700", "-o", "adit-network", state)
        as_network = ["setpriv", "--reuid=adit-network", "--regid=adit-network", "--init-groups"]
        machine.run(*as_network, program, "ca", "init", "--config", "/etc/adit/network.yml")

        machine.run("systemctl", "start", "adit-network.service")

        def answers():
            done = run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"http://x.{DOMAIN}:{http}/", "--resolve", f"x.{DOMAIN}:{http}:127.0.0.1"], check=False)
            return done.stdout == b"404"

        wait_until(answers, f"the network to answer on port {http}:\n{machine.run('journalctl', '--no-pager', check=False).stdout.decode()[-2000:]}", 60)
        inside = machine.show("adit-network.service", "MainPID")
        facts = machine.run("cat", f"/proc/{inside}/status").stdout.decode()
        assert re.search(r"^CapEff:\t0000000000000400$", facts, re.M) and re.search(r"^Seccomp:\t2$", facts, re.M), facts
        machine.run("systemctl", "stop", "adit-network.service")
        assert machine.show("adit-network.service", "Result") == "success"
    finally:
        machine.kill()
        shutil.rmtree(folder)

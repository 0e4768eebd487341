"""What freezes an agent at bad moments: while it starts, while a disk or a resolver hangs, and by files that are none."""

import json
import os
import pathlib
import signal
import subprocess

from harness.deployment import AGENT, DOMAIN, yaml
from harness.http_upstream import HttpUpstream
from harness.process import run, wait_until


def agent(registry, tmp_path, **settings):
    network = registry.network().start()
    upstream = registry.upstream(HttpUpstream())
    token = network.token(f"web.{DOMAIN}")
    endpoints = {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": upstream.url}}}
    return network, token, registry.agent(network, token, endpoints, **settings)


def catches(pid, number):
    """Whether the process has taken a signal into its own hands."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(caught >> (number - 1) & 1)


def test_a_signal_while_the_agent_starts_freezes_it_and_does_not_end_it(registry, tmp_path):
    network, token, it = agent(registry, tmp_path, authtoken_file="-")
    it.config.write_text("\n".join(line for line in it.config.read_text().splitlines() if "authtoken:" not in line) + "\n")
    file = it.directory / "frozen"
    # It waits for its token: it has a signal before it has anything else.
    argv = [AGENT, "start", "--all", "--config", it.config]
    environment = {**os.environ, "XDG_STATE_HOME": str(it.state)}
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    registry.closers.append(Killed(child))
    wait_until(lambda: catches(child.pid, signal.SIGUSR1), "the signal to be caught")

    child.send_signal(signal.SIGUSR1)

    wait_until(file.exists, "the file that lasts")
    child.stdin.write(token.secret + "\n")
    child.stdin.flush()
    line = next(line for line in child.stderr if "frozen: everything is closed" in line)
    assert "SIGUSR1" in json.loads(line)["why"]  # from memory or from the file, whichever was seen first
    assert child.poll() is None
    child.terminate()
    assert child.wait(timeout=60) in (0, -signal.SIGTERM)  # which it may not catch yet
    assert "a session began" not in network.process.text()


class Killed:
    def __init__(self, child):
        self.child = child

    def close(self):
        self.child.kill()
        self.child.wait()


def test_pipes_that_nobody_writes_to_hold_nothing_up(registry, tmp_path):
    _, _, it = agent(registry, tmp_path)
    it.start()
    file = it.directory / "frozen"

    os.mkfifo(file)

    it.process.wait_for("frozen: everything is closed")
    file.unlink()
    it.process.wait_for("thawed")
    policy = it.directory / "policy.yml"
    mark = it.process.mark()
    os.mkfifo(policy, 0o600)
    it.process.wait_for("policy not taken", after=mark)
    file.touch()
    it.process.wait_for("frozen: everything is closed", after=mark)
    # Who asks with the pipe in place of a configuration is answered as well.
    for arguments in (["config", "check"], ["start", "--all"]):
        done = run([AGENT, *arguments, "--config", policy], check=False)
        assert done.returncode == 3 and b"it is no regular file" in done.stderr, done.stderr


def command(it, *arguments, **environment):
    argv = [str(part) for part in [AGENT, *arguments]]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env={**os.environ, "XDG_STATE_HOME": str(it.state), **environment})
    return done.returncode, done.stdout + done.stderr


def test_the_command_says_frozen_only_when_the_agent_says_so(registry, tmp_path):
    _, _, it = agent(registry, tmp_path)
    file = it.directory / "frozen"
    # Nobody runs: it stays closed from its start on.
    code, told = command(it, "freeze", "--config", it.config)
    assert code == 8 and f"{file} is there" in told and "No running agent confirmed this: ADIT-1472" in told
    it.spawn()
    it.process.wait_for("frozen: everything is closed")
    # The agent has what it is asked by a moment after it has looked.
    answers = lambda: command(it, "status", "--config", it.config)[0] == 0  # noqa: E731
    wait_until(answers, "the agent to answer")
    assert command(it, "thaw", "--config", it.config) == (0, f"thawed: {file} is gone\n")
    it.wait_bound()
    code, told = command(it, "thaw", "--config", it.config)
    assert code == 0 and told.startswith("nothing was frozen")

    # A configuration that the agent does not have: the file is there, and freezes nobody.
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "adit.yml").write_text(it.config.read_text())
    (elsewhere / "adit.yml").chmod(0o600)
    code, told = command(it, "freeze", "--config", elsewhere / "adit.yml")
    assert code == 8 and (elsewhere / "frozen").exists() and "No running agent confirmed this" in told
    socket = next(it.state.glob("adit/local/*.sock"))
    code, told = command(it, "freeze", "--config", elsewhere / "adit.yml", "--socket", socket)
    # It was asked, did not look there, and does where it keeps what must last.
    assert code == 0 and str(it.state / "adit" / "frozen") in told
    it.process.wait_for("frozen: everything is closed")
    code, told = command(it, "thaw", "--config", elsewhere / "adit.yml", "--socket", socket, "--output", "json")
    assert code == 0 and json.loads(told)["confirmed"] is True

    code, told = command(it, "freeze", "--config", it.config, "--output", "json")
    assert code == 0 and json.loads(told) == {"frozen": True, "files": [str(file)], "confirmed": True, "why_not": None}
    # What freezes it otherwise is told.
    other = it.state / "adit" / "frozen"
    other.mkdir()
    code, told = command(it, "thaw", "--config", it.config)
    assert code != 0, told


def test_a_policy_that_is_gone_is_missed_at_the_next_start(registry, tmp_path):
    _, _, it = agent(registry, tmp_path)
    policy = it.directory / "policy.yml"
    rule = {"name": "all", "endpoints": ["*"], "hosts": ["*"], "addresses": ["127.0.0.0/8"], "ports": ["1-65535"], "protocols": ["http"]}
    policy.write_text(yaml({"version": 1, "allow": [rule]}) + "\n")
    policy.chmod(0o600)
    it.start()
    it.stop()
    policy.unlink()

    it.spawn()

    assert it.process.wait() == 3
    assert f"ADIT-1411: policy that was in force is gone: {policy} was in force here" in it.process.text()
    code, said = command(it, "config", "check", "--config", it.config, "--output", "json")
    (fault,) = json.loads(said)["faults"]
    (mark,) = (it.state / "adit" / "policies").iterdir()
    assert code == 3 and fault["code"] == "ADIT-1411" and f"remove {mark}" in fault["problem"] and fault["remedy"].startswith("Put it back")
    mark.unlink()
    assert command(it, "config", "check", "--config", it.config)[0] == 0
    it.start()

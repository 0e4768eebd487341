"""What freezes an agent at bad moments: while it starts, while a disk or a resolver hangs, and by files that are none."""

import json
import os
import pathlib
import signal
import subprocess

from harness.deployment import AGENT, DOMAIN
from harness.http_upstream import HttpUpstream
from harness.process import Process, run, wait_until


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
    assert str(file) in json.loads(line)["why"]
    assert child.poll() is None
    child.terminate()
    assert child.wait(timeout=60) == 0
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

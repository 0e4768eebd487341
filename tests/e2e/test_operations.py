"""Reload, drain, health, metrics, and what the configuration refuses."""

import hashlib
import signal
import threading

from harness import payload
from harness.clients import curl, dial
from harness.deployment import AGENT, DOMAIN, NETWORK
from harness.http_upstream import HttpUpstream
from harness.process import run, wait_until


def deployment(registry):
    upstream = registry.upstream(HttpUpstream())
    network = registry.network()
    network.start()
    token = network.token(f"web.{DOMAIN}")
    agent = registry.agent(network, token, {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": upstream.url}}})
    agent.start()
    return network, agent, upstream


def start_download(network, size):
    """Starts a download with curl in a thread; `result` gets the hash of the body."""
    result = []

    def download():
        answer = curl(network, f"https://web.{DOMAIN}/download?n={size}")
        result.append(hashlib.sha256(answer.body).hexdigest())

    thread = threading.Thread(target=download)
    thread.start()
    return thread, result


def test_sigterm_of_the_network_lets_a_transfer_finish_and_exits_0(registry):
    network, _, upstream = deployment(registry)
    thread, result = start_download(network, 256 << 20)
    upstream.wait_for(f"/download?n={256 << 20}")
    network.process.signal(signal.SIGTERM)
    thread.join(60)
    assert result == [payload.digest(256 << 20)]
    assert network.process.wait(60) == 0


def test_sigterm_of_the_agent_lets_a_transfer_finish_and_exits_0(registry):
    network, agent, upstream = deployment(registry)
    thread, result = start_download(network, 256 << 20)
    upstream.wait_for(f"/download?n={256 << 20}")
    agent.process.signal(signal.SIGTERM)
    thread.join(60)
    assert result == [payload.digest(256 << 20)]
    assert agent.process.wait(60) == 0


def test_a_held_request_is_answered_during_the_drain_and_readiness_is_false(registry):
    network, _, upstream = deployment(registry)
    assert (network.health("/healthz"), network.health("/readyz")) == (200, 200)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(curl(network, f"https://web.{DOMAIN}/hold").body))
    caller.start()
    upstream.held.acquire(timeout=10)
    network.process.signal(signal.SIGTERM)
    wait_until(lambda: network.health("/readyz") == 503, "readiness to be false")
    assert network.health("/healthz") == 200
    upstream.release.release()
    caller.join(20)
    assert answers == [b"held\n"]
    assert network.process.wait(30) == 0


def test_sighup_reloads_without_dropping_a_connection(registry):
    network, _, _ = deployment(registry)
    with dial(network.ports["http"]) as sock:
        request = f"GET /hello HTTP/1.1\r\nHost: nobody.{DOMAIN}\r\n\r\n".encode()
        sock.sendall(request)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 404")
        mark = network.process.mark()
        network.settings = {"log": {"format": "json", "level": "info"}}
        network.write_config()
        network.process.signal(signal.SIGHUP)
        network.process.wait_for("reloaded", after=mark)
        sock.sendall(request)
        assert sock.recv(1 << 16).startswith(b"HTTP/1.1 404")
    assert curl(network, f"https://web.{DOMAIN}/hello").status == 200


def test_a_reload_of_a_broken_file_keeps_the_old_configuration(registry):
    network, _, _ = deployment(registry)
    mark = network.process.mark()
    network.config.write_text("version: 1\nhttp: [this is: wrong\n")
    network.process.signal(signal.SIGHUP)
    network.process.wait_for("the old one stays in force", after=mark)
    assert curl(network, f"https://web.{DOMAIN}/hello").status == 200


def test_config_check_names_file_line_and_key(registry):
    network = registry.network()
    assert run([NETWORK, "config", "check", "--config", network.config]).returncode == 0
    lines = network.config.read_text().splitlines()
    network.config.write_text("\n".join(["versionn: 1", *lines]) + "\n")
    done = run([NETWORK, "config", "check", "--config", network.config], check=False)
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 3
    assert f"{network.config}: line 1, column 1: versionn" in said


def test_the_agent_checks_its_configuration_and_the_mode_of_the_file(registry):
    network = registry.network()
    token = network.token(f"web.{DOMAIN}")
    agent = registry.agent(network, token, {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": "http://127.0.0.1:1"}}})
    assert run([AGENT, "config", "check", "--config", agent.config]).returncode == 0
    agent.config.chmod(0o666)
    done = run([AGENT, "config", "check", "--config", agent.config], check=False)
    assert done.returncode == 3
    assert b"666" in done.stderr + done.stdout


def test_metrics_count_sessions_and_the_admin_listener_is_on_loopback(registry):
    network, _, _ = deployment(registry)
    assert curl(network, f"https://web.{DOMAIN}/hello").status == 200
    text = network.metrics()
    assert "adit_" in text
    assert "# EOF" in text
    assert network.secrets[0] not in text


def test_a_token_is_never_on_a_command_line(registry):
    network, agent, _ = deployment(registry)
    for process in (network.process, agent.process):
        with open(f"/proc/{process.pid}/cmdline", "rb") as cmdline:
            assert network.secrets[0].encode() not in cmdline.read()


def test_the_database_holds_no_token(registry):
    network, _, _ = deployment(registry)
    for path in network.directory.glob("network.db*"):
        assert network.secrets[0].encode() not in path.read_bytes()

"""What programs on the agent's machine may ask it: who is let in, what is told, and what of requests is kept."""

import contextlib
import json
import os
import pathlib
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import urllib.parse

import pytest

from harness.clients import curl, dial, receive
from harness.deployment import AGENT, DOMAIN, yaml
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import DEADLINE, wait_until
from harness.raw_upstream import RawUpstream, echo


class Site:
    """A network, an agent with an HTTP and a TCP endpoint, and whoever asks the agent."""

    def __init__(self, registry, policy=None, **local):
        self.registry = registry
        self.network = registry.network().start()
        self.http = registry.upstream(HttpUpstream())
        self.raw = registry.upstream(RawUpstream(echo))
        self.port = free_port()
        token = self.network.token(f"web.{DOMAIN}", f"tcp:{self.port}")
        self.http_port = urllib.parse.urlsplit(self.http.url).port
        endpoints = {
            "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": f"http://localhost:{self.http_port}"}},
            "raw": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://localhost:{self.raw.port}"}},
        }
        self.agent = registry.agent(self.network, token, endpoints, **({"local": local} if local else {}))
        # The path of a socket has room for 107 octets, and the folders of tests are deep.
        folders = contextlib.ExitStack()
        self.agent.state = folders.enter_context(tempfile.TemporaryDirectory(prefix="adit-"))
        registry.upstream(folders)
        self.secret = token.secret
        if policy is not None:
            self.write(**policy)

    def write(self, web=True, **whole):
        """Puts a policy in force: both endpoints are allowed, but for what is said."""
        ports = [self.http_port, self.raw.port] if web else [self.raw.port]
        rule = {"name": "all", "endpoints": ["*"], "hosts": ["localhost"], "ports": ports, "protocols": ["http", "tcp"]}
        policy = self.agent.directory / "policy.yml"
        draft = policy.with_suffix(".draft")
        draft.write_text(yaml({"version": 1, **whole, "allow": [rule]}) + "\n")
        draft.chmod(0o600)
        draft.rename(policy)

    def start(self):
        self.agent.start()
        self.socket = self.agent.process.wait_for(r'"socket":"([^"]+)"').group(1)
        return self

    def adit(self, *arguments):
        """Runs the program beside the agent; returns exit code, standard output and standard error."""
        environment = {**os.environ, "XDG_STATE_HOME": str(self.agent.state)}
        argv = [str(AGENT), "--config", str(self.agent.config), *map(str, arguments)]
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=120)
        return done.returncode, done.stdout, done.stderr

    def told(self, *arguments):
        code, out, error = self.adit(*arguments, "--output", "json")
        assert code == 0, error
        return json.loads(out)

    def get(self, path="hello", *options):
        return curl(self.network, f"https://web.{DOMAIN}/{path}", *options)

    def requests(self, count):
        """Waits until so many requests are kept; the newest first."""

        def look():
            listed = self.told("requests", "list")["requests"]
            return listed if len(listed) >= count else None

        return wait_until(look, f"{count} requests kept")


def ask(where, path, method="GET", **fields):
    """Asks at a Unix socket or a port; returns the status and what was said, 0 where nothing was."""
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    with contextlib.closing(connect(where)) as sock:
        try:
            sock.sendall(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
            answer = b"".join(iter(lambda: sock.recv(65536), b""))
        except (BrokenPipeError, ConnectionResetError):
            return 0, None
    if not answer:
        return 0, None
    head, body = answer.split(b"\r\n\r\n", 1)
    return int(head.split(b" ")[1]), json.loads(body)


def connect(where):
    if isinstance(where, int):
        return socket.create_connection(("127.0.0.1", where), timeout=DEADLINE)
    sock = socket.socket(socket.AF_UNIX)
    # Not by settimeout: that makes it one that fails at once when many wait there.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(DEADLINE), 0))
    sock.connect(str(where))
    sock.settimeout(DEADLINE)
    return sock


CAPTURE = {"capture": {"requests": 20, "redact": ["x-pin"]}}


def test_status_shows_the_session_the_endpoints_and_who_can_read(registry):
    site = Site(registry).start()
    assert site.get().status == 200

    status = site.told("status")

    assert (status["session"]["state"], status["session"]["online"]) == ("online", 1)
    web, raw = status["endpoints"]
    assert (web["name"], web["bound"], web["tls_end"], raw["tls_end"]) == ("web", True, "network", "")
    assert status["connections"]["total"] >= 1 and status["configuration"] == [str(site.agent.config)]
    assert wait_until(lambda: site.told("status")["round_trip_ms"], "a round trip") > 0
    code, text, _ = site.adit("status")
    assert code == 0 and "TLS of callers ends at the network, which can read what they send" in text
    assert site.secret not in text + json.dumps(status)


def test_an_agent_whose_state_lies_deep_can_be_asked_too(registry):
    site = Site(registry)
    deep = pathlib.Path(site.agent.state) / ("x" * 120) / ("y" * 120)
    deep.mkdir(parents=True)
    site.agent.state = str(deep)
    site.start()

    assert len(site.socket) > 107 and site.socket.startswith(str(deep))
    assert stat.S_IMODE(os.stat(site.socket).st_mode) == 0o600
    assert site.told("status")["session"]["state"] == "online"
    assert site.adit("status", "--socket", site.socket)[0] == 0
    folder, name = os.path.split(site.socket)
    done = subprocess.run(["curl", "-sf", "--unix-socket", name, "http://localhost/v1/status"], cwd=folder, capture_output=True, timeout=120)
    assert done.returncode == 0 and json.loads(done.stdout)["session"]["state"] == "online"


def test_after_the_network_was_stopped_the_status_says_why_and_which_step_fails(registry):
    site = Site(registry).start()
    status = site.told("status")
    assert [step["outcome"] for step in status["attempt"]["steps"]] == ["ok"] * len(status["attempt"]["steps"])
    assert {"dns", "tcp", "tls", "session"} <= {step["step"] for step in status["attempt"]["steps"]}
    assert status["attempt"]["error"] is None and status["disconnects"] == []
    beat = status["heartbeat"]
    assert beat["dead_after_seconds"] == beat["interval_seconds"] + beat["tolerance_seconds"] > 0

    site.network.process.kill()

    def failing():
        status = site.told("status")
        attempt = status["attempt"]
        failed = [step for step in attempt["steps"] if step["outcome"] == "failed"]
        return status if status["session"]["state"] == "reconnecting" and failed and attempt["error"] else None

    status = wait_until(failing, "an attempt that failed")
    assert status["disconnects"] and status["disconnects"][-1]["reason"].startswith("ADIT-1")
    code, text, _ = site.adit("status")
    assert code == 0 and "Last disconnects" in text and status["disconnects"][-1]["reason"] in text
    site.network.restart()
    wait_until(lambda: site.told("status")["session"]["state"] == "online", "the session to be back")
    assert site.told("status")["disconnects"], "they are remembered"


def test_connections_are_shown_with_caller_target_and_octets(registry):
    site = Site(registry).start()
    with dial(site.port) as sock:
        sock.sendall(b"twelve octet")
        assert receive(sock, 12) == b"twelve octet"

        status, told = ask(site.socket, "/v1/connections")

        assert status == 200
        (one,) = [one for one in told["connections"] if one["endpoint"] == "raw"]
        assert one["caller"] == "{}:{}".format(*sock.getsockname())
        assert (one["upstream"], one["octets_up"], one["octets_down"]) == (f"localhost:{site.raw.port}", 12, 12)
        assert (told["open"], told["more"]) == (len(told["connections"]), 0)
    wait_until(lambda: ask(site.socket, "/v1/connections")[1]["open"] == 0, "the connection to be gone")
    assert ask(site.socket, "/v1/connections?limit=0")[1]["connections"] == []


def test_the_log_is_shown_and_followed(registry):
    site = Site(registry).start()
    status, told = ask(site.socket, "/v1/logs?limit=1000")
    assert status == 200 and any(line["message"] == "endpoint bound" and line["name"] == "web" for line in told["lines"])

    with contextlib.closing(connect(site.socket)) as waiting:
        waiting.sendall(f"GET /v1/logs?from={told['next']}&wait=25 HTTP/1.1\r\n\r\n".encode())
        assert site.get().status == 200
        answer = b"".join(iter(lambda: waiting.recv(65536), b""))

    lines = json.loads(answer.split(b"\r\n\r\n", 1)[1])["lines"]
    assert lines
    code, text, _ = site.adit("logs", "--lines", 5)
    assert (code, len(text.splitlines())) == (0, 5)


def test_the_socket_is_its_owners_goes_with_the_agent_and_a_stale_one_is_replaced(registry):
    site = Site(registry).start()
    found = os.stat(site.socket)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(site.socket)).st_mode) == 0o700

    site.agent.process.kill()

    assert os.path.exists(site.socket), "it could not clean up"
    code, _, error = site.adit("status")
    assert code == 7 and "ADIT-1472" in error
    first = site.socket
    site.start()
    assert site.socket == first and site.told("status")["process"] == site.agent.process.pid
    site.agent.stop()
    assert not os.path.exists(site.socket)
    assert site.adit("status")[0] == 7


def test_a_socket_whose_file_was_removed_is_made_again(registry):
    site = Site(registry).start()
    os.unlink(site.socket)
    assert site.adit("status")[0] == 7
    wait_until(lambda: site.adit("status")[0] == 0, "the socket to be made again")
    shutil.rmtree(os.path.dirname(site.socket))
    wait_until(lambda: site.adit("status")[0] == 0, "the folder to be made again")
    assert site.agent.stop() == 0
    assert not os.path.exists(site.socket)


def test_who_reads_no_further_and_an_agent_that_is_not_there_are_told_by_their_exit_codes(registry):
    site = Site(registry, address=f"127.0.0.1:{free_port()}", socket="off")
    environment = {**os.environ, "XDG_STATE_HOME": str(site.agent.state)}
    for command in ("errors", "config schema", "version"):
        reader, writer = os.pipe()
        os.close(reader)  # nobody reads, from the first octet on
        done = subprocess.run([str(AGENT), *command.split()], stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=120)
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, b""), command

    code, _, error = site.adit("status")
    assert code == 7 and "ADIT-1472" in error and "there is no token in" in error, error

    site.agent.start()
    assert site.adit("status")[0] == 0
    environment["ADIT_AUTHTOKEN"] = ""
    argv = [str(AGENT), "--config", str(site.agent.config), "logs", "--follow"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as follower:
        follower.stdout.readline()
        site.agent.stop()
        _, error = follower.communicate(timeout=120)
    assert follower.returncode == 7 and "ADIT-1472" in error and "what answers is no agent" not in error, error


def test_another_agent_of_the_same_configuration_takes_nothing_from_the_first(registry):
    site = Site(registry).start()
    first, process = site.socket, site.agent.process

    site.agent.spawn()
    second = site.agent.process.wait_for(r'"socket":"([^"]+)"').group(1)

    assert second != first and ask(first, "/v1/status")[1]["process"] == process.pid
    assert ask(second, "/v1/status")[1]["process"] == site.agent.process.pid


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused_by_the_file_and_by_the_agent(registry):
    folder = tempfile.mkdtemp()
    try:
        os.chmod(folder, 0o755)
        site = Site(registry, socket=f"{folder}/a.sock").start()
        script = (
            "import socket, sys\n"
            "sock = socket.socket(socket.AF_UNIX)\n"
            "try:\n"
            "    sock.connect(sys.argv[1])\n"
            "    sock.sendall(b'GET /v1/status HTTP/1.1\\r\\n\\r\\n')\n"
            "    print(len(sock.recv(100)))\n"
            "except (PermissionError, ConnectionResetError, BrokenPipeError) as error:\n"
            "    print(type(error).__name__)\n"
        )

        def as_nobody():
            argv = [shutil.which("python3", path="/usr/bin:/bin") or sys.executable, "-c", script, site.socket]
            done = subprocess.run(argv, capture_output=True, text=True, user="nobody", extra_groups=[], cwd="/", timeout=60)
            return done.stdout.strip() or done.stderr

        assert as_nobody() == "PermissionError"
        os.chmod(site.socket, 0o666)  # as on a system that does not look at the mode of sockets
        assert as_nobody() in ("0", "ConnectionResetError", "BrokenPipeError")
        assert ask(site.socket, "/v1/status")[0] == 200
    finally:
        shutil.rmtree(folder)


def test_over_tcp_the_token_the_name_and_no_page_of_a_browser(registry, tmp_path):
    port, file = free_port(), tmp_path / "token"
    site = Site(registry, address=f"127.0.0.1:{port}", token_file=str(file), socket="off")
    site.agent.start()
    site.agent.process.wait_for(r'"address":"127.0.0.1:')
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    token = f"Bearer {file.read_text().strip()}"
    host = f"127.0.0.1:{port}"

    assert ask(port, "/v1/status", host=host, authorization=token)[0] == 200
    for status, fields in [
        (401, {"host": host}),
        (401, {"host": host, "authorization": "Bearer " + "0" * 64}),
        (421, {"host": f"rebound.example:{port}", "authorization": token}),
        (421, {"authorization": token}),
        (403, {"host": host, "authorization": token, "origin": f"http://{host}"}),
    ]:
        answered, told = ask(port, "/v1/status", **fields)
        assert (answered, told["error"]["code"]) == (status, "ADIT-1473"), fields
    # The command finds token and address by the configuration.
    assert site.told("status")["process"] == site.agent.process.pid
    assert token[7:] not in site.agent.process.text()


def test_over_tcp_a_token_that_nobody_named_is_made_anew_with_each_start(registry):
    port = free_port()
    site = Site(registry, address=f"127.0.0.1:{port}", socket="off")
    host, tokens = f"127.0.0.1:{port}", []
    for _ in range(2):
        site.agent.start()
        site.agent.process.wait_for(r'"address":"127.0.0.1:')
        (file,) = pathlib.Path(site.agent.state).glob("**/*.token")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        tokens.append(f"Bearer {file.read_text().strip()}")
        assert ask(port, "/v1/status", host=host, authorization=tokens[-1])[0] == 200
        if len(tokens) < 2:
            site.agent.stop()

    # What somebody was told while no agent ran is good for nothing.
    assert tokens[0] != tokens[1]
    assert ask(port, "/v1/status", host=host, authorization=tokens[0])[0] == 401


def test_nothing_is_captured_unless_policy_and_configuration_both_want_it(registry):
    site = Site(registry, policy={"capture": True}).start()
    assert site.get().status == 200
    code, _, error = site.adit("requests", "list")
    assert code == 6 and "ADIT-1476" in error and "agent.local.capture.requests of the configuration is 0" in error


@pytest.mark.parametrize("policy", [None, {}, {"capture": False}])
def test_without_leave_of_the_policy_nothing_is_captured(registry, policy):
    site = Site(registry, policy=policy, **CAPTURE).start()
    assert site.get().status == 200
    code, _, error = site.adit("requests", "list")
    assert code == 6 and "ADIT-1476" in error and "policy does not say `capture: true`" in error
    capture = site.told("status")["capture"]
    assert (capture["on"], capture["asked"], capture["kept"]) == (False, True, 0)


def test_requests_are_kept_without_what_lets_somebody_in(registry):
    site = Site(registry, policy={"capture": True}, **CAPTURE).start()
    secrets = ["b3arer", "c00kie", "p1n", "qu3ry"]
    fields = ["-H", "Authorization: Bearer b3arer", "-H", "Cookie: a=c00kie", "-H", "X-Pin: p1n"]
    answer = site.get("echo?access_token=qu3ry&x=1", *fields, "-d", "some body")
    assert (answer.status, answer.body) == (200, b"some body")

    (listed,) = site.requests(1)
    whole = site.told("requests", "show", listed["id"])

    assert (listed["method"], listed["target"], listed["status"]) == ("POST", "/echo?access_token=[redacted]&x=1", 200)
    assert (whole["request"]["body"]["text"], whole["answer"]["body"]["text"]) == ("some body", "some body")
    redacted = {field["name"].lower() for field in whole["request"]["fields"] if field.get("redacted")}
    assert redacted == {"authorization", "cookie", "x-pin"}
    assert not whole["replay"]["possible"]
    code, text, _ = site.adit("requests", "show", listed["id"])
    assert code == 0 and "authorization: [redacted]" in text.lower()
    everything = text + json.dumps(whole) + site.agent.process.text()
    assert [secret for secret in secrets if secret in everything] == []
    assert ask(site.socket, "/v1/requests/999")[0] == 404


def test_what_is_kept_is_bounded_and_large_bodies_are_cut(registry):
    site = Site(registry, policy={"capture": True}, capture={"requests": 3, "body": 10}).start()
    for number in range(5):
        assert site.get(f"echo?n={number}", "-d", "0123456789abcdef").status == 200

    def last():
        listed = site.told("requests", "list")["requests"]
        return listed if listed and listed[0]["target"] == "/echo?n=4" else None

    listed = wait_until(last, "the last request to be kept")
    assert [request["target"] for request in listed] == ["/echo?n=4", "/echo?n=3", "/echo?n=2"]
    body = site.told("requests", "show", listed[0]["id"])["request"]["body"]
    assert (body["octets"], body["kept"], body["cut"], body["text"]) == (16, 10, True, "0123456789")
    code, _, error = site.adit("requests", "replay", listed[0]["id"])
    assert code == 1 and "ADIT-1477" in error and "agent.local.capture.body" in error


def test_a_policy_that_is_tightened_empties_the_store_at_once(registry):
    site = Site(registry, policy={"capture": True}, **CAPTURE).start()
    assert site.get().status == 200
    (listed,) = site.requests(1)

    site.write(capture=False)

    site.agent.process.wait_for("capture is not allowed any more: what was kept is forgotten")
    assert ask(site.socket, "/v1/requests")[0] == 403
    assert ask(site.socket, f"/v1/requests/{listed['id']}")[0] == 403
    site.write(capture=True)
    wait_until(lambda: ask(site.socket, "/v1/requests")[0] == 200, "capture to be allowed again")
    assert ask(site.socket, "/v1/requests")[1]["requests"] == []


def test_a_request_is_sent_again_by_the_same_rules_and_says_so(registry):
    site = Site(registry, policy={"capture": True}, **CAPTURE).start()
    assert site.get("echo", "-H", "Authorization: Bearer b3arer", "-d", "again").status == 200
    (listed,) = site.requests(1)

    told = site.told("requests", "replay", listed["id"])

    assert (told["status"], told["answer"]["body"]["text"], told["replay_of"]) == (200, "again", listed["id"])
    assert [name.lower() for name in told["omitted"]] == ["authorization"]
    seen = site.http.requests[-1]
    assert (seen.method, seen.path, seen.headers["X-Adit-Replay"]) == ("POST", "/echo", str(listed["id"]))
    assert "Authorization" not in seen.headers and seen.headers["Host"].startswith(f"web.{DOMAIN}")
    assert len(site.requests(2)) == 2
    # The rule that let callers through is gone, and capture is allowed still.
    count, mark = len(site.http.requests), site.agent.process.mark()
    site.write(web=False, capture=True)
    site.agent.process.wait_for("policy in force", after=mark)
    status, told = ask(site.socket, f"/v1/requests/{listed['id']}/replay", "POST")
    assert (status, told["error"]["code"]) == (403, "ADIT-1402") and len(site.http.requests) == count
    site.agent.process.wait_for("connection refused by the policy", after=mark)


def test_a_flood_of_questions_holds_up_neither_callers_nor_who_asks(registry, tmp_path):
    port = free_port()
    site = Site(registry, address=f"127.0.0.1:{port}").start()
    site.agent.process.wait_for(r'"address":"127.0.0.1:')
    with contextlib.ExitStack() as stack:
        for _ in range(150):
            for where in (site.socket, port):
                silent = stack.enter_context(contextlib.closing(connect(where)))
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    silent.sendall(b"GET /v1/sta")
        assert site.get().status == 200
        assert ask(site.socket, "/v1/status")[0] == 200
        assert len(os.listdir(f"/proc/{site.agent.process.pid}/fd")) < 150
    assert ask(site.socket, "/v1/" + "x" * 9000)[0] == 431
    assert ask(site.socket, "/v1/status", "POST", content_length=5)[0] == 413
    assert site.get().status == 200

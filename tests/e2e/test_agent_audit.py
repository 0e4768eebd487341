"""The audit log of the agent: what is in it, what a crash, a full disk and a change of it do, and who may read it."""

import hashlib
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import urllib.parse

import pytest

from harness.clients import curl, dial, receive
from harness.deployment import AGENT, DOMAIN, yaml
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import Process, run, wait_until
from harness.raw_upstream import RawUpstream, echo


class Counting:
    """An upstream that counts whom it has met, and keeps them."""

    def __init__(self):
        self.met = 0
        self.lock = threading.Lock()
        self.upstream = RawUpstream(self.serve)
        self.port = self.upstream.port

    def serve(self, sock):
        with self.lock:
            self.met += 1
        echo(sock)

    def close(self):
        self.upstream.close()


class Site:
    """A network, one agent under a policy that has an audit log, an HTTP and a TCP endpoint."""

    def __init__(self, registry, tmp_path, audit=None, **agent):
        self.registry = registry
        self.access = tmp_path / "access.log"
        self.network = registry.network(log={"format": "json", "level": "debug", "access": {"to": str(self.access)}}).start()
        self.http = registry.upstream(HttpUpstream())
        self.raw = registry.upstream(Counting())
        self.port = free_port()
        self.token = self.network.token(f"web.{DOMAIN}", f"tcp:{self.port}")
        self.http_port = urllib.parse.urlsplit(self.http.url).port
        endpoints = {
            "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": f"http://localhost:{self.http_port}"}},
            "raw": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://localhost:{self.raw.port}"}},
        }
        self.agent = registry.agent(self.network, self.token, endpoints, **agent)
        self.policy = self.agent.directory / "policy.yml"
        self.folder = self.agent.directory / "state" / "adit" / "audit"
        self.write(audit=audit)

    def write(self, audit=None, **raw):
        web = {"name": "web", "endpoints": ["https://*"], "hosts": ["localhost"], "ports": [self.http_port], "protocols": ["http"]}
        tcp = {"name": "raw", "endpoints": [f"tcp://:{self.port}"], "hosts": ["localhost"], "ports": [self.raw.port], "protocols": ["tcp"], **raw}
        whole = {"version": 1, **({"audit": audit} if audit else {})}
        draft = self.policy.with_suffix(".draft")
        draft.write_text(yaml({**whole, "allow": [web, tcp]}) + "\n")
        draft.chmod(0o600)
        draft.rename(self.policy)

    def adit(self, *arguments, check=True):
        env = {"XDG_STATE_HOME": str(self.agent.directory / "state")}
        return run([AGENT, *arguments, "--config", self.agent.config], check=check, env=env)

    def records(self, *arguments):
        shown = self.adit("audit", "show", "--output", "json", *arguments)
        return [json.loads(line) for line in shown.stdout.decode().splitlines()]

    def of(self, kind, *arguments):
        return self.records("--kind", kind, *arguments)

    def verify(self, *arguments):
        done = self.adit("audit", "verify", "--output", "json", *arguments, check=False)
        return done.returncode, json.loads(done.stdout)

    def call_refused(self):
        with dial(self.port) as sock:
            sock.sendall(b"x")
            if sock.recv(1) == b"":
                raise ConnectionError("ended")

    def told(self, message, after=0, **fields):
        def look():
            for line in self.agent.process.lines[after:]:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry.get("message") == message and all(entry.get(key) == value for key, value in fields.items()):
                    return entry
            return None

        return wait_until(look, f"{message} {fields} in:\n{self.agent.process.text()[-3000:]}")

    def call(self, octets=b"alive"):
        with dial(self.port) as sock:
            sock.sendall(octets)
            assert receive(sock, len(octets)) == octets


def holds(lines):
    """The chain as anybody can verify it: each line names the hash of the one before, and ends with its own."""
    previous = None
    for line in lines:
        record, body = json.loads(line), line[: line.rindex(',"hash":"')]
        assert record["hash"] == hashlib.sha256(body.encode()).hexdigest()
        assert previous is None or record["prev"] == previous
        previous = record["hash"]
    return True


def test_every_connection_bind_session_and_change_is_written_down_with_who_and_what_and_under_which_policy(registry, tmp_path):
    site = Site(registry, tmp_path, remote_management={"restart": True})
    site.agent.start()
    with dial(site.port) as sock:
        mine = "{}:{}".format(*sock.getsockname())
        sock.sendall(b"x" * 1_000)
        assert receive(sock, 1_000) == b"x" * 1_000
    assert curl(site.network, f"https://web.{DOMAIN}/hello").status == 200
    wait_until(lambda: site.of("end", "--endpoint", "raw"), "the end of the connection")
    version = hashlib.sha256(site.policy.read_bytes()).hexdigest()

    (begun,) = site.of("connection", "--endpoint", "raw")
    (ended,) = site.of("end", "--endpoint", "raw")
    assert (begun["decision"], begun["caller"], begun["rule"], begun["policy"]) == ("allowed", mine, "raw", version[:16])
    assert (begun["target"], begun["protocol"], begun["url"]) == (f"localhost:{site.raw.port}", "tcp", f"tcp://:{site.port}")
    assert (ended["begin"], ended["up"], ended["down"], ended["ending"]) == (begun["seq"], 1_000, 1_000, "complete")
    assert ended["address"] == "127.0.0.1" and ended["millis"] >= 0 and begun["time"] <= ended["time"]
    assert [record["sha256"] for record in site.of("policy")] == [version]
    assert {record["endpoint"] for record in site.of("bind", "--decision", "allowed")} == {"web", "raw"}
    assert [record["event"] for record in site.of("session")] == ["began"]
    assert site.of("connection", "--endpoint", "web")[0]["sni"] == f"web.{DOMAIN}"

    site.write(hosts=["127.0.0.2"])
    wait_until(lambda: len(site.of("policy")) == 2, "the change of the policy")
    for _ in range(3):
        with pytest.raises(ConnectionError):
            site.call_refused()
    refused = site.of("refused", "--decision", "refused")
    assert (refused[0]["reason"], refused[0]["rule"], refused[0]["told"]) == ("host", "raw", "POLICY")
    wait_until(lambda: sum(record.get("more", 1) for record in site.of("refused")) == 3, "all refusals to be counted")

    site.agent.process.signal(signal.SIGHUP)
    wait_until(lambda: [record["event"] for record in site.of("configuration")] == ["taken"], "the configuration to be read again")

    site.adit("freeze")
    wait_until(lambda: site.of("freeze"), "the freeze")
    mark = site.agent.process.mark()
    site.adit("thaw")
    site.agent.wait_bound(after=mark)
    assert site.agent.stop() == 0
    kinds = [record["kind"] for record in site.records()]
    assert kinds[0] == "start" and kinds[-1] == "stop" and "thaw" in kinds

    # Anybody can verify it; and nobody else may read it.
    (file,) = site.folder.glob("audit-*.jsonl")
    assert holds(file.read_text().splitlines())
    assert file.stat().st_mode & 0o777 == 0o600 and site.folder.stat().st_mode & 0o777 == 0o700
    code, verified = site.verify()
    assert (code, verified["fits"], verified["first"], verified["last"]) == (0, True, 1, len(kinds))
    text = site.adit("explain").stdout.decode()
    assert f"audit log    {site.folder}: sessions, binds" in text and "new connections are refused" in text
    assert site.token.secret not in file.read_text()


def test_it_is_exported_resumed_and_followed(registry, tmp_path):
    site = Site(registry, tmp_path)
    site.agent.start()
    site.call()
    wait_until(lambda: site.of("end"), "the end of the connection")

    out = tmp_path / "out.jsonl"
    site.adit("audit", "export", "--to", out)
    first = out.read_text().splitlines()
    last = json.loads(first[-1])["seq"]
    assert out.stat().st_mode & 0o777 == 0o600
    follower = Process("follower", [AGENT, "audit", "export", "--after", last, "--follow", "--path", site.folder])
    try:
        site.call()
        wait_until(lambda: len(follower.lines) >= 2, "what is written to follow")
        assert [json.loads(line)["kind"] for line in follower.lines[:2]] == ["connection", "end"]
    finally:
        follower.kill()
    site.adit("audit", "export", "--after", last, "--to", out)
    lines = out.read_text().splitlines()
    assert holds(lines) and [json.loads(line)["seq"] for line in lines] == list(range(1, len(lines) + 1))

    syslog = site.adit("audit", "export", "--format", "syslog").stdout.decode().splitlines()
    form = re.compile(r"<(\d+)>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \S+ adit - ([a-z]+) - (\{.*\})")
    for line, original in zip(syslog, lines):
        priority, kind, message = form.fullmatch(line).groups()
        assert message == original and kind == json.loads(original)["kind"] and priority in ("108", "109")
    assert site.records("--since", "2030-01-01") == [] and len(site.records("--since", "1h")) >= len(lines)


def test_what_was_changed_is_told_with_its_place_and_the_agent_does_not_go_on_with_it(registry, tmp_path):
    site = Site(registry, tmp_path)
    site.agent.start()
    site.call()
    wait_until(lambda: site.of("end"), "the end of the connection")
    site.agent.stop()
    _, before = site.verify()
    (file,) = site.folder.glob("audit-*.jsonl")
    text = file.read_text()
    at = next(number for number, line in enumerate(text.splitlines(), 1) if '"kind":"connection"' in line)

    file.write_text(text.replace('"kind":"connection","decision":"allowed"', '"kind":"connection","decision":"refused"'))
    code, verified = site.verify()
    assert (code, verified["fits"], verified["line"], verified["after"]) == (1, False, at, at - 1)
    assert verified["file"] == str(file) and "it was changed" in verified["problem"]
    site.agent.spawn()
    assert site.agent.process.wait() == 1
    assert "ADIT-1405" in site.agent.process.text() and f"{file}:{at}" in site.agent.process.text()

    # Records cut off at the end are missed by the agent's own note of the last, and by whoever knew it.
    file.write_text("".join(text.splitlines(keepends=True)[:-2]))
    missed = f"record {before['last']}, as it was known, is not there"
    code, verified = site.verify()
    assert code == 1 and missed in verified["problem"] and verified["code"] == "ADIT-1405"
    (site.folder / "head").unlink()
    assert site.verify()[0] == 0
    code, verified = site.verify("--head", before["head"])
    assert code == 1 and missed in verified["problem"]
    # Whoever has exported more than there is hears of it.
    assert site.adit("audit", "export", "--after", before["last"] - 2).stdout == b""
    done = site.adit("audit", "export", "--after", before["last"], check=False)
    assert done.returncode == 1 and f"record {before['last']} is not there, the last is {before['last'] - 2}" in done.stderr.decode()


def test_a_file_that_is_removed_or_emptied_while_the_agent_runs_stops_connections_and_is_missed_at_the_next_start(registry, tmp_path):
    socket = pathlib.Path(tempfile.mkdtemp(prefix="adit-")) / "a.sock"  # the path of one has little room
    site = Site(registry, tmp_path, local={"socket": str(socket)})
    site.agent.start()
    site.call()
    wait_until(lambda: site.of("end"), "the end of the connection")
    (file,) = site.folder.glob("audit-*.jsonl")
    aside = tmp_path / "aside"

    # Moved away with its folder, and put back: seen although nothing is written, and gone on with.
    site.folder.rename(aside)
    line = site.told("audit log cannot be written", level="error")
    assert line["error"].startswith("ADIT-1404") and "removed or moved away" in line["error"]
    with pytest.raises(ConnectionError):
        site.call_refused()
    status = json.loads(site.adit("status", "--socket", socket, "--output", "json").stdout)["audit"]
    assert "ADIT-1404" in status["problem"] and "removed or moved away" in status["problem"] and status["refuses"]
    assert "new connections are refused" in site.adit("status", "--socket", socket).stdout.decode()
    mark = site.agent.process.mark()
    aside.rename(site.folder)
    site.told("audit log is written again", after=mark)
    site.call()
    assert json.loads(site.adit("status", "--socket", socket, "--output", "json").stdout)["audit"]["problem"] is None
    wait_until(lambda: len(site.of("end")) == 2, "the end of the connection")
    assert site.verify()[0] == 0

    # Removed for good: nothing is begun in its place, now or at the next start.
    file.unlink()
    site.told("audit log cannot be written", after=mark)
    with pytest.raises(ConnectionError):
        site.call_refused()
    site.agent.stop()
    code, verified = site.verify()
    assert code == 1 and "as it was known, is not there" in verified["problem"]
    site.agent.spawn()
    assert site.agent.process.wait() == 1
    assert "ADIT-1405" in site.agent.process.text() and "as it was known, is not there" in site.agent.process.text()

    # Its folder is kept as evidence under another name: that a chain begins is said.
    site.folder.rename(aside)
    site.agent.start()
    site.told("audit log: no record was there, a chain is begun")
    site.call()
    site.agent.stop()
    assert site.verify()[0] == 0
    for file in [*site.folder.glob("audit-*.jsonl"), site.folder / "head"]:
        file.unlink()
    code, verified = site.verify()
    assert code == 1 and "there is no record" in verified["problem"]
    shutil.rmtree(socket.parent)


def test_after_kill_9_at_a_hundred_moments_the_chain_holds_and_no_record_of_a_connection_that_was_made_is_lost(registry, tmp_path):
    site = Site(registry, tmp_path)
    end = threading.Event()

    def call():
        while not end.is_set():
            try:
                site.call()
            except (OSError, AssertionError):
                time.sleep(0.01)  # the agent is away

    callers = [threading.Thread(target=call, daemon=True) for _ in range(4)]
    for caller in callers:
        caller.start()
    chance = random.Random(2_026)
    argv = [AGENT, "start", "--all", "--config", site.agent.config]
    env = {**os.environ, "XDG_STATE_HOME": str(site.agent.directory / "state")}
    try:
        for _ in range(100):
            child = subprocess.Popen([str(part) for part in argv], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                wait_until(lambda: begun_by(site.folder, child.pid), "the agent to begin")
                met = site.raw.met
                wait_until(lambda: site.raw.met > met, "a connection")
                time.sleep(chance.random() * 0.03)  # any moment
            finally:
                child.kill()
                child.wait()
    finally:
        end.set()
        for caller in callers:
            caller.join()
    # What was written at the last moment may be a part only: the next start says so.
    site.agent.start()
    site.agent.stop()

    code, verified = site.verify()
    assert (code, verified["fits"], verified["torn"]) == (0, True, 0), verified
    records = site.records()
    kinds = [record["kind"] for record in records]
    assert kinds.count("start") == 101 and kinds.count("stop") == 1
    assert [record.get("ended_in_order") for record in records if record["kind"] == "start"] == [None] + [False] * 100
    # Each connection that reached the upstream has its record; a record may have been written for one that did not.
    assert kinds.count("connection") >= site.raw.met > 100, (kinds.count("connection"), site.raw.met, kinds.count("repaired"))
    assert not pathlib.Path(f"{site.folder}-2").exists()


def begun_by(folder, pid):
    """Whether the last record of a beginning is that of this process."""
    for file in sorted(folder.glob("audit-*.jsonl"))[-1:]:
        with open(file, "rb") as end:
            end.seek(max(0, file.stat().st_size - 65_536))
            return f'"process":{pid},'.encode() in end.read()
    return False


def mounted(path, size):
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "adit-audit", path], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a disk of its own needs root")
@pytest.mark.parametrize("on_failure", ["refuse", "continue"])
def test_a_full_disk_stops_new_connections_and_with_room_it_goes_on(registry, tmp_path, on_failure):
    disk = tmp_path / "disk"
    mounted(disk, "256k")
    try:
        site = Site(registry, tmp_path, audit={"path": str(disk / "audit"), "on_failure": on_failure})
        site.folder = disk / "audit"
        site.agent.start()
        with dial(site.port) as open_before:
            open_before.sendall(b"before")
            assert receive(open_before, 6) == b"before"
            ballast = disk / "ballast"
            with open(ballast, "wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(4_096))
            # The page that the log has takes some more.
            refused = wait_until(lambda: "audit log cannot be written" in site.agent.process.text() or carried(site) and None, "the disk to be full")
            assert refused
            line = site.told("audit log cannot be written", level="error")
            assert line["error"].startswith("ADIT-1404") and str(disk) in line["error"]
            assert carried(site) == (on_failure == "continue")
            answer = curl(site.network, f"https://web.{DOMAIN}/hello")
            if on_failure == "continue":
                assert answer.status == 200
            else:
                # The vendor is told that another agent may have room, callers that this is for now; the customer reads why.
                assert (answer.status, answer.headers["adit-error"]) == (503, "ADIT-3010")
                line = site.told("connection refused by the policy", reason="audit", told="LIMIT")
                assert line["error"].startswith("ADIT-1404")
                assert str(disk) not in answer.body.decode() and str(disk) not in site.network.process.text()
            # What was open goes on.
            open_before.sendall(b"still")
            assert receive(open_before, 5) == b"still"

            ballast.unlink()
            site.told("audit log is written again")
            wait_until(lambda: curl(site.network, f"https://web.{DOMAIN}/hello").status == 200, "connections to be carried again")
        wait_until(lambda: [one for one in site.of("end") if one.get("endpoint") == "raw"], "what ended meanwhile to be written")
        code, verified = site.verify()
        assert (code, verified["fits"]) == (0, True)
        resumed = site.of("resumed")
        assert sum(record["connections"] for record in resumed) >= 1 and "No space left" in resumed[0]["why"]
        assert site.agent.stop() == 0
    finally:
        for agent in registry.agents:
            if agent.process:
                agent.process.kill()
        subprocess.run(["umount", "-l", disk], check=True)


def test_no_log_no_agent_unless_the_policy_says_so(registry, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    site = Site(registry, tmp_path, audit={"path": str(file / "audit")})
    site.agent.spawn()
    assert site.agent.process.wait() == 1
    assert "ADIT-1404" in site.agent.process.text() and str(file) in site.agent.process.text()

    # A policy that asks for one while the agent runs stops new connections when there can be none.
    site.write(audit={"enabled": False})
    site.agent.start()
    site.call()
    assert not site.folder.exists()
    mark = site.agent.process.mark()
    site.write(audit={"path": str(file / "audit")})
    site.told("policy in force", after=mark)
    with pytest.raises(ConnectionError):
        site.call_refused()
    site.told("connection refused by the policy", after=mark, reason="audit")
    site.write()
    wait_until(lambda: site.folder.exists() and site.of("policy"), "the log to be begun")
    site.call()
    assert len(site.of("connection")) == 1


def test_totals_count_on_over_a_restart_and_a_file_that_was_changed_is_not_believed(registry, tmp_path):
    site = Site(registry, tmp_path)
    site.write(total_bytes=20_000)
    site.agent.start()
    site.call(b"x" * 6_000)  # both ways: 12,000
    site.agent.stop()
    (file,) = (site.agent.directory / "state" / "adit" / "totals").glob("*/totals.json")  # named by the configuration
    assert json.loads(file.read_text().splitlines()[0])["rules"]["raw"] == 12_000

    site.agent.start()
    with dial(site.port) as sock:
        sock.sendall(b"x" * 6_000)
        with pytest.raises((ConnectionError, AssertionError)):
            receive(sock, 6_000)
            sock.sendall(b"more")
            receive(sock, 1)
    assert site.told("connection refused by the policy", name="raw", reason="bytes")["told"] == "POLICY"
    site.agent.process.kill()

    text = file.read_text()
    file.write_text(re.sub(r'"raw":\d+', '"raw":0', text))
    site.agent.start()
    assert site.told("the policy cannot be followed")["error"].startswith("ADIT-1407")
    mark = site.agent.process.mark()
    with pytest.raises(ConnectionError):
        site.call_refused()
    line = site.told("connection refused by the policy", after=mark, name="raw", reason="bytes")
    assert "totals.json: it is not as it was written" in line["detail"]
    assert curl(site.network, f"https://web.{DOMAIN}/hello").status == 200  # it has no total

    # Whoever may write the file decides: without it, counting begins at zero.
    file.unlink()
    wait_until(lambda: carried(site), "connections to be carried again")


def carried(site):
    try:
        site.call()
        return True
    except (ConnectionError, AssertionError):
        return False


def test_two_agents_of_one_user_have_a_log_each(registry, tmp_path):
    site = Site(registry, tmp_path)
    site.agent.start()
    other = registry.agent(site.network, site.token, {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": site.http.url}}}, name="other")
    argv = [str(AGENT), "start", "--all", "--config", str(other.config), "--policy", str(site.policy)]
    env = {**os.environ, "XDG_STATE_HOME": str(site.agent.directory / "state")}
    child = subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        second = pathlib.Path(f"{site.folder}-2")
        wait_until(lambda: any(file.stat().st_size for file in second.glob("audit-*.jsonl")), "the second log")
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(20)
    done = site.adit("audit", "verify")
    assert f"{second}: " in done.stdout.decode() and done.stdout.decode().count("records hold together") == 2

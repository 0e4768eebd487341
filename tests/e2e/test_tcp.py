"""TCP and TLS endpoints with the programs that people use over them."""

import hashlib
import os
import pathlib
import pwd
import shutil
import socket
import ssl
import struct
import threading

import pytest

from harness import payload
from harness.certificates import OwnTls
from harness.clients import dial, receive, tls_context
from harness.deployment import DOMAIN
from harness.ports import free_port
from harness.process import Process, run
from harness.raw_upstream import RawUpstream, read_all, reset

MIB = 1 << 20


@pytest.fixture
def tcp(world):
    """Makes TCP endpoints: `tcp(upstream port or target, **endpoint)` returns the public port."""
    agents = []

    def make(target, **endpoint):
        port = free_port()
        token = world.network.token(f"tcp:{port}")
        entry = {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{target}", **endpoint.pop("upstream", {})}, **endpoint}
        agent = world.registry.agent(world.network, token, {"tcp": entry}, name=f"tcp-{port}")
        agents.append(agent.start())
        return port

    yield make
    for agent in agents:
        agent.stop()


def service_user():
    """Whom PostgreSQL runs as: it refuses to be root."""
    return "postgres" if os.geteuid() == 0 else None


@pytest.fixture(scope="module")
def postgres():
    program = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"))[-1]
    user = service_user()
    home = pathlib.Path("/tmp") / f"adit-e2e-postgres-{os.getpid()}"
    home.mkdir(mode=0o700)
    if user:
        shutil.chown(home, user)
    data = home / "data"
    port = free_port()
    initdb = Process("initdb", [program / "initdb", "-D", data, "-U", "adit", "--auth", "trust", "--no-sync"], user=user, cwd="/tmp")
    assert initdb.wait(60) == 0, initdb.text()
    argv = [program / "postgres", "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={home}", "-c", "fsync=off"]
    server = Process("postgres", argv, user=user, cwd="/tmp")
    try:
        server.wait_for("ready to accept connections")
        yield port
    finally:
        server.kill()
        shutil.rmtree(home, ignore_errors=True)


def psql(port, command, stdin=None):
    return run(["psql", "-X", "-A", "-t", "-h", "127.0.0.1", "-p", port, "-U", "adit", "-d", "postgres", "-v", "ON_ERROR_STOP=1", "-c", command], stdin=stdin).stdout


def test_psql_queries_and_copies_through_the_tunnel(tcp, postgres):
    port = tcp(f"127.0.0.1:{postgres}")
    assert psql(port, "select sum(n) from generate_series(1, 1000000) n") == b"500000500000\n"
    psql(port, "create table if not exists copied (line text)")
    lines = b"".join(b"%d %s\n" % (number, b"x" * 100) for number in range(100_000))
    psql(port, "copy copied from stdin", stdin=lines)
    assert psql(port, "copy copied to stdout") == lines


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    home = tmp_path_factory.mktemp("sshd")
    for name in ("host", "user"):
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home / name])
    (home / "authorized").write_text((home / "user.pub").read_text())
    (home / "authorized").chmod(0o600)
    port = free_port()
    (home / "config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {home}/host\nAuthorizedKeysFile {home}/authorized\nStrictModes no\nUsePAM no\n"
        f"PasswordAuthentication no\nPidFile none\nPermitRootLogin yes\n"
    )
    if os.geteuid() == 0:
        pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    server = Process("sshd", [shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin:/usr/bin"), "-D", "-e", "-f", home / "config"])
    try:
        server.wait_for("Server listening")
        yield port, home
    finally:
        server.kill()


def ssh(port, home, command, stdin=b"", check=True):
    user = pwd.getpwuid(os.geteuid()).pw_name
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
    return run(["ssh", "-F", "none", "-i", home / "user", "-p", port, *options, f"{user}@127.0.0.1", command], stdin=stdin, check=check)


def test_ssh_runs_commands_and_pipes_through_the_tunnel(tcp, sshd):
    target, home = sshd
    port = tcp(f"127.0.0.1:{target}")
    done = ssh(port, home, "echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    data = b"".join(payload.blocks(20 * MIB))
    assert ssh(port, home, "sha256sum", stdin=data).stdout.split()[0].decode() == hashlib.sha256(data).hexdigest()
    assert ssh(port, home, f"head -c {20 * MIB} /dev/zero").stdout == bytes(20 * MIB)


def test_ncat_as_caller_half_closes_and_still_hears_the_answer(tcp):
    def answer_at_the_end(sock):
        sock.sendall(hashlib.sha256(read_all(sock)).hexdigest().encode())

    upstream = RawUpstream(answer_at_the_end)
    data = b"".join(payload.blocks(5 * MIB))
    answer = run(["ncat", "127.0.0.1", tcp(upstream.target)], stdin=data).stdout
    assert answer.decode() == hashlib.sha256(data).hexdigest()
    upstream.close()


def test_ncat_as_upstream_half_closes_and_still_hears_the_caller(tcp):
    port = free_port()
    data = b"".join(payload.blocks(5 * MIB))
    server = Process("ncat", ["ncat", "--listen", "--verbose", "127.0.0.1", port], stdin=data)
    server.wait_for("Listening on 127.0.0.1")
    with dial(tcp(f"127.0.0.1:{port}")) as sock:
        assert read_all(sock) == data
        sock.sendall(b"heard you\n")
        sock.shutdown(socket.SHUT_WR)
        assert server.wait() == 0
    assert server.first_stdout_line() == "heard you"


# END-007
def test_each_direction_ends_by_itself(tcp):
    ended = threading.Event()

    def answer_then_read(sock):
        sock.sendall(b"answer first")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock) == b"x" * MIB
        ended.set()

    upstream = RawUpstream(answer_then_read)
    with dial(tcp(upstream.target)) as sock:
        assert read_all(sock) == b"answer first"
        sock.sendall(b"x" * MIB)
        sock.shutdown(socket.SHUT_WR)
        assert ended.wait(10)
    upstream.close()


# END-007
def test_a_reset_of_the_upstream_is_a_reset_for_the_caller(tcp):
    def refuse(sock):
        receive(sock, 4)
        reset(sock)

    upstream = RawUpstream(refuse)
    with dial(tcp(upstream.target)) as sock:
        sock.sendall(b"ping")
        with pytest.raises(ConnectionResetError):
            while sock.recv(100):
                pass
            raise AssertionError("the stream ended as if it were complete")
    upstream.close()


# END-007
def test_a_reset_of_the_caller_is_a_reset_for_the_upstream(tcp):
    outcome = []
    done = threading.Event()

    def watch(sock):
        try:
            receive(sock, 4)
            sock.sendall(b"pong")
            outcome.append(sock.recv(100))
        except ConnectionResetError:
            outcome.append("reset")
        finally:
            done.set()

    upstream = RawUpstream(watch)
    sock = dial(tcp(upstream.target))
    sock.sendall(b"ping")
    assert receive(sock, 4) == b"pong"
    reset(sock)
    assert done.wait(5)
    assert outcome == ["reset"]
    upstream.close()


def test_sixty_four_slow_callers_hold_nobody_up_and_lose_nothing(world, tcp):
    size = 8 * MIB
    sent = [0]
    lock = threading.Lock()

    def pour(sock):
        for block in payload.blocks(size):
            view = block
            while view:
                count = sock.send(view[: 1 << 16])
                view = view[count:]
                with lock:
                    sent[0] += count

    upstream = RawUpstream(pour)
    port = tcp(upstream.target)
    before = [process.rss() for process in (world.network.process, world.agent.process)]
    slow = []
    for _ in range(64):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        sock.settimeout(60)
        sock.connect(("127.0.0.1", port))
        assert sock.recv(1) == bytes(next(payload.blocks(1)))
        slow.append(sock)
    # A caller with an appetite is served while 64 others take nothing.
    with dial(world.tcp_port) as quick:
        for _ in range(200):
            quick.sendall(b"keystroke")
            assert receive(quick, 9) == b"keystroke"
    assert sent[0] < 64 * size, "everything was buffered somewhere"
    grown = [process.rss() - start for process, start in zip((world.network.process, world.agent.process), before)]
    assert max(grown) < 128 * MIB, grown
    digests = []

    def drain(sock):
        state = hashlib.sha256(bytes(next(payload.blocks(1))))
        with sock:
            while data := sock.recv(1 << 16):
                state.update(data)
        digests.append(state.hexdigest())

    threads = [threading.Thread(target=drain, args=(sock,)) for sock in slow]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert digests == [payload.digest(size)] * 64
    upstream.close()


def header_of(tcp, version):
    """What an upstream sees first on a connection with the PROXY protocol, and the caller's own address."""
    heads = []
    done = threading.Event()

    def capture(sock):
        data = b""
        while not data.endswith(b"hello"):
            data += sock.recv(4096)
        heads.append(data)
        done.set()

    upstream = RawUpstream(capture)
    port = tcp(upstream.target, upstream={"proxy_protocol": version})
    with dial(port) as sock:
        sock.sendall(b"hello")
        assert done.wait(10)
        caller = sock.getsockname()
    upstream.close()
    return heads[0], caller, port


# ADDR-002
def test_proxy_protocol_v1_names_the_caller(tcp):
    head, caller, port = header_of(tcp, 1)
    assert head == f"PROXY TCP4 127.0.0.1 127.0.0.1 {caller[1]} {port}\r\nhello".encode()


# ADDR-002
def test_proxy_protocol_v2_names_the_caller_and_the_endpoint(tcp):
    head, caller, port = header_of(tcp, 2)
    assert head[:14] == b"\r\n\r\n\x00\r\nQUIT\n\x21\x11"
    (length,) = struct.unpack("!H", head[14:16])
    assert struct.unpack("!4s4sHH", head[16:28]) == (bytes([127, 0, 0, 1]), bytes([127, 0, 0, 1]), caller[1], port)
    assert head[16 + length :] == b"hello"
    tlvs, rest = {}, head[28 : 16 + length]
    while rest:
        kind, size = struct.unpack("!BH", rest[:3])
        tlvs[kind] = rest[3 : 3 + size]
        rest = rest[3 + size :]
    assert any(str(port).encode() in value for value in tlvs.values()), tlvs


# BIND-016
def test_tls_passthrough_ends_at_the_upstream(world, tmp_path):
    name = f"pass.{DOMAIN}"
    own = OwnTls(tmp_path, name)
    upstream = RawUpstream(own.serve)
    agent = world.registry.agent(world.network, world.token, {"pass": {"url": f"tls://{name}", "upstream": {"url": f"tcp://{upstream.target}"}}}, name="pass")
    agent.start()
    with own.client.wrap_socket(dial(world.network.ports["https"]), server_hostname=name) as sock:
        sock.sendall(b"hello")
        assert sock.recv(100) == b"sealed hello"
    with pytest.raises(ssl.SSLCertVerificationError):
        tls_context(world.network).wrap_socket(dial(world.network.ports["https"]), server_hostname=name)
    agent.stop()
    upstream.close()

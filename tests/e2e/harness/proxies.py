"""Real proxies on loopback, each configured for one test, and a DNS server that says what it is told to."""

import pathlib
import shutil
import socket
import struct
import subprocess
import threading

from .deployment import ROOT
from .ports import free_port
from .process import Process, wait_until

STARTING = 90.0
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
MITMDUMP = ROOT / "target" / "venv-mitmproxy" / "bin" / "mitmdump"


def program(name):
    """The path of a program; Debian puts servers where users do not look."""
    found = shutil.which(name) or shutil.which(name, path=SBIN)
    assert found, f"{name} is missing: scripts/install-tools.sh test"
    return found


class Proxy:
    """A proxy that listens on `port`. What it logs is in `log`."""

    scheme = "http"

    def __init__(self, directory, name):
        self.directory = pathlib.Path(directory) / name
        self.directory.mkdir(parents=True)
        self.name = name
        self.port = free_port()
        self.process = None

    def run(self, *argv):
        self.process = Process(self.name, argv, cwd=self.directory)
        wait_until(self._listens, f"{self.name} to listen", STARTING)
        return self

    def _listens(self):
        assert self.process.alive(), f"{self.name} ended:\n{self.process.text()[-2000:]}"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    def url(self, credentials=""):
        return f"{self.scheme}://{credentials}127.0.0.1:{self.port}"

    def close(self):
        if self.process:
            self.process.kill()


class Tinyproxy(Proxy):
    def start(self, *lines):
        config = self.directory / "tinyproxy.conf"
        config.write_text("\n".join([f"Port {self.port}", "Listen 127.0.0.1", "Timeout 600", "MaxClients 50", "LogLevel Connect", *lines]) + "\n")
        return self.run(program("tinyproxy"), "-d", "-c", config)


class Squid(Proxy):
    """Squid; with a certificate it speaks TLS to its clients."""

    def start(self, *lines, certificate=None, key=None, hosts=()):
        # It gives root up for a user of its own, who must get there; and a child of it does not.
        scratch = self.directory
        for folder in [scratch, *scratch.parents]:
            if folder.owner() == "root" and str(folder).startswith("/tmp/"):
                folder.chmod(folder.stat().st_mode | 0o011)
        scratch.chmod(0o777)
        hosts = [("127.0.0.1", "localhost"), *hosts]
        (scratch / "hosts").write_text("".join(f"{address} {name}\n" for address, name in hosts))
        listen = f"http_port 127.0.0.1:{self.port}"
        if certificate:
            self.scheme = "https"
            for file in (certificate, key):
                shutil.copy(file, scratch / pathlib.Path(file).name)
                (scratch / pathlib.Path(file).name).chmod(0o644)
            listen = f"https_port 127.0.0.1:{self.port} tls-cert={scratch / pathlib.Path(certificate).name} tls-key={scratch / pathlib.Path(key).name}"
        config = [
            listen,
            f"hosts_file {scratch}/hosts",
            f"pid_filename {scratch}/pid",
            f"access_log stdio:{scratch}/access.log",
            f"cache_log {scratch}/cache.log",
            f"coredump_dir {scratch}",
            "visible_hostname squid.test",
            "cache deny all",
            "pinger_enable off",
            "shutdown_lifetime 0 seconds",
            "connect_timeout 5 seconds",
            *lines,
            "http_access allow all",
        ]
        (scratch / "squid.conf").write_text("\n".join(config) + "\n")
        return self.run(program("squid"), "-N", "-f", scratch / "squid.conf")

    def users(self, user, password):
        """A list of users, and the lines that ask for one of them."""
        hashed = subprocess.run(["openssl", "passwd", "-apr1", password], check=True, capture_output=True, text=True).stdout.strip()
        file = self.directory / "users"
        file.write_text(f"{user}:{hashed}\n")
        file.chmod(0o644)
        return [
            f"auth_param basic program /usr/lib/squid/basic_ncsa_auth {file}",
            "acl known proxy_auth REQUIRED",
            "http_access deny !known",
        ]


class Microsocks(Proxy):
    scheme = "socks5"

    def start(self, *argv):
        return self.run(program("microsocks"), "-i", "127.0.0.1", "-p", str(self.port), *argv)


class Dante(Proxy):
    """Dante, whose rules may forbid."""

    scheme = "socks5"

    def start(self, verdict="pass"):
        (self.directory / "danted.conf").write_text(
            f"""logoutput: stderr
internal: 127.0.0.1 port = {self.port}
external: 127.0.0.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}
socks {verdict} {{ from: 127.0.0.0/8 to: 0.0.0.0/0 log: connect }}
"""
        )
        return self.run(program("danted"), "-f", self.directory / "danted.conf")


class Mitmproxy(Proxy):
    """An inspecting proxy: it ends TLS and makes certificates of its own."""

    def start(self, trusted, *argv):
        assert MITMDUMP.exists(), f"{MITMDUMP} is missing: scripts/install-tools.sh test"
        self.run(
            MITMDUMP, "--listen-host", "127.0.0.1", "--listen-port", str(self.port),
            "--set", f"confdir={self.directory}", "--set", f"ssl_verify_upstream_trusted_ca={trusted}", *argv,
        )
        self.root = self.directory / "mitmproxy-ca-cert.pem"
        return self


class Dns:
    """A DNS server, over UDP and TCP. `answers` maps a name to addresses; a name that it does not have does not exist."""

    def __init__(self, answers):
        self.answers = dict(answers)
        self.asked = []
        self.truncated = False
        self.udp, self.tcp = self._bind()
        self.port = self.udp.getsockname()[1]
        threading.Thread(target=self._datagrams, daemon=True).start()
        threading.Thread(target=self._streams, daemon=True).start()

    @staticmethod
    def _bind():
        """Both sockets on one port: another program may have it of one kind."""
        while True:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind(("127.0.0.1", free_port()))
            try:
                return udp, socket.create_server(udp.getsockname())
            except OSError:
                udp.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def _datagrams(self):
        while True:
            try:
                question, peer = self.udp.recvfrom(4096)
                self.udp.sendto(self._answer("udp", question, self.truncated), peer)
            except OSError:
                return

    def _streams(self):
        while True:
            try:
                stream, _ = self.tcp.accept()
            except OSError:
                return
            with stream, stream.makefile("rb") as reader:
                (length,) = struct.unpack("!H", reader.read(2))
                answer = self._answer("tcp", reader.read(length), False)
                stream.sendall(struct.pack("!H", len(answer)) + answer)

    def _answer(self, transport, question, truncated):
        labels, at = [], 12
        while question[at]:
            labels.append(question[at + 1 : at + 1 + question[at]].decode())
            at += 1 + question[at]
        name, (kind,) = ".".join(labels), struct.unpack("!H", question[at + 1 : at + 3])
        self.asked.append((transport, name, kind))
        found = [address for address in self.answers.get(name, []) if (":" in address) == (kind == 28)]
        code = 0 if name in self.answers else 3
        flags = 0x8180 | code | (0x200 if truncated else 0)
        records = b""
        for address in [] if truncated else found:
            data = socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
            records += b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data
        head = question[:2] + struct.pack("!HHHHH", flags, 1, 0 if truncated else len(found), 0, 0)
        return head + question[12 : at + 5] + records

    def close(self):
        self.udp.close()
        self.tcp.close()

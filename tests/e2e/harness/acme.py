"""A CA that speaks ACME: pebble with its DNS, behind a gate that sees every order and can refuse it."""

import base64
import http.client
import http.server
import json
import pathlib
import socket
import ssl
import stat
import threading
import time
import urllib.request

from .deployment import NETWORK
from .ports import free_port
from .process import Process, run


class Pebble:
    """The CA. Names lead to 127.0.0.1 unless told otherwise; challenges are answered on the ports of `network`."""

    def __init__(self, directory, network_ports, **settings):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True)
        self.runs = []
        run([NETWORK, "ca", "init", "--dir", self.directory / "pki"])
        run([NETWORK, "ca", "issue", "--dir", self.directory / "pki", "--out", self.directory / "ca", "localhost", "127.0.0.1"])
        self.root = self.directory / "pki" / "ca.pem"
        self.port, self.management, self.dns, self.dns_management = (free_port() for _ in range(4))
        self.config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.directory / "ca.pem"),
            "privateKey": str(self.directory / "ca.key"),
            "httpPort": network_ports["http"],
            "tlsPort": network_ports["https"],
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            **settings,
        }
        (self.directory / "pebble.json").write_text(json.dumps({"pebble": self.config}))
        self.trust = ssl.create_default_context(cafile=self.root)

    def start(self):
        names = Process("names", ["pebble-challtestsrv", "-defaultIPv4", "127.0.0.1", "-defaultIPv6", "", "-http01", "", "-https01", "", "-tlsalpn01", "",
                                  "-dns01", f"127.0.0.1:{self.dns}", "-management", f"127.0.0.1:{self.dns_management}"])  # fmt: skip
        # One nonce of seven is refused: every order meets some that the CA says it never gave.
        env = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "15", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_VA_ALWAYS_VALID": "0"}
        pebble = Process("pebble", ["pebble", "-config", self.directory / "pebble.json", "-dnsserver", f"127.0.0.1:{self.dns}", "-strict"], env=env)
        self.runs += [names, pebble]
        pebble.wait_for("ACME directory available at")
        names.wait_for("[Ss]tarting.*management")
        self.gate = Gate(self)
        return self

    def close(self):
        if hasattr(self, "gate"):
            self.gate.close()
        for process in self.runs:
            process.kill()

    def issuer(self):
        """What callers trust: the root that pebble made for this run."""
        with urllib.request.urlopen(f"https://localhost:{self.management}/roots/0", context=self.trust, timeout=10) as answer:
            return ssl.create_default_context(cadata=answer.read().decode())

    def dns_set(self, what, **data):
        body = json.dumps(data).encode()
        urllib.request.urlopen(f"http://127.0.0.1:{self.dns_management}/{what}", data=body, timeout=10).read()

    def hook(self):
        """A program that puts records into the names of this CA."""
        path = self.directory / "hook.sh"
        path.write_text(
            "#!/bin/sh\n"
            f'echo "$@" >> {self.directory}/hook.log\n'
            'case $1 in present) what=set-txt;; cleanup) what=clear-txt;; esac\n'
            'exec curl -sf -o /dev/null -d "{\\"host\\":\\"$2.\\",\\"value\\":\\"$3\\"}" '
            f"http://127.0.0.1:{self.dns_management}/$what\n"
        )
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return [str(path)]

    def hooked(self):
        log = self.directory / "hook.log"
        return log.read_text().splitlines() if log.exists() else []


class Gate:
    """Stands before pebble. `orders` has the name of every order that was not asked for again because of its nonce."""

    def __init__(self, pebble):
        self.orders = []
        self.down = False
        self.limited = {}
        # What pebble has not: advice about renewals (RFC 9773). Windows as seconds from now, one for each certificate in turn.
        self.windows = None
        self.asked, self.replaced = [], []
        # Whatever was asked, as it was sent and with its payload decoded.
        self.paths, self.sent = [], []
        gate = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                self.close_connection = True
                gate.paths.append(self.path)
                gate.sent.append(body)
                if self.command == "POST":
                    gate.sent.append(decode(json.loads(body)["payload"]))
                if gate.down:
                    return
                name, replaces = None, None
                if self.path.startswith("/renewal-info/"):
                    return self.advise(self.path.removeprefix("/renewal-info/"))
                if self.path == "/order-plz":
                    wish = json.loads(decode(json.loads(body)["payload"]))
                    name, replaces = wish["identifiers"][0]["value"], wish.get("replaces")
                    if name in gate.limited:
                        gate.orders.append(name)
                        problem = {"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many", "status": 429}
                        return self.answer(429, [("Retry-After", gate.limited[name]), ("Replay-Nonce", "none")], json.dumps(problem).encode())
                upstream = http.client.HTTPSConnection("localhost", pebble.port, context=pebble.trust, timeout=20)
                upstream.request(self.command, self.path, body or None, dict(self.headers))
                answer = upstream.getresponse()
                kept = [(key, value) for key, value in answer.getheaders() if key.lower() not in ("connection", "content-length", "transfer-encoding")]
                said = answer.read()
                if name and b"badNonce" not in said:
                    gate.orders.append(name)
                    gate.replaced.append(replaces)
                if replaces and answer.status == 201:
                    said = json.dumps({**json.loads(said), "replaces": replaces}).encode()
                if self.path == "/dir" and gate.windows is not None:
                    here = f"https://localhost:{self.server.server_address[1]}/renewal-info"
                    said = json.dumps({**json.loads(said), "renewalInfo": here}).encode()
                self.answer(answer.status, kept, said)
                upstream.close()

            def advise(self, id):
                if id not in gate.asked:
                    gate.asked.append(id)
                window = gate.windows[min(gate.asked.index(id), len(gate.windows) - 1)]
                start, end = (time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds)) for seconds in window)
                body = {"suggestedWindow": {"start": start, "end": end}, "explanationURL": "https://ca.example/why"}
                self.answer(200, [("Retry-After", "21600")], json.dumps(body).encode())

            def answer(self, status, headers, body):
                self.send_response(status)
                for key, value in headers:
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = pass_on

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pebble.directory / "ca.pem", pebble.directory / "ca.key")
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.directory = f"https://localhost:{self.server.server_address[1]}/dir"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Issuing:
    """A network that orders its certificates at a CA of its own."""

    def __init__(self, registry, acme=None, pebble=None, **settings):
        self.registry = registry
        # The ports are known before the network is started: the CA calls back on them.
        self.network = registry.network(**settings)
        self.pebble = Pebble(registry.root / "ca", self.network.ports, **(pebble or {}))
        registry.upstream(self.pebble)
        self.pebble.start()
        self.gate = self.pebble.gate
        section = {"directory": self.gate.directory, "accept_terms": True, "contact": ["mailto:ops@e2e.test"], "ca": str(self.pebble.root)}
        # No private CA beside ACME: a name without a certificate has none.
        ingress = self.network.directory / "ingress"
        run([NETWORK, "ca", "issue", "--config", self.network.config, "--out", ingress, "localhost", "127.0.0.1", "::1"])
        self.network.settings["ingress"] = {"names": [], "certificate": f"{ingress}.pem", "key": f"{ingress}.key"}
        self.network.settings["private_ca"] = None
        self.network.settings["secrets"] = {"key_file": "secrets.key"}
        self.network.settings["acme"] = {**section, **(acme(self.pebble) if callable(acme) else acme or {})}
        self.network.write_config()
        run([NETWORK, "secrets", "init", "--config", self.network.config])
        self.network.start()
        self.trust = self.pebble.issuer()

    def said(self, pattern, after=0):
        return self.network.process.wait_for(pattern, after=after)

    def certificate(self, name):
        """What a caller of the name is shown, checked against the CA: the end of the certificate and its names."""
        with self.connect(name) as secure:
            return secure.getpeercert()

    def shown(self, name):
        """What a caller of the name is shown, whether or not it is still valid."""
        with self.connect(name, ssl._create_unverified_context()) as secure:
            return secure.getpeercert(True)

    def connect(self, name, trust=None):
        sock = socket.create_connection(("127.0.0.1", self.network.ports["https"]), timeout=20)
        return (trust or self.trust).wrap_socket(sock, server_hostname=name)


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

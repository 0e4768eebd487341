"""A browser loads a page over HTTP/2, with events and a WebSocket at once, through client certificate and password."""

import contextlib
import json
import pathlib
import shutil
import urllib.request

import pytest
import websockets.sync.client

from harness.deployment import DOMAIN
from harness.page_upstream import PageUpstream
from harness.process import Process, run, wait_until

NAME = f"page.{DOMAIN}"
POLICIES = pathlib.Path("/etc/chromium/policies/managed")
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
POLICY = """
on_http_request:
  - actions:
      - {type: basic-auth, config: {realm: page, credentials: ["ada:countess-of-lovelace"]}}
  - actions:
      - {type: forward-internal, config: {url: "https://page.internal"}}
"""


class Browser:
    """Chromium without a window; asked by its protocol for developers."""

    def __init__(self, home, ca, certificate):
        database = home / ".pki" / "nssdb"
        database.mkdir(parents=True)
        store = f"sql:{database}"
        run(["certutil", "-N", "--empty-password", "-d", store])
        run(["certutil", "-A", "-d", store, "-n", "network", "-t", "C,,", "-i", ca])
        if certificate:
            run(["pk12util", "-d", store, "-i", certificate, "-W", ""])
        argv = [shutil.which("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0"]
        argv += ["--disable-dev-shm-usage", "--disable-background-networking", "--disable-component-update", "--no-proxy-server"]
        argv += [f"--user-data-dir={home / 'profile'}", f"--host-resolver-rules=MAP *.{DOMAIN} 127.0.0.1", "about:blank"]
        self.process = Process("chromium", argv, env={"HOME": str(home)})
        said = wait_until(lambda: [line for line in self.process.lines if "DevTools listening on ws://" in line], "the browser is up")
        address = said[0].split("ws://")[1].split("/")[0]
        with urllib.request.urlopen(f"http://{address}/json/list", timeout=10) as answer:
            page = next(target for target in json.load(answer) if target["type"] == "page")
        self.open = contextlib.ExitStack()
        self.socket = self.open.enter_context(websockets.sync.client.connect(page["webSocketDebuggerUrl"], max_size=None))
        self.number = 0

    def ask(self, method, **params):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv(timeout=20))).get("id") != self.number:
            pass
        return answer["result"]

    def value(self, expression):
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def load(self, url):
        """Goes there; returns the title when nothing more is to come."""
        went = self.ask("Page.navigate", url=url)
        if "errorText" in went:
            return went["errorText"]
        wait_until(lambda: self.value("document.readyState") == "complete" and self.value("document.title") != "loading", f"{url} is loaded")
        return self.value("document.title")

    def close(self):
        self.open.close()
        self.process.kill()


@pytest.fixture
def chosen_by_rule():
    """Whoever sits before a browser chooses a certificate; here a rule of the machine does."""
    path = POLICIES / "adit-e2e.json"
    POLICIES.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"AutoSelectCertificateForUrls": [json.dumps({"pattern": f"https://[*.]{DOMAIN}", "filter": {}})]}))
    yield
    path.unlink()


def certificate(folder):
    """Makes a CA and a certificate of a caller; returns the CA's, and the caller's with its key."""
    ca, caller = folder / "callers", folder / "ada"
    run(["openssl", "req", "-x509", *EC, "-days", "2", "-subj", "/CN=callers", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", f"{ca}.key", "-out", f"{ca}.pem"])
    run(["openssl", "req", "-new", *EC, "-subj", "/CN=ada", "-keyout", f"{caller}.key", "-out", f"{caller}.csr"])
    (folder / "caller.ext").write_text("extendedKeyUsage = clientAuth\n")
    run(["openssl", "x509", "-req", "-extfile", folder / "caller.ext", "-in", f"{caller}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-set_serial", "1", "-days", "2", "-out", f"{caller}.pem"])
    run(["openssl", "pkcs12", "-export", "-in", f"{caller}.pem", "-inkey", f"{caller}.key", "-passout", "pass:", "-out", f"{caller}.p12"])
    return pathlib.Path(f"{ca}.pem"), pathlib.Path(f"{caller}.p12")


def test_a_page_with_events_and_a_web_socket(registry, tmp_path, chosen_by_rule):
    ca, caller = certificate(tmp_path)
    upstream = registry.upstream(PageUpstream())
    network = registry.network(endpoints=[
        {"url": f"https://{NAME}", "account": "e2e", "policy": "page.yml", "client_certificates": {"mode": "verify", "ca": [str(ca)]}},
    ])  # fmt: skip
    policy = network.directory / "page.yml"
    policy.write_text(POLICY)
    policy.chmod(0o640)
    network.start()
    registry.agent(network, network.token("*.internal"), {"page": {"url": "https://page.internal", "upstream": {"url": upstream.url}}}).start()
    address = f"{NAME}:{network.ports['https']}/"

    stranger = Browser(tmp_path / "stranger", network.ca, None)
    assert stranger.load(f"https://ada:countess-of-lovelace@{address}") .startswith("net::ERR_")   # in TLS 1.3 the refusal comes after the handshake, to whatever the browser does then
    assert upstream.headers == {}
    stranger.close()

    browser = Browser(tmp_path / "ada", network.ca, caller)
    assert browser.load(f"https://ada:wrong@{address}") != "done"
    assert upstream.headers == {}
    # Scripts of a page whose address has a password in it may load nothing: the browser keeps the password for the next.
    browser.load(f"https://ada:countess-of-lovelace@{address}style.css")
    assert browser.load(f"https://{address}") == "done", browser.process.text()[-2_000:]
    got = browser.value("got")
    assert got == {
        "items": [str(at) for at in range(20)],
        "events": ["0", "1", "2"],
        "socket": "hello",
        "protocols": ["h2"],
        "style": "rgb(1, 2, 3)",
    }
    # All three came through the rule that asks for a password, on their own.
    assert {"/", "/events", "/socket", "/item?19"} <= set(upstream.headers)
    browser.close()

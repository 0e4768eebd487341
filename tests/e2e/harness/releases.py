"""A place of releases over HTTPS: what a vendor publishes, signed with keys of the test."""

import hashlib
import http.server
import json
import os
import ssl
import threading
import time

from .certificates import EC, Authority
from .owners import owner
from .process import run

TARGET = "x86_64-unknown-linux-gnu" if os.uname().machine == "x86_64" else f"{os.uname().machine}-unknown-linux-gnu"
OLD, NEW = b"0.1.0", b"9.9.9"


def moment(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + seconds))


class Releases:
    """A place of releases over HTTPS, and its keys."""

    def __init__(self, folder, host="localhost"):
        self.folder = folder
        self.files = folder / "files"
        self.files.mkdir(parents=True)
        for name in ("vendor", "other"):
            run(["minisign", "-G", "-W", "-f", "-p", folder / f"{name}.pub", "-s", folder / f"{name}.key"])
        self.key = (folder / "vendor.pub").read_text().splitlines()[1]
        self.ca = Authority(folder, "releases").pem
        (folder / "leaf.ext").write_text(f"subjectAltName = DNS:{host}\n")
        run(["openssl", "req", "-new", *EC, "-subj", "/CN=releases", "-keyout", folder / "leaf.key", "-out", folder / "leaf.csr"])
        run(["openssl", "x509", "-req", "-extfile", folder / "leaf.ext", "-in", folder / "leaf.csr", "-CA", self.ca, "-CAkey", folder / "releases.key", "-set_serial", "7", "-days", "2", "-out", folder / "leaf.pem"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")
        handler = lambda *arguments: Handler(*arguments, directory=str(self.files))  # noqa: E731
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.asked, self.server.askers = self.asked, self.askers = [], []
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        self.url = f"https://{host}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def settings(self, **more):
        return {"url": self.url, "public_key": self.key, "ca": str(self.ca), **more}

    def publish(self, program, version="9.9.9", channel="stable", signed=-60, expires=86400, key="vendor", comment=None, offered=None, **artefact):
        """Publishes `program` as the newest; `offered` is what lies there in its place."""
        (self.files / f"adit-{version}").write_bytes(program if offered is None else offered)
        entry = {"target": TARGET, "path": f"adit-{version}", "size": len(program), "sha256": hashlib.sha256(program).hexdigest(), **artefact}
        manifest = {
            "format": 1, "product": "adit", "channel": channel, "version": version,
            "signed": moment(signed), "expires": moment(expires), "artefacts": [entry],
        }  # fmt: skip
        path = self.files / f"{channel}.json"
        path.write_text(json.dumps(manifest))
        comment = comment or f"adit {channel} {version}"
        run(["minisign", "-S", "-s", self.folder / f"{key}.key", "-m", path, "-x", f"{path}.minisig", "-t", comment])


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format, *arguments):
        self.server.asked.append(self.path)
        self.server.askers.append(owner(self.client_address[1], self.server.server_address[1]))

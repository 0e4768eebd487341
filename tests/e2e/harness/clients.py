"""Callers: curl, raw sockets."""

import json
import socket
import ssl

from .process import run


class Answer:
    """What curl got."""

    def __init__(self, status, headers, body, version):
        self.status = status
        self.headers = headers
        self.body = body
        self.version = version

    def json(self):
        return json.loads(self.body)


def curl(network, url, *options, stdin=None, deadline=60, address="127.0.0.1"):
    """One request with curl to an endpoint of the network at `address`; `url` names the endpoint without a port."""
    scheme, rest = url.split("://", 1)
    host, _, path = rest.partition("/")
    port = network.ports[scheme]
    argv = ["curl", "-sS", "-D", "/dev/stderr", "-o", "-", "--max-time", deadline]
    argv += ["--connect-to", f"{host}:{port}:{address}:{port}", "--cacert", network.ca, *options, f"{scheme}://{host}:{port}/{path}"]
    done = run(argv, stdin=stdin, deadline=deadline + 5)
    return parse(done.stderr.decode("latin-1"), done.stdout)


def parse(head, body):
    """Reads the last header block that curl printed."""
    blocks = [block for block in head.replace("\r\n", "\n").split("\n\n") if block.startswith("HTTP/")]
    lines = blocks[-1].split("\n")
    version, status = lines[0].split(" ")[:2]
    headers = {}
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return Answer(int(status), headers, body, version)


def tls_context(network, *alpn):
    """A client that trusts the network's private CA only."""
    context = ssl.create_default_context(cafile=network.ca)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def dial(port, host="127.0.0.1", timeout=20):
    sock = socket.create_connection((host, port), timeout=timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def receive(sock, size):
    """Exactly `size` bytes."""
    parts = []
    while size:
        data = sock.recv(size)
        assert data, f"the stream ended {size} bytes early"
        parts.append(data)
        size -= len(data)
    return b"".join(parts)

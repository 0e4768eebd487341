"""Certificates of upstreams, which the network never sees."""

import ssl

from .process import run


class OwnTls:
    """A certificate for `name` that nobody else trusts, as the server has it and as a client is told to trust it."""

    def __init__(self, directory, name):
        self.certificate, key = directory / "own.pem", directory / "own.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}",
             "-addext", f"subjectAltName=DNS:{name}", "-keyout", key, "-out", self.certificate])  # fmt: skip
        self.server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.server.load_cert_chain(self.certificate, key)
        self.client = ssl.create_default_context(cafile=self.certificate)

    def serve(self, sock):
        """An upstream that answers one message."""
        with self.server.wrap_socket(sock, server_side=True) as secure:
            secure.sendall(b"sealed " + secure.recv(100))
            secure.unwrap()

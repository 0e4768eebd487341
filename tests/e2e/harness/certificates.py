"""Certificates of upstreams, which the network never sees, and of callers."""

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


class Authority:
    """A CA that issues certificates for callers."""

    def __init__(self, directory, name):
        self.directory = directory
        self.pem, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        run(["openssl", "req", "-x509", *EC, "-days", "2", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", "-keyout", self.key, "-out", self.pem])

    def issue(self, name):
        """The options with which curl and openssl s_client show a certificate for `name`."""
        base = self.directory / f"{self.pem.stem}-{name}"
        run(["openssl", "req", "-new", *EC, "-subj", f"/O=Acme/CN={name}", "-keyout", f"{base}.key", "-out", f"{base}.csr"])
        (self.directory / "client.ext").write_text("extendedKeyUsage = clientAuth\n")
        run(["openssl", "x509", "-req", "-extfile", self.directory / "client.ext", "-in", f"{base}.csr", "-CA", self.pem, "-CAkey", self.key, "-set_serial", "0xb53017", "-days", "2", "-out", f"{base}.pem"])
        return ["--cert", f"{base}.pem", "--key", f"{base}.key"]


EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]

"""An issuer of tokens: keys that OpenSSL makes and signs with, and a server of their public halves."""

import base64
import http.server
import json
import ssl
import threading

from harness.process import run


def url64(octets):
    return base64.urlsafe_b64encode(octets).decode().rstrip("=")


class Key:
    """A key that OpenSSL has made and signs with."""

    def __init__(self, directory, name, *options):
        self.file, self.name = directory / f"{name}.pem", name
        run(["openssl", "genpkey", *options, "-out", self.file])
        self.public = run(["openssl", "pkey", "-in", self.file, "-pubout"]).stdout
        self.der = run(["openssl", "pkey", "-in", self.file, "-pubout", "-outform", "DER"]).stdout

    def sign(self, message):
        return run(["openssl", "dgst", "-sha256", "-sign", self.file], stdin=message).stdout

    def token(self, header, claims, signature=None):
        signed = f"{url64(json.dumps(header).encode())}.{url64(json.dumps(claims).encode())}"
        return f"{signed}.{url64(self.sign(signed.encode()) if signature is None else signature)}"


class Rsa(Key):
    def __init__(self, directory, name):
        super().__init__(directory, name, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")

    def jwk(self):
        text = run(["openssl", "rsa", "-in", self.file, "-noout", "-modulus"]).stdout.decode()
        return {"kty": "RSA", "kid": self.name, "n": url64(bytes.fromhex(text.split("=")[1].strip())), "e": "AQAB"}


class Curve(Key):
    def __init__(self, directory, name):
        super().__init__(directory, name, "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")

    def jwk(self):
        point = self.der[-64:]
        return {"kty": "EC", "crv": "P-256", "kid": self.name, "x": url64(point[:32]), "y": url64(point[32:])}

    def sign(self, message):
        """R and S as they are, out of the DER that OpenSSL writes."""
        der = super().sign(message)
        length = der[3]
        r, s = der[4:4 + length], der[6 + length:]
        return b"".join(number.lstrip(b"\0").rjust(32, b"\0") for number in (r, s))


def certificate(directory):
    """An authority, and a certificate of it for localhost: the file of the one, and a context that serves with the other."""
    ca, ca_key, leaf, leaf_key, asked, more = (directory / name for name in ("ca.pem", "ca.key", "leaf.pem", "leaf.key", "leaf.csr", "leaf.ext"))
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run(["openssl", "req", "-x509", *curve, "-days", "2", "-subj", "/CN=authority", "-keyout", ca_key, "-out", ca])
    run(["openssl", "req", "-new", *curve, "-subj", "/CN=localhost", "-keyout", leaf_key, "-out", asked])
    more.write_text("basicConstraints=critical,CA:FALSE\nsubjectAltName=DNS:localhost\n")
    run(["openssl", "x509", "-req", "-in", asked, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", more, "-out", leaf])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(leaf, leaf_key)
    return ca, server


class Issuer:
    """Serves sets of keys by HTTPS, which may change, and counts who asks for which. What it has not, it answers with 500."""

    def __init__(self, directory, keys):
        self.asked = []
        self.bodies = {"/page": "<html>keys</html>", "/large": json.dumps({"keys": keys, "x": "x" * (256 << 10)})}
        self.serve(keys)
        asked, bodies = self.asked, self.bodies

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                body = bodies.get(self.path, "").encode()
                self.send_response(302 if self.path == "/elsewhere" else 200 if body else 500)
                self.send_header("location", "/keys")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.ca, context = certificate(directory)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def serve(self, keys):
        self.bodies["/keys"] = json.dumps({"keys": keys})

    def fail(self):
        del self.bodies["/keys"]

    def close(self):
        self.server.shutdown()
        self.server.server_close()

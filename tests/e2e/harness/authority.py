"""An authority of callers, and of networks, as people run one: `openssl ca` with its index, its serial numbers and its revocation lists."""

from .process import run

EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


class Authority:
    """Issues certificates for callers and servers, and revokes them."""

    def __init__(self, directory, name):
        self.directory = directory / name
        self.directory.mkdir()
        self.pem, self.key, self.config = (self.directory / file for file in ("ca.pem", "ca.key", "ca.cnf"))
        (self.directory / "index.txt").write_text("")
        (self.directory / "serial").write_text("1000\n")
        (self.directory / "crlnumber").write_text("01\n")
        self.config.write_text(
            f"[ca]\ndefault_ca = own\n[own]\ndir = {self.directory}\ndatabase = $dir/index.txt\nserial = $dir/serial\ncrlnumber = $dir/crlnumber\n"
            "new_certs_dir = $dir\ncertificate = $dir/ca.pem\nprivate_key = $dir/ca.key\ndefault_md = sha256\ndefault_days = 2\ndefault_crl_days = 2\n"
            "policy = any\ncrl_extensions = list\nx509_extensions = caller\nunique_subject = no\n[any]\ncommonName = supplied\n"
            "[list]\nauthorityKeyIdentifier = keyid:always\n[caller]\nextendedKeyUsage = clientAuth\nauthorityKeyIdentifier = keyid\n"
        )
        run(["openssl", "req", "-x509", *EC, "-days", "2", "-subj", f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-keyout", self.key, "-out", self.pem])  # fmt: skip

    def _ca(self, *options):
        run(["openssl", "ca", "-batch", "-config", self.config, *options])

    def issue(self, name):
        """The options with which curl shows a certificate for `name`."""
        base = self.directory / name
        run(["openssl", "req", "-new", *EC, "-subj", f"/CN={name}", "-keyout", f"{base}.key", "-out", f"{base}.csr"])
        self._ca("-in", f"{base}.csr", "-out", f"{base}.pem", "-notext")
        return ["--cert", f"{base}.pem", "--key", f"{base}.key"]

    def serve(self, label, url=None, name="localhost", *options):
        """A certificate and its key for a server, which says that its list is at `url`."""
        base, more = self.directory / label, self.directory / f"{label}.ext"
        point = f"crlDistributionPoints=URI:{url}\n" if url else ""
        more.write_text(f"basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nauthorityKeyIdentifier=keyid\nsubjectAltName=DNS:{name}\n{point}")
        run(["openssl", "req", "-new", *EC, "-subj", f"/CN={label}", "-keyout", f"{base}.key", "-out", f"{base}.csr"])
        self._ca("-in", f"{base}.csr", "-out", f"{base}.pem", "-notext", "-extfile", more, *options)
        (self.directory / f"{label}.key").chmod(0o600)
        return {"certificate": f"{base}.pem", "key": f"{base}.key"}

    def revoke(self, name):
        self._ca("-revoke", self.directory / f"{name}.pem", "-crl_reason", "keyCompromise")

    def list(self, path, *options):
        """Writes a new revocation list, as a whole."""
        new = path.with_name(path.name + ".new")
        self._ca("-gencrl", "-out", new, *options)
        new.rename(path)
        return path

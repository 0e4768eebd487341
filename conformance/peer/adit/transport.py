"""A link over TLS over TCP, without waiting."""

import socket
import ssl

from .faults import bug

ROOM = 256 << 10
LINGER = 2.0


class Connection:
    """`make_link` is called with the time once TLS is there, and returns the link."""

    def __init__(self, sock, context, make_link, now, server_name=None):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.make_link, self.link = sock, make_link, None
        self.arrived, self.leaving, self.out = ssl.MemoryBIO(), ssl.MemoryBIO(), bytearray()
        server = server_name is None
        self.tls = context.wrap_bio(self.arrived, self.leaving, server_side=server, server_hostname=server_name)
        self.secure, self.eof, self.gone, self.leave_at = False, False, False, None
        self.began = now

    def read_ready(self):
        """Takes what the socket has; returns whether there was anything."""
        try:
            octets = self.sock.recv(ROOM)
        except BlockingIOError:
            return False
        except OSError:
            octets = b""
        if octets:
            self.arrived.write(octets)
        else:
            self.eof = True
            self.arrived.write_eof()
        return True

    def pump(self, now, run):
        """Moves everything that can move; `run` lets the application do its part."""
        if self.gone:
            return
        try:
            if not self.secure:
                self.shake_hands(now)
            if self.secure:
                self.exchange(now, run)
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLError, OSError):
            self.eof = True
        self.flush()
        if self.eof or self.leave_at is not None and self.leave_at <= now:
            self.leave()
        if not self.secure and self.began + 10 <= now:
            self.leave()

    def shake_hands(self, now):
        self.tls.do_handshake()
        if self.tls.selected_alpn_protocol() != "adit/1" and not bug("takes-any-alpn"):
            raise OSError("no application protocol")
        self.secure, self.link = True, self.make_link(now)

    def exchange(self, now, run):
        octets = self.read_plain()
        if octets and not self.link.closed:
            self.link.receive(octets, now)
        self.link.tick(now)
        run(self.link)
        if self.leave_at is None:
            self.tls.write(self.link.output(now, max(0, ROOM - len(self.out))) or b"")
            if self.link.lost:
                self.eof = True
            elif self.link.closed:
                self.leave_at = now + LINGER
                if bug("keeps-the-transport"):
                    self.leave_at = now + 3_600
                    return
                self.flush()
                try:
                    self.tls.unwrap()
                except ssl.SSLError:
                    pass
                self.flush()
                self.sock.shutdown(socket.SHUT_WR)

    def read_plain(self):
        octets = bytearray()
        try:
            while chunk := self.tls.read(65_536):
                octets += chunk
            self.eof = self.eof or not self.link.closed
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.eof = True
        return bytes(octets)

    def flush(self):
        self.out += self.leaving.read()
        try:
            while self.out:
                del self.out[:self.sock.send(self.out)]
        except BlockingIOError:
            pass
        except OSError:
            self.eof = True

    def leave(self):
        """The loop closes the socket."""
        self.gone = True

    def deadline(self):
        if not self.secure:
            return self.began + 10
        due = [at for at, _ in self.link.deadlines()]
        if self.leave_at is not None:
            due.append(self.leave_at)
        return min(due, default=None)


def client_context(ca):
    context = ssl.create_default_context(cafile=ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["adit/1"])
    if bug("trusts-everybody"):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    elif bug("forgets-whom-it-dialed"):
        context.check_hostname = False
    return context


def server_context(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if bug("takes-old-tls") else ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["adit/1"])
    return context

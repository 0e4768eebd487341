"""Plain TCP services behind the tunnel."""

import socket
import struct
import threading


class RawUpstream:
    """Accepts on a free port and hands each connection to `serve(socket)` in a thread of its own."""

    def __init__(self, serve, host="127.0.0.1", port=0):
        self.listener = socket.create_server((host, port), backlog=256, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.host = host
        self.port = self.listener.getsockname()[1]
        self.target = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        self.serve = serve
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._run, args=(sock,), daemon=True).start()

    def _run(self, sock):
        with sock:
            try:
                self.serve(sock)
            except OSError:
                pass

    def close(self):
        self.listener.close()


def echo(sock):
    """Sends back what comes, and ends when the caller ends."""
    while data := sock.recv(1 << 16):
        sock.sendall(data)


def read_all(sock):
    """Everything up to the end of the stream."""
    parts = []
    while data := sock.recv(1 << 16):
        parts.append(data)
    return b"".join(parts)


def reset(sock):
    """Closes with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Unresponsive:
    """An address where a connection attempt is never answered: a listener whose backlog is full."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self.listener.getsockname()[1]
        self.fillers = []
        for _ in range(4):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self.port))
            self.fillers.append(sock)

    def close(self):
        for sock in self.fillers:
            sock.close()
        self.listener.close()

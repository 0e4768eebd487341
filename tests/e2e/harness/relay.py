"""A relay between agent and network that cuts, stalls and swallows."""

import random
import select
import socket
import struct
import threading


class Relay:
    """Forwards each connection to `target` until it is told otherwise."""

    def __init__(self, target_port, host="127.0.0.1"):
        self.target = (host, target_port)
        self.listener = socket.create_server((host, 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.lock = threading.Lock()
        self.pairs = set()
        self.cuts = 0
        self.accepted = 0
        #: Accept no octet in either direction, and say nothing about it.
        self.stalled = threading.Event()
        #: Accept and throw away what comes from these sides: "agent", "network".
        self.swallows = set()
        #: Turn new connections away.
        self.refuses = False
        self.forwarded = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            if self.refuses:
                near.close()
                continue
            try:
                far = socket.create_connection(self.target, timeout=5)
            except OSError:
                near.close()
                continue
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                sock.settimeout(None)
            pair = (near, far)
            with self.lock:
                self.pairs.add(pair)
                self.accepted += 1
            for name, source, sink in (("agent", near, far), ("network", far, near)):
                threading.Thread(target=self._carry, args=(name, source, sink, pair), daemon=True).start()

    def _carry(self, name, source, sink, pair):
        buffer = bytearray(1 << 18)
        view = memoryview(buffer)
        try:
            while True:
                while self.stalled.is_set():
                    select.select([], [], [], 0.01)
                    if pair not in self.pairs:
                        return
                count = source.recv_into(buffer)
                if count == 0:
                    break
                if name in self.swallows:
                    continue
                sink.sendall(view[:count])
                self.forwarded += count
        except OSError:
            pass
        finally:
            self._drop(pair)

    def _drop(self, pair, hard=False):
        with self.lock:
            if pair not in self.pairs:
                return False
            self.pairs.discard(pair)
        for sock in pair:
            try:
                if hard:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            sock.close()
        return True

    def cut(self, hard=None, most=None):
        """Ends every connection, or so many of them, half of the time with a reset."""
        with self.lock:
            pairs = list(self.pairs)
        for pair in pairs[:most]:
            if self._drop(pair, hard=random.random() < 0.5 if hard is None else hard):
                self.cuts += 1

    def close(self):
        self.listener.close()
        self.cut()

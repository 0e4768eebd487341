"""A caller that sends numbers through an endpoint and sees them come back, whole and in order, or says what is wrong."""

import bisect
import math
import struct
import threading
import time


class Caller:
    """Sends a number each `pause` seconds on one connection. `arrivals` are the times at which some came back."""

    def __init__(self, sock, pause=0.1):
        self.sock, self.pause = sock, pause
        self.arrivals, self.sent, self.received = [], 0, 0
        #: What ended it: "end", "reset", or an octet that was lost, repeated or exchanged.
        self.broken = None
        self._over = threading.Event()
        sock.settimeout(None)
        for work in (self._send, self._receive):
            threading.Thread(target=work, daemon=True).start()

    def _send(self):
        try:
            while not self._over.wait(self.pause):
                self.sock.sendall(struct.pack("!Q", self.sent))
                self.sent += 1
        except OSError as error:
            self._end(error)

    def _receive(self):
        kept = b""
        try:
            while data := self.sock.recv(1 << 16):
                kept += data
                whole = len(kept) // 8
                for (number,) in struct.iter_unpack("!Q", kept[: 8 * whole]):
                    if number != self.received:
                        return self._end(f"{number} came for {self.received}")
                    self.received += 1
                kept = kept[8 * whole :]
                self.arrivals.append(time.monotonic())
            self._end("end")
        except OSError as error:
            self._end(error)

    def _end(self, why):
        if not self._over.is_set():
            self._over.set()
            self.broken = "reset" if isinstance(why, ConnectionResetError) else str(why)

    def first_after(self, moment, deadline):
        """The time from `moment` until something came back, or infinity."""
        end = moment + deadline
        while time.monotonic() < end and self.broken is None:
            place = bisect.bisect_right(self.arrivals, moment)
            if place < len(self.arrivals):
                return self.arrivals[place] - moment
            time.sleep(0.005)  # the pace of looking
        return math.inf

    def close(self):
        self._over.set()
        self.sock.close()

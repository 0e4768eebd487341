"""A path of packets between the two namespaces that loses all of them in one direction or both, as told."""

import contextlib
import os
import threading

NETWORK, AGENT = "network", "agent"


class Path:
    """Passes packets until it is closed. `lost` holds the sides that packets do not reach; nobody is told."""

    def __init__(self, devices):
        near, far = devices
        self.lost, self._closed = set(), False
        for source, sink, to in ((near, far, AGENT), (far, near, NETWORK)):
            threading.Thread(target=self._pass_on, args=(source, sink, to), daemon=True).start()

    def _pass_on(self, source, sink, to):
        with contextlib.suppress(OSError):
            while packet := os.read(source, 65_536):
                if self._closed:  # the next path may have devices of the same numbers
                    return
                if to not in self.lost:
                    os.write(sink, packet)

    def close(self):
        self._closed = True

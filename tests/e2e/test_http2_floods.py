"""Floods of frames: whatever comes of the connection that sends them, memory stays where it was and others are served."""

import contextlib
import pathlib
import re
import socket
import struct
import threading
import time

import pytest

from test_http2_frames import (
    CANCEL, CONTINUATION, DATA, END_HEADERS, GET, HEADERS, PING, POST, PREFACE, PRIORITY, RST_STREAM, WINDOW_UPDATE,
    Answer, Caller, block, frame, headers, settings,
)  # fmt: skip

FRAMES = 100_000
#: What a flood may leave in the memory of the network, in KiB.
MEMORY = 16 << 10
#: The longest that another caller may wait meanwhile, in seconds: a machine that runs other tests as well is slow.
PATIENCE = 3
RESET = struct.pack(">I", CANCEL)


def odd():
    return range(1, 2 * FRAMES, 2)


FLOODS = {
    "PRIORITY": lambda: (frame(PRIORITY, 0, number, struct.pack(">IB", number + 2, 7)) for number in odd()),
    "PING that nobody reads the answers of": lambda: (frame(PING, 0, 0, bytes(8)) for _ in odd()),
    "SETTINGS": lambda: (settings((4, 65_535)) for _ in odd()),
    "requests that are reset at once": lambda: (headers(number) + frame(RST_STREAM, 0, number, RESET) for number in odd()),
    "requests that make the server reset them": lambda: (headers(number) + frame(WINDOW_UPDATE, 0, number, bytes(4)) for number in odd()),
    "DATA without octets": lambda: iter([headers(fields=POST, flags=END_HEADERS), *[frame(DATA, 0, 1)] * FRAMES]),
    "a header block without end": lambda: iter([frame(HEADERS, 0, 1, block(GET)), *[frame(CONTINUATION, 0, 1, b"\x82" * 64)] * FRAMES]),
    "fields of one octet": lambda: iter([frame(HEADERS, 0, 1, block([*GET, ("a", "b" * 32)])), *[frame(CONTINUATION, 0, 1, b"\xbe" * 16_000)] * 100]),
    "WINDOW_UPDATE": lambda: (frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) for _ in odd()),
    "frames of an unknown type": lambda: (frame(0x42, 0, 0, bytes(16)) for _ in odd()),
}


def resident(network):
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{network.process.child.pid}/status").read_text())[1])


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_harms_nobody_else(world, flood):
    port, ca = world.network.ports["https"], world.network.ca
    before, most, longest = resident(world.network), 0, 0.0
    hostile = Caller(port, ca)
    hostile.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)

    def send():
        with contextlib.suppress(OSError):
            hostile.socket.settimeout(5)
            hostile.socket.sendall(PREFACE + settings())
            batch = []
            for each in flood():
                batch.append(each)
                if len(batch) == 100:
                    hostile.socket.sendall(b"".join(batch))
                    batch.clear()
            hostile.socket.sendall(b"".join(batch))

    sender = threading.Thread(target=send)
    sender.start()
    while True:
        last = not sender.is_alive()
        begin = time.monotonic()
        other = Caller(port, ca)
        with other.socket:
            other.socket.sendall(PREFACE + settings() + headers())
            assert other.judge(Answer()) is None
        longest, most = max(longest, time.monotonic() - begin), max(most, resident(world.network))
        if last:
            break
    hostile.socket.close()
    assert most - before < MEMORY, (before, most)
    assert longest < PATIENCE, longest

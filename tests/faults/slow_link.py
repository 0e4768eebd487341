"""A slow or lossy link that is never idle: does anybody take it for dead?"""

import contextlib
import subprocess
import threading
import time

from harness.clients import receive
from harness.deployment import BIN
from harness.namespaces import namespaces

from figures import Figure
from stand import ENDED, LOST, Site

DELAY_US = 300_000
#: Octets a second, octets of the queue, losses in a million, what the callers do.
LINKS = {
    "64 kbit/s, 300 ms each way, saturated down": (8_000, 64_000, 0, b"D"),
    "64 kbit/s, 300 ms each way, saturated up": (8_000, 64_000, 0, b"U"),
    "64 kbit/s, 300 ms each way, saturated both ways": (8_000, 64_000, 0, b"DU"),
    "10 Mbit/s, 300 ms each way, 5 % loss, saturated both ways": (1_250_000, 1_250_000, 50_000, b"DU"),
    "10 Mbit/s, 300 ms each way, 5 % loss, idle": (1_250_000, 1_250_000, 50_000, b""),
}
CHUNK = 1 << 14


def measure(name, minutes):
    rate, queue, loss, works = LINKS[name]
    with contextlib.ExitStack() as stack:
        devices = stack.enter_context(namespaces())
        argv = [str(part) for part in (BIN / "bench-link", DELAY_US, rate, queue, loss)]
        link = subprocess.Popen(argv, stdin=devices[0], stdout=devices[1])
        stack.callback(link.kill)
        site = Site(stack, 1, apart=True, upstream=flood).start()
        callers = [site.dial(site.ports[0]) for _ in works]
        for caller, work in zip(callers, works):
            caller.sendall(bytes([work]))
            receive(caller, 1)
        for caller in callers:  # all are there before the first fills the link
            caller.sendall(b"!")
        marks, carried, ended = site.marks(), [0] * len(works), []
        for index, (caller, work) in enumerate(zip(callers, works)):
            threading.Thread(target=saturate, args=(caller, work, carried, index, ended), daemon=True).start()
        time.sleep(60 * minutes)
        _, lost = site.told(marks, LOST)
        _, over = site.told(marks, ENDED)
        for process, mark in zip(site.logs(), marks):
            for line in process.lines[mark:]:
                print(f"# {name}: {process.name}: {line}", flush=True)
        deaths = len(lost[0]) + len(over[0]) + len(ended)
    print(f"# {name}: carried {carried} octets in {minutes:g} min; ended: {ended}", flush=True)
    return [Figure(f"{minutes:g} min on {name}: connections lost", "", [deaths], (0, 0))]


def flood(sock):
    """Answers an octet; after another it sends or takes without end, as the first said."""
    work = sock.recv(1)
    sock.sendall(b".")
    sock.recv(1)
    while work == b"D":
        sock.sendall(bytes(CHUNK))
    while sock.recv(CHUNK):
        pass


def saturate(sock, work, carried, index, ended):
    """The other end of `flood`; counts what was read or written."""
    sock.settimeout(None)
    try:
        while work == ord("D") and (data := sock.recv(CHUNK)):
            carried[index] += len(data)
        while work == ord("U"):
            sock.sendall(bytes(CHUNK))
            carried[index] += CHUNK
        why = "the end"
    except OSError as error:
        why = str(error)
    ended.append(f"{chr(work)}: {why}")

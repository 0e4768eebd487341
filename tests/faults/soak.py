"""An hour of traffic with a cut each minute: what does it leave behind?"""

import contextlib
import math
import os
import socket
import time

from harness.process import wait_until

from figures import Figure
from stand import ENDED, RESUMED, Site

MIB = 1 << 20
#: What the allocator, the tables and the caches need to reach the size at which they stay.
WARM_UP = 10


def measure(minutes, pause=60, agents=2):
    """Cuts each `pause` seconds; counts memory and descriptors just before each cut, after a warm-up of ten cuts."""
    with contextlib.ExitStack() as stack:
        site = Site(stack, agents, apart=False).start()
        callers, marks = site.callers(), site.marks()
        names = ["network", "agent"]
        rows = {name: [] for name in names}
        end = time.monotonic() + 60 * minutes + WARM_UP * pause
        cuts = 0
        while time.monotonic() < end:
            next_cut, before = time.monotonic() + pause, site.marks()
            site.relay.cut()
            cuts += 1
            wait_until(lambda: all(site.told(before, RESUMED)[1]), "every agent is back", 30)
            while time.monotonic() < next_cut - 3:
                exchange(site)
                time.sleep(0.2)  # the pace of new connections
            time.sleep(2)  # what was closed is over
            for name, process in zip(names, site.logs()):
                rows[name].append((time.monotonic(), process.rss(), descriptors(process.pid)))
            time.sleep(max(0, next_cut - time.monotonic()))
        broken = sum(caller.broken is not None for caller in callers)
        ended = sum(len(said) for said in site.told(marks, ENDED)[1])
    name = f"{minutes:g} min with a cut each {pause:g} s"
    figures = [Figure(f"{name}: connections and sessions lost", "", [broken + ended], (0, 0))]
    for who, samples in rows.items():
        steady = samples[WARM_UP:]
        sizes = ", ".join(f"{size / MIB:.1f}" for _, size, _ in samples[:: max(1, len(samples) // 12)])
        print(f"# {name}, {who}: resident MiB {sizes}; descriptors {sorted({count for *_, count in steady})}", flush=True)
        figures.append(Figure(f"{name}: resident memory of the {who}, slope", "MiB/h", [slope(steady)], (-math.inf, 1)))
        spread = max(count for *_, count in steady) - min(count for *_, count in steady)
        figures.append(Figure(f"{name}: descriptors of the {who}, most less least", "", [spread], (0, 0)))
    return figures


def exchange(site):
    """One new connection, used and closed."""
    with site.dial(site.ports[0]) as sock:
        sock.sendall(b"x" * 10_000)
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 16):
            pass


def descriptors(pid):
    """How many a process has, but for the database: the pool of those who read it grows and shrinks with the load."""
    folder, count = f"/proc/{pid}/fd", 0
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            count += "network.db" not in os.readlink(f"{folder}/{name}")
    return count


def slope(samples):
    """The least-squares slope of the memory, in MiB an hour."""
    times, sizes = [at / 3_600 for at, *_ in samples], [size / MIB for _, size, _ in samples]
    middle, height = sum(times) / len(times), sum(sizes) / len(sizes)
    spread = sum((at - middle) ** 2 for at in times)
    return sum((at - middle) * (size - height) for at, size in zip(times, sizes)) / spread if spread else 0.0

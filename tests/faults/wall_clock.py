"""The time of day jumps by a year, there and back, in one program: the clock of sessions is another."""

import contextlib
import os
import pathlib
import signal
import struct
import subprocess
import tempfile
import time

from harness.process import wait_until

from figures import Figure
from stand import ENDED, LOST, RESUMED, Site, when

YEAR = 365 * 86_400
SOURCE = pathlib.Path(__file__).with_name("wallclock.c")


class Clock:
    """The wall clock of the programs that are started while `given` is open."""

    def __init__(self, directory):
        self.file, self.library = pathlib.Path(directory) / "moved", pathlib.Path(directory) / "wallclock.so"
        self.move(0)
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", self.library, SOURCE, "-ldl"], check=True)

    def move(self, seconds):
        with open(self.file, "r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("=q", seconds))

    @contextlib.contextmanager
    def given(self):
        os.environ |= {"LD_PRELOAD": str(self.library), "ADIT_WALL_CLOCK": str(self.file)}
        try:
            yield
        finally:
            del os.environ["LD_PRELOAD"], os.environ["ADIT_WALL_CLOCK"]


def measure(who, times, agents=3, hold=40, jumps=(YEAR, 0, -YEAR, 0), **agent):
    """Moves the clock of the network or of all agents a year on, back, and as far into the past."""
    lost, traffic = [], []
    with contextlib.ExitStack() as stack:
        clock = Clock(stack.enter_context(tempfile.TemporaryDirectory()))
        with clock.given() if who == "network" else contextlib.nullcontext():
            site = Site(stack, agents, apart=False, **agent)
        with clock.given() if who == "agent" else contextlib.nullcontext():
            site.start()
        callers = site.callers()
        for seconds in [*jumps] * times:
            marks, moved = site.marks(), time.monotonic()
            clock.move(seconds)
            traffic += [caller.first_after(moved, 30) for caller in callers]
            time.sleep(hold)  # longer than the heartbeat takes for a verdict
            lost.append(sum(len(said) for what in (LOST, ENDED) for said in site.told(marks, what)[1]))
            check(site.logs()[0 if who == "network" else 1], seconds)
            if seconds == 0:  # a new connection, too, once the time is right: its certificate is judged by it
                marks = site.marks()
                site.relay.cut()
                wait_until(lambda: all(site.told(marks, RESUMED)[1]), "every agent is back")
        broken = sum(caller.broken is not None for caller in callers)
    lost.append(broken)
    return [
        Figure(f"{who}'s wall clock jumps by a year: connections and sessions lost", "", lost, (0, 0)),
        Figure(f"{who}'s wall clock jumps by a year: traffic after it", "s", traffic, (0, 1)),
    ]


def check(process, seconds):
    """Fails unless the program believes in the time that it was given."""
    mark = process.mark()
    process.signal(signal.SIGHUP)
    process.wait_for("", after=mark)
    believed = when(process.lines[mark]) - time.time()
    if abs(believed - seconds) > 3_600:
        raise AssertionError(f"the clock was to move by {seconds} s and moved by {believed:.0f} s")

"""The time of day jumps by a year, there and back, in one program: the clock of sessions is another."""

import contextlib
import os
import signal
import tempfile
import time

from harness.clock import Clock
from harness.process import wait_until

from figures import Figure
from stand import ENDED, LOST, RESUMED, Site, when

YEAR = 365 * 86_400


def measure(who, times, agents=3, hold=40, jumps=(YEAR, 0, -YEAR, 0), **agent):
    """Moves the clock of the network or of all agents a year on, back, and as far into the past."""
    lost, traffic = [], []
    with contextlib.ExitStack() as stack:
        clock = Clock(stack.enter_context(tempfile.TemporaryDirectory()))
        with given(clock) if who == "network" else contextlib.nullcontext():
            site = Site(stack, agents, apart=False, **agent)
        with given(clock) if who == "agent" else contextlib.nullcontext():
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


@contextlib.contextmanager
def given(clock):
    """Gives the clock to every program that is started meanwhile."""
    os.environ |= clock.environment
    try:
        yield
    finally:
        for key in clock.environment:
            del os.environ[key]


def check(process, seconds):
    """Fails unless the program believes in the time that it was given."""
    mark = process.mark()
    process.signal(signal.SIGHUP)
    process.wait_for("", after=mark)
    believed = when(process.lines[mark]) - time.time()
    if abs(believed - seconds) > 3_600:
        raise AssertionError(f"the clock was to move by {seconds} s and moved by {believed:.0f} s")

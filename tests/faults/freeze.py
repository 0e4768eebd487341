"""A program that is stopped and goes on later, as when a machine sleeps."""

import contextlib
import math
import signal
import time

from harness.process import Timeout, wait_until

from figures import Figure
from stand import ENDED, LOST, RESUMED, Site

WINDOW, LONG = 30, 60


def measure(who, seconds, times, agents=5):
    """Stops the network, or all agents, for so many seconds while callers talk."""
    lost, resumed, traffic, reset, codes, bound = [], [], [], [], [], []
    with contextlib.ExitStack() as stack:
        site = Site(stack, agents, apart=False).start(pause=0.7)
        for _ in range(times):
            callers = site.callers()
            frozen = site.logs()[:1] if who == "network" else site.logs()[1:]
            marks, expired = site.marks(), site.metric(EXPIRED)
            for process in frozen:
                process.signal(signal.SIGSTOP)
            time.sleep(seconds)  # the freeze
            woke, woke_at = time.monotonic(), time.time()
            for process in frozen:
                process.signal(signal.SIGCONT)
            if seconds < LONG:
                traffic += [caller.first_after(woke, 30) for caller in callers]
                time.sleep(30)  # a verdict may come late
                lost += [len(said) for said in site.told(marks, LOST)[1]]
                went_on = zip(site.told(marks, RESUMED)[1], site.told(marks, ENDED)[1], callers)
                resumed += [int(bool(again) and not over and one.broken is None) for again, over, one in went_on]
            else:
                with contextlib.suppress(Timeout):
                    wait_until(lambda: all(again(site, marks, woke_at)), "every endpoint is bound", 60)
                bound += [at[0] - woke_at if at else math.inf for at in again(site, marks, woke_at)]
                with contextlib.suppress(Timeout):
                    wait_until(lambda: all(caller.broken for caller in callers), "callers learn of it", 30)
                reset += [int(caller.broken == "reset") for caller in callers]
                # Whoever was awake has waited for the window to pass.
                if who == "agent":
                    codes.append((site.metric(EXPIRED) - expired) / agents)
                else:
                    codes += [int(bool(said)) for said in site.told(marks, IN_VAIN)[1]]
            for caller in callers:
                caller.close()
            time.sleep(10)
    name = f"{who} stopped for {seconds} s"
    if seconds < WINDOW:
        unnoticed = Figure(f"{name}: connections lost", "", lost, (0, 0))
        return [unnoticed, Figure(f"{name}: traffic after it", "s", traffic, (0, 1))]
    if seconds < LONG:
        whole = Figure(f"{name}: resumed with every connection, of each agent", "", resumed, (1, 1))
        return [whole, Figure(f"{name}: traffic after it", "s", traffic, (0, 5))]
    # An agent that was away for long waits for up to 30 s between two dials.
    return [
        Figure(f"{name}: callers' connections reset, share", "", reset, (1, 1)),
        Figure(f"{name}: the other side ended them with RESUME_EXPIRED, share", "", codes, (1, 1)),
        Figure(f"{name}: bound again after it", "s", bound, (0, 5 if who == "agent" else 30)),
    ]


IN_VAIN = "no connection came in time to resume the session"
EXPIRED = 'adit_stream_failures_total{code="RESUME_EXPIRED"}'


def again(site, marks, since):
    """The times at which each agent has bound its endpoint since then."""
    return [
        [at for at in times if at >= since]
        for times in site.told(marks, "endpoint bound")[1]
    ]

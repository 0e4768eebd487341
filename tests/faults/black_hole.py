"""Packets vanish and nobody is told: when do both sides know?"""

import contextlib
import math
import random
import time

from harness.namespaces import namespaces
from harness.process import Timeout, wait_until

from figures import Figure
from path import AGENT, NETWORK, Path
from stand import LOST, RESUMED, Site

#: An answer that a busy machine owes when the hole opens was asked for before it; and nobody wakes at the very instant.
LATE = 0.25
WAITS = "a session waits for its agent"
WAYS = {
    "both ways": {AGENT, NETWORK},
    "towards the agent": {AGENT},
    "towards the network": {NETWORK},
}


def measure(way, times, agents=20, interval=10, tolerance=15):
    """Opens so many holes under so many agents; every second one while callers talk."""
    by_agent, by_network = [], []
    with contextlib.ExitStack() as stack:
        path = stack.enter_context(contextlib.closing(Path(stack.enter_context(namespaces()))))
        heartbeat = {"heartbeat_interval": f"{interval}s", "heartbeat_tolerance": f"{tolerance}s"}
        site = Site(stack, agents, apart=True, **heartbeat).start(pause=interval / agents)
        for number in range(times):
            callers = site.callers() if number % 2 else []
            time.sleep(interval * random.uniform(0.5, 1.5))  # the hole comes at any moment between two questions
            marks = site.marks()
            path.lost |= WAYS[way]
            began = time.time()
            with contextlib.suppress(Timeout):
                wait_until(lambda: found(site, marks), "both sides find the hole", 2 * (interval + tolerance))
            waits, losts = site.told(marks, WAITS)[0], site.told(marks, LOST)[1]
            by_network += [at - began for at in waits] + [math.inf] * (agents - len(waits))
            by_agent += [lost[0] - began if lost else math.inf for lost in losts]
            path.lost.clear()
            wait_until(lambda: all(site.told(marks, RESUMED)[1]), "every agent is back", 60)
            for caller in callers:
                if caller.first_after(time.monotonic(), 10) == math.inf:
                    raise AssertionError(f"a caller's connection was lost: {caller.broken}")
                caller.close()
    bounds = (tolerance - LATE, interval + tolerance + LATE)
    name = f"black hole, {way}"
    return [
        Figure(f"{name}, found by the agent", "s", by_agent, bounds),
        Figure(f"{name}, found by the network", "s", by_network, bounds),
    ]


def found(site, marks):
    waits, _ = site.told(marks, WAITS)
    return len(waits) >= len(site.agents) and all(site.told(marks, LOST)[1])

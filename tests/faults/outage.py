"""The network is away for up to ten seconds: how soon after it is back does traffic flow?"""

import contextlib
import random
import time

from harness.namespaces import FAR, NEAR, inside, namespaces, sh

from figures import Figure
from path import AGENT, NETWORK, Path
from stand import Site


#: `retried` is a system on which TCP sends again at least each second (Linux 6.15: net.ipv4.tcp_rto_max_ms).
KINDS = ("connections refused", "packets lost", "packets lost and retried each second")


def measure(kind, times, agents=10):
    """Takes the path away so many times under callers that talk, for at most 10 s."""
    took = []
    with contextlib.ExitStack() as stack:
        path = None
        if kind.startswith("packets"):
            path = stack.enter_context(contextlib.closing(Path(stack.enter_context(namespaces()))))
        for namespace in (NEAR, FAR) if "retried" in kind else ():
            sh(*inside(namespace, "sysctl", "-q", "-w", "net.ipv4.tcp_rto_max_ms=1000"))
        site = Site(stack, agents, apart=path is not None).start()
        callers = site.callers()
        for _ in range(times):
            if path:
                path.lost = {AGENT, NETWORK}
            else:
                site.relay.refuses = True
                site.relay.cut()
            time.sleep(random.uniform(0.5, 10))  # the outage
            if path:
                path.lost = set()
            else:
                site.relay.refuses = False
            back = time.monotonic()
            took += [caller.first_after(back, 30) for caller in callers]
            broken = {caller.broken for caller in callers} - {None}
            if broken:
                raise AssertionError(f"callers' connections were lost: {broken}")
            time.sleep(random.uniform(2, 6))  # connections live for a while between two outages
    return [Figure(f"network away for up to 10 s, {kind}: traffic after it", "s", took, (0, 2), at=0.99)]

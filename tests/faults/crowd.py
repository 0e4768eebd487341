"""Ten thousand agents on one node: at rest, after a restart, and gone without a word."""

import contextlib
import json
import math
import os
import pathlib
import resource
import tempfile
import time

from harness.clients import dial
from harness.deployment import BIN, DOMAIN, Agent, Network
from harness.process import Process, Timeout, wait_until
from harness.raw_upstream import RawUpstream, echo

from caller import Caller
from figures import Figure

CROWD, ENDPOINT = f"crowd.{DOMAIN}", 20_000
MIB = 1 << 20
COUNT = 10_000
TICKS = os.sysconf("SC_CLK_TCK")


class Node:
    """A network that takes a crowd."""

    def __init__(self, stack, count):
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        if most < count + 1_000:
            raise AssertionError(f"{count} agents need more than {most} file descriptors")
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").write_text("10000 65000")
        limits = {key: 2 * count for key in ("sessions", "sessions_per_account", "sessions_per_token", "endpoints_per_account")}
        self.count, self.directory = count, stack.enter_context(tempfile.TemporaryDirectory())
        self.stack = stack
        self.network = Network(self.directory, log={"format": "json", "level": "warn"}, limits=limits)
        stack.callback(lambda: self.network.process and self.network.process.kill())
        self.network.start()
        self.token = self.network.token(f"*.{CROWD}", f"tcp:{ENDPOINT}")

    def crowd(self, mode):
        argv = [BIN / "bench-crowd", mode, self.network.connect_url, self.network.ca, self.count, CROWD]
        crowd = Process("crowd", argv, env={"ADIT_TOKEN": self.token.secret})
        self.stack.callback(crowd.kill)
        return crowd

    def rss(self):
        return self.network.process.rss() / MIB

    def cpu(self):
        """The processor time of the network so far, in seconds."""
        fields = pathlib.Path(f"/proc/{self.network.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def sessions(self):
        return self.network.metric("adit_sessions")


def idle(seconds, count=COUNT):
    """Memory and processor time of a node with so many sessions that say nothing but their heartbeats."""
    with contextlib.ExitStack() as stack:
        node = Node(stack, count)
        node.crowd("sessions").wait_for('"all"', deadline=300)
        time.sleep(30)  # each has asked and answered
        before, start = node.cpu(), time.monotonic()
        time.sleep(seconds)
        share = 100 * (node.cpu() - before) / (time.monotonic() - start)
        lost = count - node.sessions()
        return [
            Figure(f"{count:,} idle sessions: memory of the node", "MiB", [node.rss()], (0, 640)),
            Figure(f"{count:,} idle sessions: of one core", "%", [share], (0, 5)),
            Figure(f"{count:,} idle sessions: lost in {seconds:g} s", "", [lost], (0, 0)),
        ]


def vanish(times, count=COUNT):
    """Memory of the node before so many agents come, while they are there, and 35 s after all have gone without a word."""
    with contextlib.ExitStack() as stack:
        node = Node(stack, count)
        ratios, bases = [], []
        for _ in range(times + 1):
            before = node.rss()
            crowd = node.crowd("sessions")
            crowd.wait_for('"all"', deadline=300)
            peak = node.rss()
            crowd.kill()
            gone = time.monotonic()
            time.sleep(35 - (time.monotonic() - gone))
            after, left = node.rss(), node.sessions()
            print(f"# {count:,} vanish: MiB before {before:.0f}, with all {peak:.0f}, after 35 s {after:.0f}, sessions left {left:g}", flush=True)
            bases.append(before)
            ratios.append(math.inf if left else after / before)
        return [Figure(f"{count:,} agents vanish: memory after 35 s, to before", "", ratios[1:], (0, 1.05))]


def comes_back(times, away=3, count=COUNT):
    """Kills the node under so many agents and starts it again `away` seconds later."""
    back, again, echoes = [], [], []
    with contextlib.ExitStack() as stack:
        node = Node(stack, count)
        upstream = RawUpstream(echo)
        stack.callback(upstream.close)
        crowd = node.crowd("uplinks")
        endpoint = {"echo": {"url": f"tcp://:{ENDPOINT}", "upstream": {"url": f"tcp://{upstream.target}"}}}
        agent = Agent(node.network, f"{node.directory}/agent", node.token, endpoint)
        stack.callback(lambda: agent.process and agent.process.kill())
        wait_until(lambda: len(happened(crowd, 0, "bound")) >= count, "all are bound", 300)
        agent.spawn().wait_bound(deadline=60)
        for _ in range(times):
            time.sleep(15)  # all have lived for long enough to be stable
            mark, at = crowd.mark(), agent.process.mark()
            node.network.process.kill()
            time.sleep(away)
            node.network.restart()
            ready = time.time()
            agent.wait_bound(after=at, deadline=60)
            caller = Caller(dial(ENDPOINT), pause=0.02)
            with contextlib.suppress(Timeout):
                wait_until(lambda: len(happened(crowd, mark, "bound")) >= count, "all are back", 90)
            firsts = happened(crowd, mark, "bound")
            back += [at - ready for at in firsts.values()] + [math.inf] * (count - len(firsts))
            time.sleep(30)
            again.append(harmed(crowd, mark))
            gaps = [later - sooner for sooner, later in zip(caller.arrivals, caller.arrivals[1:])]
            echoes.append(math.inf if caller.broken else max(gaps))
            caller.close()
    name = f"{count:,} agents after a restart"
    return [
        Figure(f"{name}: bound again", "s", back, (0, 30), at=0.99),
        Figure(f"{name}: bound again, all", "s", back, (0, 60)),
        Figure(f"{name}: sessions lost that were back", "", again, (0, 0)),
        Figure(f"{name}: longest silence of an echo meanwhile", "s", echoes, (0, 2)),
    ]


def happened(crowd, mark, event):
    """The first time since `mark` that an event was told, of each agent."""
    first = {}
    for line in crowd.lines[mark:]:
        if f'"{event}"' in line:
            told = json.loads(line)
            first.setdefault(told["agent"], told["at"])
    return first


def harmed(crowd, mark):
    """How many sessions were lost after they were back."""
    back, lost = set(), 0
    for line in crowd.lines[mark:]:
        told = json.loads(line)
        if told["event"] == "bound":
            back.add(told["agent"])
        elif told["event"] in ("lost", "suspended") and told["agent"] in back:
            lost += 1
    return lost

"""A network and its agents with an echo behind each: on two hosts joined by packets, or on one joined by a relay."""

import contextlib
import datetime
import json
import pathlib
import tempfile
import time

from harness.clients import dial
from harness.deployment import Agent, Network
from harness.namespaces import FAR, NEAR, FarAgent, NearNetwork, entered
from harness.process import wait_until
from harness.raw_upstream import RawUpstream, echo
from harness.relay import Relay

from caller import Caller

FIRST_ENDPOINT = 20_000
QUIET = {"format": "json", "level": "info"}
LOST, RESUMED, ENDED = "connection lost", "session resumed", "session lost"


class Site:
    """`agents` agents, each with one endpoint; ended when the stack is."""

    def __init__(self, stack, agents, apart, upstream=echo, settings=None, **agent):
        self.apart = apart
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make_network, make_agent = (NearNetwork, FarAgent) if apart else (Network, Agent)
        self.network = make_network(directory, log=QUIET, **(settings or {}))
        stack.callback(lambda: self.network.process and self.network.process.kill())
        self.network.start()
        with self.far():
            self.upstream = RawUpstream(upstream)
        stack.callback(self.upstream.close)
        self.relay = None
        if not apart:
            self.relay = Relay(self.network.ports["ingress"])
            stack.callback(self.relay.close)
            agent["connect_url"] = f"localhost:{self.relay.port}"
        self.ports = [FIRST_ENDPOINT + number for number in range(agents)]
        token = self.network.token(*(f"tcp:{port}" for port in self.ports))
        self.agents = []
        for port in self.ports:
            endpoint = {"echo": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{self.upstream.target}"}}}
            name = f"agent-{port}"
            one = make_agent(self.network, directory / name, token, endpoint, name=name, **{"log_level": "info", **agent})
            self.agents.append(one)
            stack.callback(lambda one=one: one.process and one.process.kill())

    def start(self, pause=0.0):
        """Starts the agents, `pause` seconds after each other, so that their heartbeats do not beat together."""
        for agent in self.agents:
            agent.start()
            time.sleep(pause)
        return self

    def near(self):
        return entered(NEAR) if self.apart else contextlib.nullcontext()

    def far(self):
        return entered(FAR) if self.apart else contextlib.nullcontext()

    def dial(self, port):
        with self.near():
            return dial(port)

    def callers(self, pause=0.1):
        """One caller for each agent; returns when each has heard something."""
        callers = [Caller(self.dial(port), pause) for port in self.ports]
        wait_until(lambda: all(caller.arrivals for caller in callers), "every caller hears its echo")
        return callers

    def metric(self, name):
        with self.near():
            return self.network.metric(name)

    def logs(self):
        """The processes: the network's first, then the agents'."""
        return [self.network.process, *(agent.process for agent in self.agents)]

    def marks(self):
        return [process.mark() for process in self.logs()]

    def told(self, marks, text):
        """The times, by the programs' own clocks, at which the network and each agent said something since `marks`."""
        said = [[when(line) for line in process.lines[mark:] if text in line] for process, mark in zip(self.logs(), marks)]
        return said[0], said[1:]


def when(line):
    """The time of a line of a log, in seconds since 1970."""
    return datetime.datetime.fromisoformat(json.loads(line)["time"]).timestamp()

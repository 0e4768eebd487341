"""One deployment that most tests share, and the check that no program panicked or told a secret."""

import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness.deployment import Agent, DOMAIN, Network  # noqa: E402
from harness.http_upstream import HttpUpstream  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.raw_upstream import RawUpstream, Unresponsive, echo  # noqa: E402


class Registry:
    """Everything that was started, so that it can be stopped and read at the end."""

    def __init__(self, root):
        self.root = root
        self.networks = []
        self.agents = []
        self.closers = []

    def network(self, name="network", **settings):
        network = Network(self.root / name, name=name, **settings)
        self.networks.append(network)
        return network

    def agent(self, network, token, endpoints, name="agent", **settings):
        agent = Agent(network, self.root / name, token, endpoints, name=name, **settings)
        self.agents.append(agent)
        return agent

    def upstream(self, upstream):
        self.closers.append(upstream)
        return upstream

    def close(self):
        for agent in self.agents:
            for process in agent.runs:
                process.kill()
        for network in self.networks:
            for process in network.runs:
                process.kill()
        for upstream in self.closers:
            upstream.close()

    def faults(self):
        """Lines that must never be in a log: panics, and secrets."""
        secrets = [secret for network in self.networks for secret in network.secrets]
        for owner in self.networks + self.agents:
            for process in owner.runs:
                for line in process.lines:
                    if re.search(r"panicked at|RUST_BACKTRACE|internal error: entered unreachable", line):
                        yield f"{owner.name}: {line}"
                    if any(secret in line for secret in secrets):
                        yield f"{owner.name} told a secret: {line[:60]}…"


@pytest.fixture
def registry(tmp_path):
    """For a test that starts programs of its own."""
    registry = Registry(tmp_path)
    yield registry
    registry.close()
    assert list(registry.faults()) == []


class World:
    """The shared deployment: one network, one agent, one endpoint of each kind."""

    def __init__(self, registry):
        self.registry = registry
        self.http = registry.upstream(HttpUpstream())
        self.echo = registry.upstream(RawUpstream(echo))
        self.unresponsive = registry.upstream(Unresponsive())
        self.refused_port = free_port()
        self.tcp_port = free_port()
        self.network = registry.network()
        self.network.start()
        self.token = self.network.token(DOMAIN, f"*.{DOMAIN}", f"*.wild.{DOMAIN}", f"tcp:{self.tcp_port}")
        self.agent = registry.agent(self.network, self.token, self.endpoints())
        self.agent.start()

    def endpoints(self):
        return {
            "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": self.http.url}},
            "plain": {"url": f"http://plain.{DOMAIN}", "upstream": {"url": self.http.url}},
            "wild": {"url": f"https://*.wild.{DOMAIN}", "upstream": {"url": self.http.url}},
            "refused": {"url": f"https://refused.{DOMAIN}", "upstream": {"url": f"http://127.0.0.1:{self.refused_port}"}},
            "silent": {"url": f"https://silent.{DOMAIN}", "upstream": {"url": f"http://127.0.0.1:{self.unresponsive.port}", "connect_timeout": "1s"}},
            "echo": {"url": f"tcp://:{self.tcp_port}", "upstream": {"url": f"tcp://{self.echo.target}"}},
        }

    def url(self, name, path="", scheme="https"):
        return f"{scheme}://{name}.{DOMAIN}/{path}"


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("world"))
    try:
        yield World(registry)
    finally:
        registry.close()
    assert list(registry.faults()) == []

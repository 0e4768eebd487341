"""Slow callers by slowhttptest: they are cut when the limits say so, memory stays where it was, and others are served meanwhile."""

import pathlib
import re
import threading

import pytest

from harness.clients import curl
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.process import Process, wait_until

CONNECTIONS = 500
#: Of each kind of waiting, in seconds: short, so that the test is.
LIMIT = 2
#: What they may take, in KiB: 64 KiB of an answer each and as much for the rest, and what a session may hold for its streams, 32 MiB.
MEMORY = 128 * CONNECTIONS + (32 << 10)
#: How many answers another caller gets at the least while the attack is under way, which takes some seconds.
SERVED = 3


@pytest.fixture
def deployment(registry):
    limits = {"header_timeout": f"{LIMIT}s", "body_timeout": f"{LIMIT}s", "stall_timeout": f"{LIMIT}s", "idle_timeout": f"{LIMIT}s"}
    network = registry.network(limits=limits, log={"level": "info"})
    network.start()
    upstream = registry.upstream(HttpUpstream())
    url = f"http://slow.{DOMAIN}"
    # The others have an upstream of their own: what the attack does to an upstream is no affair of the network's.
    other = registry.upstream(HttpUpstream())
    endpoints = {"slow": {"url": url, "upstream": {"url": upstream.url}}, "other": {"url": f"http://other.{DOMAIN}", "upstream": {"url": other.url}}}
    registry.agent(network, network.token(f"*.{DOMAIN}"), endpoints).start()
    return network


def resident(network):
    return int(re.search(r"VmRSS:\s+(\d+) kB", pathlib.Path(f"/proc/{network.process.child.pid}/status").read_text())[1])


def connections(network):
    """The connections that the system keeps of the network's HTTP port, whoever has closed them: all but LISTEN and TIME_WAIT."""
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(int(row[1].split(":")[1], 16) == network.ports["http"] and row[3] not in ("0A", "06") for row in rows)


class Others:
    """A caller that asks again and again meanwhile."""

    def __init__(self, network):
        self.network, self.served, self.wrong, self.most = network, 0, [], 0
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.call)

    def call(self):
        while not self.end.is_set():
            answer = curl(self.network, f"http://other.{DOMAIN}/")
            if answer.status == 200:
                self.served += 1
            else:
                self.wrong.append(answer.status)
            self.most = max(self.most, resident(self.network))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


@pytest.mark.parametrize(
    "kind, path",
    [
        (["-H", "-i", "1", "-x", "8"], ""),
        (["-B", "-i", "1", "-x", "8", "-s", "8192"], "echo"),
        (["-X", "-w", "1", "-y", "512", "-n", "1", "-z", "5"], "download?n=100000000"),
    ],
    ids=["slow headers", "slow body", "slow read"],
)
def test_slow_callers_are_cut_and_others_are_served(deployment, kind, path):
    before = resident(deployment)
    proxy = f"127.0.0.1:{deployment.ports['http']}"
    argv = ["slowhttptest", *kind, "-c", CONNECTIONS, "-r", CONNECTIONS, "-l", 60, "-v", "1", "-d", proxy, "-u", f"http://slow.{DOMAIN}/{path}"]
    with Others(deployment) as others:
        attack = Process("slowhttptest", argv)
        # On a slow machine the first are cut before the last come.
        wait_until(lambda: deployment.metric("adit_connections_accepted_total") > CONNECTIONS * 0.9, "the attack is under way")
        begin = others.served
        # Those of the other caller come and go.
        wait_until(lambda: connections(deployment) < 5, "the attack is cut", deadline=10 * LIMIT)
        served = others.served - begin
        attack.kill()
    assert others.wrong == [] and served >= SERVED, (others.wrong, served)
    assert others.most - before < MEMORY, (before, others.most)

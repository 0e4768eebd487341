"""Several agents behind one endpoint: who gets a request, who is turned away, and whether the endpoint is ready."""

import json
import threading
import time
import urllib.parse
import urllib.request

import pytest

from harness.clients import curl
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream, UpstreamProcess
from harness.ports import free_port
from harness.process import wait_until
from harness.raw_upstream import RawUpstream

PROBE = {"path": "/hello", "interval": "200ms", "timeout": "1s", "healthy": 1, "unhealthy": 1}


class Site:
    """A network whose endpoints have this health, and agents that share them."""

    def __init__(self, registry, **health):
        self.registry = registry
        item = {"account": "e2e", "type": "agent"}
        names = {name: {**item, "url": f"https://{name}.{DOMAIN}", "health": settings} for name, settings in health.items()}
        self.network = registry.network(endpoints=list(names.values()))
        self.network.start()
        self.token = self.network.token(f"*.{DOMAIN}")

    def agent(self, name, url, number):
        endpoint = {name: {"url": f"https://{name}.{DOMAIN}", "upstream": {"url": url}, "pooling_enabled": True}}
        return self.registry.agent(self.network, self.token, endpoint, name=f"{name}-{number}").start()

    def upstream(self, name, port=0):
        return self.registry.upstream(HttpUpstream(name=name, port=port))

    def mortal(self):
        """An upstream of its own process: it takes its connections with it when it dies."""
        return self.registry.upstream(UpstreamProcess(free_port()))

    def get(self, name, path="hello", *options):
        return curl(self.network, f"https://{name}.{DOMAIN}/{path}", *options)

    def many(self, name, count, path="hello"):
        """Asks so many times over one connection, and returns the bodies in order; every answer is 200."""
        urls = [f"https://{name}.{DOMAIN}:{self.network.ports['https']}/{path}"] * (count - 1)
        answer = self.get(name, path, "--fail", "--fail-early", *[word for url in urls for word in (url, "-o", "-")])
        assert answer.status == 200
        return answer.body.decode().splitlines()

    def members(self, name):
        """How the network sees the members of an endpoint, and with which status it says so."""
        query = urllib.parse.urlencode({"endpoint": f"https://{name}.{DOMAIN}"})
        url = f"http://127.0.0.1:{self.network.ports['admin']}/readyz/endpoints?{query}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                status, page = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            status, page = error.code, json.load(error)
        return status, sorted(member["state"] for member in page["endpoints"][0]["members"])


@pytest.fixture
def site(registry):
    return lambda **health: Site(registry, **health)


def test_of_two_upstreams_one_dies_and_comes_back(site):
    site = site(pool={"failures": 3, "away": "1s"})
    steady, mortal = site.upstream("pool"), site.mortal()
    site.agent("pool", steady.url, 0)
    site.agent("pool", mortal.url, 1)
    both = site.many("pool", 20)
    assert [both.count(f"hello from {name}") for name in ("pool", "upstream")] == [10, 10]
    assert site.members("pool") == (200, ["ready", "ready"])

    mortal.close()
    # Each request is served: what the dead one refuses goes to the other.
    assert set(site.many("pool", 20)) == {"hello from pool"}
    assert site.network.metric("adit_member_changes_total") >= 1
    assert site.members("pool")[0] == 200
    assert 3 <= site.network.metric("adit_retries_total") <= 10
    mortal.start()
    wait_until(lambda: "hello from upstream" in site.many("pool", 10), "the one that came back to serve")
    assert site.members("pool") == (200, ["ready", "ready"])


def test_a_slow_member_gets_less(site):
    site = site(slow={})
    quick, slow = (site.upstream(f"slow-{number}") for number in range(2))
    for number, upstream in enumerate((quick, slow)):
        site.agent("slow", upstream.url, number)
    held = []
    threads = []
    # Of four requests that do not end two hang at each; then one lets go of its own.
    for _ in range(4):
        threads.append(threading.Thread(target=lambda: held.append(site.get("slow", "hold").status)))
        threads[-1].start()
        wait_until(lambda: sum(len(up.requests) for up in (quick, slow)) >= len(threads), "a request to arrive")
    assert [len(up.requests) for up in (quick, slow)] == [2, 2]
    for _ in range(2):
        quick.release.release()
    wait_until(lambda: len(held) == 2, "the quick one to answer")
    assert set(site.many("slow", 20)) == {"hello from slow-0"}
    for _ in range(2):
        slow.release.release()
    for thread in threads:
        thread.join()
    assert held == [200] * 4


def test_a_probe_turns_a_member_away_before_a_caller_sees_it(site):
    site = site(probed={"probe": PROBE})
    good, bad = site.upstream("probed"), site.mortal()
    broken = free_port()
    site.agent("probed", good.url, 0)
    site.agent("probed", bad.url, 1)
    site.agent("probed", f"http://127.0.0.1:{broken}", 2)
    wait_until(lambda: site.members("probed") == (200, ["ready", "ready", "turned away"]), "every member to be asked")
    # Which of the two is nearer is the machine's affair.
    assert set(site.many("probed", 10)) <= {"hello from probed", "hello from upstream"}

    bad.close()
    wait_until(lambda: site.members("probed") == (200, ["ready", "turned away", "turned away"]), "the probe to notice")
    assert set(site.many("probed", 10)) == {"hello from probed"}
    assert site.network.metric("adit_retries_total") == 0, "no caller's request found it out"
    wait_until(lambda: site.network.metric("adit_endpoint_ready") == 1, "the number to follow")

    good.close()
    wait_until(lambda: site.members("probed")[0] == 503, "the endpoint to be no longer ready")
    assert site.network.health("/readyz") == 200, "the network itself is"
    wait_until(lambda: site.network.metric("adit_endpoint_ready") == 0, "the number to follow")
    assert site.get("probed").status in (200, 502), "who is there is asked all the same"

    site.upstream("probed-9", port=broken)
    wait_until(lambda: site.members("probed") == (200, ["ready", "turned away", "turned away"]), "the probe to notice")
    assert site.get("probed").body == b"hello from probed-9\n"


def test_the_last_member_is_never_turned_away(site):
    site = site(last={"failures": 1, "away": "1h", "away_max": "1h", "share": 100})
    port = free_port()
    site.agent("last", f"http://127.0.0.1:{port}", 0)
    assert [site.get("last").status for _ in range(5)] == [502] * 5
    assert site.members("last") == (200, ["ready"])
    assert site.network.metric("adit_member_changes_total") == 0
    site.upstream("last", port=port)
    assert site.get("last").status == 200


def test_retries_are_bounded_and_what_may_not_be_repeated_is_sent_once(site):
    site = site(retry={"failures": 1000, "share": 0})
    taken = []

    def dies(sock):
        """Takes a request and goes away without an answer."""
        taken.append(sock.recv(1 << 16))

    upstream = site.registry.upstream(RawUpstream(dies))
    site.agent("retry", f"http://{upstream.target}", 0)
    site.agent("retry", f"http://{upstream.target}", 1)
    assert site.get("retry", "", "-X", "POST", "-d", "x").status == 502
    assert len(taken) == 1
    assert site.get("retry", "", "-X", "PUT", "-d", "x").status == 502
    assert len(taken) == 3

    # A hundred retries at once, a fifth of the requests, and ten a second.
    port = site.network.ports["https"]
    urls = [word for _ in range(299) for word in (f"https://retry.{DOMAIN}:{port}/", "-o", "-")]
    started = time.monotonic()
    site.get("retry", "", *urls)
    took = time.monotonic() - started
    assert len(taken) - 3 - 300 <= 100 + 300 / 5 + 10 * (took + 1)


def test_a_member_that_hangs_holds_no_more_than_it_may(site):
    site = site(full={"outstanding": 2})
    upstreams = [site.upstream(f"full-{number}") for number in range(2)]
    for number, upstream in enumerate(upstreams):
        site.agent("full", upstream.url, number)
    threads = [threading.Thread(target=site.get, args=("full", "hold")) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: sum(len(up.requests) for up in upstreams) == 4, "every place to be taken")
    assert [len(up.requests) for up in upstreams] == [2, 2]
    refused = site.get("full")
    assert (refused.status, refused.headers["adit-error"], refused.headers["retry-after"]) == (503, "ADIT-3032", "5")
    for upstream in upstreams:
        upstream.release.release()
        upstream.release.release()
    for thread in threads:
        thread.join()
    assert site.get("full").status == 200

"""What the network says when there is nothing to answer with."""

import json

import pytest

from harness.clients import curl
from harness.deployment import DOMAIN
from harness.process import wait_until

KINDS = {"text/html": b"<html", "application/json": b"{", "text/plain": b"ADIT-"}


def check(answer, status, code, kind):
    assert answer.status == status
    assert answer.headers["content-type"].startswith(kind)
    assert code.encode() in answer.body
    if kind == "application/json":
        assert code in json.dumps(json.loads(answer.body))
    if kind == "text/html":
        assert b"<html" in answer.body.lower()
    for private in (b"127.0.0.1", b"panicked", b".rs:", b"/target/"):
        assert private not in answer.body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("nobody", 404, "ADIT-3001"), ("refused", 502, "ADIT-3003"), ("silent", 504, "ADIT-3004")],
)
def test_an_answer_of_the_network_has_a_status_a_code_and_the_kind_asked_for(world, name, status, code, kind):
    check(curl(world.network, world.url(name), "-H", f"Accept: {kind}"), status, code, kind)


def test_an_endpoint_whose_agent_is_away_is_503_with_retry_after(world):
    token = world.network.token(f"away.{DOMAIN}")
    agent = world.registry.agent(world.network, token, {"away": {"url": f"https://away.{DOMAIN}", "upstream": {"url": world.http.url}}}, name="away")
    agent.start()
    assert curl(world.network, world.url("away", "hello")).status == 200
    assert agent.stop() == 0
    answer = wait_until(
        lambda: (found := curl(world.network, world.url("away", "hello"))).status != 200 and found, "the endpoint to be without agent"
    )
    assert (answer.status, int(answer.headers["retry-after"]) > 0) == (503, True)
    assert b"ADIT-3002" in answer.body


def test_trace_and_connect_are_refused(world):
    assert curl(world.network, world.url("web", "hello"), "-X", "TRACE").status == 405
    assert curl(world.network, world.url("web", "hello"), "-X", "CONNECT", "--http1.1").status in (400, 405)

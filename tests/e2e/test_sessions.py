"""Who may bind what, and what becomes of it."""

import time

from harness.clients import curl, dial, receive
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import wait_until


def web(name, upstream, **more):
    return {name: {"url": f"https://{name}.{DOMAIN}", "upstream": {"url": upstream.url}, **more}}


def test_a_revoked_token_ends_its_session_within_a_second(world):
    port = free_port()
    token = world.network.token(f"tcp:{port}")
    endpoints = {"revoked": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{world.echo.target}"}}}
    agent = world.registry.agent(world.network, token, endpoints, name="revoked")
    agent.start()
    with dial(port) as sock:
        sock.sendall(b"alive")
        assert receive(sock, 5) == b"alive"
        world.network.revoke(token)
        revoked = time.monotonic()
        try:
            assert sock.recv(1) == b""
        except ConnectionResetError:
            pass
        assert time.monotonic() - revoked < 1.0
    agent.process.wait_for("revoked")
    assert agent.process.wait() == 4


# BIND-002
def test_a_token_without_acl_binds_nothing(world):
    token = world.network.token()
    agent = world.registry.agent(world.network, token, web("without", world.http), name="without")
    agent.spawn()
    agent.process.wait_for("ADIT-2003")
    assert curl(world.network, world.url("without")).status == 404
    agent.stop()


def test_an_acl_for_a_domain_does_not_cover_another_that_ends_alike(world):
    token = world.network.token(f"*.mine.{DOMAIN}")
    agent = world.registry.agent(world.network, token, web("evilmine", world.http), name="evilmine")
    agent.spawn()
    agent.process.wait_for("ADIT-2003")
    agent.stop()


# BIND-005
def test_one_refused_bind_harms_no_other(world):
    token = world.network.token(f"allowed.{DOMAIN}")
    agent = world.registry.agent(world.network, token, {**web("allowed", world.http), **web("forbidden", world.http)}, name="mixed")
    agent.spawn()
    agent.process.wait_for("ADIT-2003")
    wait_until(lambda: curl(world.network, world.url("allowed", "hello")).status == 200, "the allowed endpoint to serve")
    assert curl(world.network, world.url("forbidden", "hello")).status == 404
    agent.stop()


def test_a_token_of_another_network_is_refused_for_good_and_not_shown(world):
    token = world.registry.network("other").token(f"wrong.{DOMAIN}")
    agent = world.registry.agent(world.network, token, web("wrong", world.http), name="wrong")
    agent.spawn()
    assert agent.process.wait() == 4
    assert "ADIT-2001" in agent.process.text()


# BIND-003
def test_a_second_bind_without_pooling_is_refused_and_the_first_serves_on(world):
    token = world.network.token(f"single.{DOMAIN}")
    first = world.registry.agent(world.network, token, web("single", world.http), name="single-first")
    first.start()
    second = world.registry.agent(world.network, token, web("single", world.http), name="single-second")
    second.spawn()
    second.process.wait_for("ADIT-2004")
    assert curl(world.network, world.url("single", "hello")).status == 200
    first.stop()
    # The refused bind is tried again by itself and takes over.
    second.wait_bound()
    assert curl(world.network, world.url("single", "hello")).status == 200
    second.stop()


def test_pooled_agents_share_and_a_killed_one_is_skipped(world):
    token = world.network.token(f"pool.{DOMAIN}")
    upstreams = [world.registry.upstream(HttpUpstream(name=f"pool-{number}")) for number in range(2)]
    agents = []
    for number, upstream in enumerate(upstreams):
        agent = world.registry.agent(world.network, token, web("pool", upstream, pooling_enabled=True), name=f"pool-{number}")
        agents.append(agent.start())
    served = {curl(world.network, world.url("pool", "hello")).body for _ in range(20)}
    assert served == {b"hello from pool-0\n", b"hello from pool-1\n"}
    agents[0].process.kill()
    after = [curl(world.network, world.url("pool", "hello")) for _ in range(20)]
    assert [answer.body for answer in after if answer.status == 200].count(b"hello from pool-1\n") >= 19
    agents[1].stop()


def test_a_connection_that_one_pooled_agent_cannot_hand_over_is_tried_on_another(world):
    token = world.network.token(f"retry.{DOMAIN}")
    upstream = world.registry.upstream(HttpUpstream(name="retry"))
    broken = {"retry": {"url": f"https://retry.{DOMAIN}", "upstream": {"url": f"http://127.0.0.1:{free_port()}"}, "pooling_enabled": True}}
    agents = [
        world.registry.agent(world.network, token, broken, name="retry-broken").start(),
        world.registry.agent(world.network, token, web("retry", upstream, pooling_enabled=True), name="retry-good").start(),
    ]
    assert {curl(world.network, world.url("retry", "hello")).status for _ in range(20)} == {200}
    for agent in agents:
        agent.stop()


def test_a_new_session_of_the_same_agent_replaces_its_ghost(world):
    import signal

    token = world.network.token(f"ghost.{DOMAIN}")
    agent = world.registry.agent(world.network, token, web("ghost", world.http), name="ghost")
    agent.start()
    ghost = agent.process
    ghost.signal(signal.SIGSTOP)
    try:
        agent.start()
        assert curl(world.network, world.url("ghost", "hello")).status == 200
    finally:
        ghost.kill()
    assert curl(world.network, world.url("ghost", "hello")).status == 200
    agent.stop()

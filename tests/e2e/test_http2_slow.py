"""Callers over HTTP/2 that are slow or gone, frame by frame: octets that keep coming buy no time, and who answers no PING is gone."""

import threading
import time

from test_http2_frames import (
    DATA, END_HEADERS, GET, HEADERS, POST, PREFACE, RST_STREAM,
    Caller, body, headers, settings,
)  # fmt: skip

from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.process import wait_until

#: Of each kind of waiting, in seconds: short, so that the test is.
LIMIT = 2


def deploy(registry, **limits):
    network = registry.network(limits=limits)
    network.start()
    network.upstream = registry.upstream(HttpUpstream())
    endpoints = {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": network.upstream.url}}}
    registry.agent(network, network.token(f"*.{DOMAIN}"), endpoints).start()
    return network


def path(fields, to):
    return [(name, to if name == ":path" else value) for name, value in fields]


def test_octets_that_keep_coming_buy_no_time_and_other_streams_go_on(registry):
    deployment = deploy(registry, body_timeout=f"{LIMIT}s")
    caller = Caller(deployment.ports["https"], deployment.ca)
    with caller.socket:
        upload = headers(1, path(POST, "/upload?slow"), END_HEADERS)
        steady = headers(3, path(POST, "/upload?steady"), END_HEADERS)
        caller.socket.sendall(PREFACE + settings() + upload + steady)
        began, over = time.monotonic(), threading.Event()

        def send():
            while not over.wait(LIMIT / 4):
                # 100 octets buy a second.
                caller.socket.sendall(body(1, b"x", 0) + body(3, b"y" * 200, 0))

        sender = threading.Thread(target=send)
        sender.start()
        statuses, ended = {}, False
        for kind, flags, stream, payload in caller.frames():
            if kind == HEADERS:
                statuses[stream] = int(dict(caller.decoder.decode(payload))[":status"])
            ended |= stream == 1 and (kind == RST_STREAM or (kind == DATA and flags & 1))
            if stream == 1 and ended and not over.is_set():
                took = time.monotonic() - began
                over.set()
                sender.join()
                caller.socket.sendall(body(3, b"z"))
            if 3 in statuses:
                break
    assert statuses == {1: 408, 3: 200}
    assert LIMIT <= took < 4 * LIMIT, took
    slow = deployment.upstream.wait_for("/upload?slow")
    assert slow.finished.wait(5), "the upstream's request is cancelled"
    assert deployment.metric('adit_refused_total{code="ADIT-3011"}') == 1


def test_who_answers_no_ping_is_gone_and_its_requests_are_cancelled(registry):
    deployment = deploy(registry, ping_interval="1s", ping_timeout="1s")
    caller = Caller(deployment.ports["https"], deployment.ca)
    with caller.socket:
        caller.socket.sendall(PREFACE + settings() + headers(1, path(GET, "/events")))
        seen = deployment.upstream.wait_for("/events")
        deployment.upstream.events.put(b"first")
        caller.socket.settimeout(10)
        heard = [(kind, flags) for kind, flags, stream, _ in caller.frames() if stream == 1]
    assert heard[0][0] == HEADERS and not any(kind in (HEADERS, DATA) and flags & 1 for kind, flags in heard), "cut, never complete"
    assert deployment.metric('adit_limits_reached_total{limit="ping_timeout"}') == 1
    deployment.upstream.events.put(b"second")
    deployment.upstream.events.put(b"third")
    assert seen.finished.wait(5), "the upstream's request is cancelled"
    wait_until(lambda: deployment.metric('adit_connections{listener="Https"}') == 0, "the caller's place is free")

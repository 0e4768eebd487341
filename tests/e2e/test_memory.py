"""Memory that runs short: new requests are answered cheaply, what is open goes on, and all is as before when there is room again."""

import socket

from harness.clients import curl
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.process import wait_until

#: Each takes 64 KiB of an answer and more.
READERS = 600


def test_new_requests_are_refused_while_memory_is_short(registry):
    network = registry.network(limits={"memory": "96MiB"}, log={"level": "info"})
    network.start()
    upstream = registry.upstream(HttpUpstream())
    host = f"full.{DOMAIN}"
    registry.agent(network, network.token(f"*.{DOMAIN}"), {"full": {"url": f"http://{host}", "upstream": {"url": upstream.url}}}).start()
    ask = lambda: curl(network, f"http://{host}/")
    assert ask().status == 200

    readers, refused = [], None
    while refused is None and len(readers) < READERS:
        reader = socket.create_connection(("127.0.0.1", network.ports["http"]))
        if readers:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(f"GET /download?n=20000000 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        readers.append(reader)
        if (answer := ask()).status != 200:
            refused = answer
    assert refused is not None, f"{len(readers)} readers changed nothing"
    assert (refused.status, refused.headers["adit-error"], refused.headers["retry-after"]) == (503, "ADIT-3040", "5")
    assert network.metric("adit_limits_reached_total") >= 1

    # What is open goes on.
    first, got = readers[0], 0
    while got < 5_000_000:
        got += len(first.recv(65_536))

    for reader in readers:
        reader.close()
    wait_until(lambda: ask().status == 200, "there is room again")

"""WebSocket, server-sent events and gRPC: what is sent arrives at once, in both directions."""

import asyncio
import threading
import time
from concurrent import futures

import grpc
import pytest
import websockets.asyncio.client
import websockets.sync.server

from harness.clients import dial, tls_context
from harness.deployment import DOMAIN
from harness.ports import free_port


@pytest.fixture(scope="module")
def streaming(world):
    """A second agent with a WebSocket and a gRPC upstream."""
    socket_server = websockets.sync.server.serve(converse, "127.0.0.1", 0, max_size=None)
    threading.Thread(target=socket_server.serve_forever, daemon=True).start()
    grpc_port = free_port()
    grpc_server = grpc.server(futures.ThreadPoolExecutor(8))
    grpc_server.add_generic_rpc_handlers([Chat()])
    grpc_server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    grpc_server.start()
    endpoints = {
        "ws": {"url": f"https://ws.{DOMAIN}", "upstream": {"url": f"http://127.0.0.1:{socket_server.socket.getsockname()[1]}"}},
        "grpc": {"url": f"https://grpc.{DOMAIN}", "upstream": {"url": f"http://127.0.0.1:{grpc_port}", "protocol": "http2"}},
    }
    agent = world.registry.agent(world.network, world.token, endpoints, name="streaming")
    agent.start()
    yield agent
    agent.stop()
    socket_server.shutdown()
    grpc_server.stop(None)


def converse(connection):
    """Speaks first, then echoes; closes with a code of its own on request."""
    connection.send("first")
    for message in connection:
        if message == "close":
            connection.close(4321, "as asked")
            return
        connection.send(message)


class Chat(grpc.GenericRpcHandler):
    """Bytes in, bytes out, no schema."""

    def service(self, details):
        if details.method == "/adit.Chat/Talk":
            return grpc.stream_stream_rpc_method_handler(self.talk)
        if details.method == "/adit.Chat/Fail":
            return grpc.unary_unary_rpc_method_handler(self.fail)
        return None

    def talk(self, requests, context):
        count = 0
        for request in requests:
            count += 1
            yield b"re: " + request
        context.set_trailing_metadata((("x-count", str(count)), ("x-bin-bin", b"\x00\xff")))

    def fail(self, request, context):
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 % ✓")


def open_socket(world):
    # The client without threads: over TLS the one with threads loses its own request once in fifty times, tunnel or not.
    return websockets.asyncio.client.connect(
        f"wss://ws.{DOMAIN}/",
        host="127.0.0.1",
        port=world.network.ports["https"],
        ssl=tls_context(world.network, "http/1.1"),
        server_hostname=f"ws.{DOMAIN}",
        max_size=None,
    )


def test_websocket_first_message_of_the_server_is_not_lost(world, streaming):
    async def greet():
        for _ in range(50):
            async with asyncio.timeout(5), open_socket(world) as connection:
                assert await connection.recv() == "first"

    asyncio.run(greet())


def test_websocket_carries_text_binary_and_large_messages(world, streaming):
    async def talk():
        async with asyncio.timeout(30), open_socket(world) as connection:
            await connection.recv()
            for message in ("text ✓", b"", b"\x00" * 65_536, b"large" * 800_000):
                await connection.send(message)
                assert await connection.recv() == message

    asyncio.run(talk())


def test_websocket_ping_and_close_code_pass(world, streaming):
    async def part():
        async with asyncio.timeout(10), open_socket(world) as connection:
            await connection.recv()
            await (await connection.ping())
            await connection.send("close")
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                await connection.recv()
        return closed.value.rcvd

    received = asyncio.run(part())
    assert (received.code, received.reason) == (4321, "as asked")


def test_each_server_sent_event_arrives_within_100_ms(world):
    with tls_context(world.network, "http/1.1").wrap_socket(dial(world.network.ports["https"]), server_hostname=f"web.{DOMAIN}") as sock:
        sock.sendall(f"GET /events HTTP/1.1\r\nHost: web.{DOMAIN}\r\nAccept: text/event-stream\r\n\r\n".encode())
        stream = sock.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        delays = []
        for number in range(50):
            event = f"data: {number}\n\n".encode()
            sent = time.monotonic()
            world.http.events.put(event)
            size = int(stream.readline(), 16)
            assert stream.read(size + 2) == event + b"\r\n"
            delays.append(time.monotonic() - sent)
        world.http.events.put(None)
        assert stream.readline() == b"0\r\n"
    assert max(delays) < 0.1, sorted(delays)[-5:]


@pytest.fixture
def channel(world, streaming):
    credentials = grpc.ssl_channel_credentials(world.network.ca.read_bytes())
    options = [("grpc.ssl_target_name_override", f"grpc.{DOMAIN}"), ("grpc.default_authority", f"grpc.{DOMAIN}")]
    with grpc.secure_channel(f"127.0.0.1:{world.network.ports['https']}", credentials, options) as channel:
        yield channel


def test_grpc_streams_in_both_directions_at_once(channel):
    turn = threading.Semaphore(0)

    def questions():
        for number in range(100):
            yield b"%d" % number
            assert turn.acquire(timeout=10), "the answer to the last message did not come"

    call = channel.stream_stream("/adit.Chat/Talk")(questions(), timeout=30)
    for number, answer in enumerate(call):
        assert answer == b"re: %d" % number
        turn.release()
    assert number == 99
    assert dict(call.trailing_metadata())["x-count"] == "100"
    assert dict(call.trailing_metadata())["x-bin-bin"] == b"\x00\xff"


def test_grpc_status_and_message_reach_the_caller(channel):
    with pytest.raises(grpc.RpcError) as failed:
        channel.unary_unary("/adit.Chat/Fail")(b"", timeout=10)
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not today: 100 % ✓")

"""A service that a browser is at home with: a page, what the page loads, events, and a WebSocket."""

import asyncio
import base64
import hashlib
import struct
import threading

PAGE = """<!doctype html>
<title>loading</title>
<link rel="stylesheet" href="/style.css">
<body>
<script>
"use strict";
const got = {};
const done = Promise.all([
  Promise.all(Array.from({length: 20}, (_, at) => fetch("/item?" + at).then(answer => answer.text()))).then(items => { got.items = items; }),
  new Promise((resolve, reject) => {
    const events = new EventSource("/events");
    got.events = [];
    events.onmessage = event => { got.events.push(event.data); if (got.events.length === 3) { events.close(); resolve(); } };
    events.onerror = () => reject(new Error("events"));
  }),
  new Promise((resolve, reject) => {
    const socket = new WebSocket("wss://" + location.host + "/socket");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = event => { got.socket = event.data; socket.close(); resolve(); };
    socket.onerror = () => reject(new Error("socket"));
  }),
]);
done.then(() => {
  const loaded = performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"));
  got.protocols = [...new Set(loaded.map(entry => entry.nextHopProtocol))];
  got.style = getComputedStyle(document.body).color;
  document.title = "done";
}, error => { document.title = "failed: " + error.message; });
</script>
"""


class PageUpstream:
    """Serves it over HTTP/1.1; `headers` holds those of each request by its path."""

    def __init__(self):
        self.headers = {}
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self.thread.start()
        started.wait()

    def _run(self, started):
        async def listen():
            server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            started.set()

        self.loop.run_until_complete(listen())
        self.loop.run_forever()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def _serve(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = head[0].split(" ")[1]
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
                self.headers[path] = headers
                await self._answer(path, headers, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, path, headers, reader, writer):
        def whole(kind, text):
            octets = text.encode()
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(octets)}\r\n\r\n".encode() + octets)

        if path == "/":
            whole("text/html", PAGE)
        elif path == "/style.css":
            whole("text/css", "body { color: rgb(1, 2, 3) }")
        elif path.startswith("/item?"):
            whole("text/plain", path[6:])
        elif path == "/events":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(3):
                event = f"data: {number}\n\n"
                writer.write(f"{len(event):x}\r\n{event}\r\n".encode())
                await writer.drain()
            await reader.read(1)  # until the browser has enough
            raise ConnectionError
        elif path == "/socket":
            await echo(headers, reader, writer)
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()


async def echo(headers, reader, writer):
    """A WebSocket that sends each short message back (RFC 6455)."""
    key = headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while True:
        first, length = struct.unpack("BB", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        message = bytes(octet ^ mask[at % 4] for at, octet in enumerate(await reader.readexactly(length & 0x7F)))
        writer.write(struct.pack("BB", first, len(message)) + message)
        await writer.drain()
        if first & 0xF == 8:
            raise ConnectionError

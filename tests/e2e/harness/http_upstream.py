"""The HTTP/1.1 service behind the tunnel."""

import gzip
import hashlib
import http.server
import json
import pathlib
import queue
import socket
import sys
import threading
import urllib.parse
import zlib

from . import payload
from .process import Process


class Seen:
    """What the upstream saw of one request; `finished` is set when its handler ended."""

    def __init__(self, method, path, headers):
        self.method = method
        self.path = path
        self.headers = headers
        self.sent = 0
        self.broken = False
        self.finished = threading.Event()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format, *arguments):
        pass

    def handle_one_request(self):
        self.seen = None
        try:
            super().handle_one_request()
        except (ConnectionError, BrokenPipeError, TimeoutError):
            self.close_connection = True
            if self.seen:
                self.seen.broken = True
        finally:
            if self.seen:
                self.seen.finished.set()

    def route(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        self.seen = Seen(self.command, self.path, self.headers)
        self.server.owner.record(self.seen)
        name = url.path.strip("/").split("/")[0] or "hello"
        getattr(self, "on_" + name, self.on_unknown)(query)

    do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = do_OPTIONS = route

    def body(self):
        """Yields the body of the request."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                if size == 0:
                    while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                        pass
                    return
                while size:
                    data = self.rfile.read1(min(size, 1 << 18))
                    if not data:
                        raise ConnectionError("the body ended early")
                    size -= len(data)
                    yield data
                self.rfile.readline()
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            data = self.rfile.read1(min(left, 1 << 18))
            if not data:
                raise ConnectionError("the body ended early")
            left -= len(data)
            yield data

    def answer(self, body, status=200, kind="text/plain", headers=()):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
        self.seen.sent += len(data)

    # One method a path.

    def on_hello(self, query):
        self.answer(f"hello from {self.server.owner.name}\n".encode())

    def on_headers(self, query):
        self.answer(json.dumps(self.headers.items()).encode(), kind="application/json")

    def on_echo(self, query):
        self.answer(b"".join(self.body()))

    def on_upload(self, query):
        state, total = hashlib.sha256(), 0
        for data in self.body():
            state.update(data)
            total += len(data)
        self.answer(f"{total} {state.hexdigest()}".encode())

    def on_download(self, query):
        total = int(query["n"])
        self.send_response(200)
        self.send_header("Content-Length", str(total))
        self.end_headers()
        for block in payload.blocks(total):
            self.wfile.write(block)
            self.seen.sent += len(block)

    def on_events(self, query):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while (event := self.server.owner.events.get()) is not None:
            self.chunk(event)
        self.wfile.write(b"0\r\n\r\n")

    def on_coded(self, query):
        """A coding that nobody asked for: `n` octets, or a part of them."""
        data = b"secret word " * (int(query["n"]) // 12)
        coded = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": bytes}[query["coding"]](data)
        self.answer(coded, headers=[("Content-Encoding", query["coding"]), ("ETag", '"one"')])

    def on_part(self, query):
        self.answer(b"secr", status=206, headers=[("Content-Range", "bytes 0-3/6")])

    def on_trailers(self, query):
        self.send_response(200)
        self.send_header("Trailer", "X-Sum")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b"body with trailers")
        self.wfile.write(b"0\r\nX-Sum: 18\r\n\r\n")

    def on_truncated(self, query):
        """Promises more than it sends, then closes."""
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.wfile.write(b"x" * 1000)
        self.close_connection = True

    def on_hold(self, query):
        """Answers when the test says so."""
        self.server.owner.held.release()
        self.server.owner.release.acquire()
        self.answer(b"held\n")

    def on_garbage(self, query):
        self.wfile.write(b"\x00\x01this is not HTTP\r\n\r\n")
        self.close_connection = True

    def on_unknown(self, query):
        self.answer(b"no such path\n", status=404)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        pass


class Server6(Server):
    address_family = socket.AF_INET6


class HttpUpstream:
    """A service on a free port; `requests` is what it saw."""

    def __init__(self, name="upstream", host="127.0.0.1", port=0):
        self.name = name
        self.requests = []
        self.events = queue.Queue()
        self.held = threading.Semaphore(0)
        self.release = threading.Semaphore(0)
        self._arrived = threading.Condition()
        self.server = (Server6 if ":" in host else Server)((host, port), Handler)
        self.server.owner = self
        self.port = self.server.server_address[1]
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def record(self, seen):
        with self._arrived:
            self.requests.append(seen)
            self._arrived.notify_all()

    def wait_for(self, path, deadline=10):
        """Waits for a request of that path (with query) and returns what was seen of it."""
        with self._arrived:
            found = self._arrived.wait_for(lambda: [seen for seen in self.requests if seen.path == path], deadline)
        assert found, f"no request for {path} in {deadline} s"
        return found[-1]

    def close(self):
        self.events.put(None)
        self.server.shutdown()
        self.server.server_close()


class UpstreamProcess:
    """The same service as a process of its own, for a test that kills it."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self):
        self.process = Process("upstream", [sys.executable, "-m", "harness.http_upstream", self.port], cwd=pathlib.Path(__file__).parents[1])
        self.process.first_stdout_line()

    def close(self):
        self.process.kill()


if __name__ == "__main__":
    HttpUpstream(port=int(sys.argv[1]))
    print("ready", flush=True)
    threading.Event().wait()

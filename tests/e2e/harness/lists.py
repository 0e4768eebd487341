"""A server of revocation lists in plain HTTP, which says what the test says."""

import http.server
import threading
import time

from .owners import owner


class Lists:
    """Answers each path of `answers` with a status and a body, and notes who asked for what."""

    def __init__(self):
        self.answers, self.asked, self.askers = {}, [], []
        self.ahead = 0  # seconds by which the server's clock is
        answers, asked, askers, lists = self.answers, self.asked, self.askers, self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                asked.append(self.path)
                askers.append(owner(self.client_address[1], self.server.server_address[1]))
                status, body = answers.get(self.path, (404, b""))
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/good")
                if self.path != "/endless":
                    self.send_header("Content-Length", str(len(body) + (100 if self.path == "/cut" else 0)))
                self.end_headers()
                try:
                    for _ in range(1000 if self.path == "/endless" else 1):
                        self.wfile.write(body)
                except OSError:
                    pass  # who has enough does not listen to the end

            def date_time_string(self, timestamp=None):
                return super().date_time_string(time.time() + lists.ahead)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://localhost:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def give(self, path, octets, status=200):
        self.answers[path] = (status, octets)

    def close(self):
        self.server.shutdown()
        self.server.server_close()

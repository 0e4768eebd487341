"""An OpenTelemetry collector: takes OTLP over HTTP in JSON, checks its shape, and keeps the spans."""

import http.server
import json
import re
import threading


class Collector:
    def __init__(self, statuses=()):
        """`statuses` are answered first, one a request, before 200."""
        self.spans = []
        self.faults = []
        self.headers = []
        self.statuses = list(statuses)
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = owner.statuses.pop(0) if owner.statuses else 200
                if status == 200:
                    owner.take(self.path, dict(self.headers.items()), body)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, headers, body):
        """Checks what https://opentelemetry.io/docs/specs/otlp/ and the proto's JSON form ask for."""
        self.headers.append(headers)
        try:
            assert path == "/v1/traces", path
            assert headers.get("content-type") == "application/json", headers
            for group in json.loads(body)["resourceSpans"]:
                check_attributes(group["resource"]["attributes"])
                for scoped in group["scopeSpans"]:
                    assert isinstance(scoped["scope"]["name"], str)
                    for span in scoped["spans"]:
                        check_span(span)
                        self.spans.append(span)
        except (AssertionError, KeyError, TypeError, ValueError) as fault:
            self.faults.append(f"{fault!r}: {body[:2000]!r}")

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def check_span(span):
    assert re.fullmatch("[0-9a-f]{32}", span["traceId"]) and re.fullmatch("[0-9a-f]{16}", span["spanId"]), span
    assert re.fullmatch("[0-9a-f]{16}", span.get("parentSpanId", "0" * 16)), span
    assert span["kind"] == 2 and span["name"], span
    start, end = span["startTimeUnixNano"], span["endTimeUnixNano"]
    assert isinstance(start, str) and isinstance(end, str) and int(start) <= int(end), span
    assert span["status"].get("code", 0) in (0, 1, 2), span
    check_attributes(span["attributes"])


def check_attributes(attributes):
    for attribute in attributes:
        (kind, value), = attribute["value"].items()
        assert isinstance(attribute["key"], str) and isinstance(value, str), attribute
        assert kind in ("stringValue", "intValue"), attribute
        if kind == "intValue":
            int(value)


def attributes(span):
    return {attribute["key"]: next(iter(attribute["value"].values())) for attribute in span["attributes"]}

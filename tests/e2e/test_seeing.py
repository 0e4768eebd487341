"""What the operator sees: the access log, traces, the numbers of each endpoint, and why a request was decided as it was."""

import json
import re
import signal
import socket
import subprocess

from harness.clients import curl, dial
from harness.collector import Collector, attributes
from harness.deployment import DOMAIN, NETWORK
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
POLICY = """\
on_http_request:
  - name: closed
    expressions: ["req.url.path == '/closed'"]
    actions:
      - type: deny
        config: {status_code: 451}
"""


def deployment(registry, **settings):
    upstream = registry.upstream(HttpUpstream())
    raw = registry.upstream(RawUpstream(echo))
    port = free_port()
    network = registry.network(**settings)
    network.start()
    token = network.token(f"web.{DOMAIN}", f"tcp:{port}", account="acme")
    endpoints = {
        "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": upstream.url}},
        "raw": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{raw.target}"}},
    }
    registry.agent(network, token, endpoints).start()
    return network, upstream, port


def entries(path, count):
    """Waits for so many lines of an access log."""

    def read():
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines] if len(lines) >= count else None

    return wait_until(read, f"{count} lines in {path}")


def test_the_access_log_has_each_request_and_connection_and_follows_logrotate(registry, tmp_path):
    log = tmp_path / "access.log"
    network, _, port = deployment(registry, log={"format": "text", "access": {"to": str(log), "path": True}})

    answer = curl(network, f"https://web.{DOMAIN}/echo?token=hidden", "-d", "12345", "-A", "hidden-agent")
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"abc")
        client.shutdown(socket.SHUT_WR)
        assert client.makefile("rb").read() == b"abc"
    request, connection = entries(log, 2)

    assert (request["message"], request["status"], request["method"], request["protocol"]) == ("request", answer.status, "POST", "HTTP/2.0")
    assert (request["account"], request["endpoint"], request["host"]) == ("acme", f"https://web.{DOMAIN}", f"web.{DOMAIN}")
    assert (request["path"], request["address"], request["received"], request["sent"]) == ("/echo", "127.0.0.0", 5, len(answer.body))
    assert request["request_id"] == answer.headers["adit-request-id"]
    assert request["tls_version"] == "TLSv1.3" and re.fullmatch("[0-9a-f]{32}", request["agent"])
    assert 0 < request["upstream_micros"] <= request["first_micros"] <= request["total_micros"]
    assert (connection["message"], connection["protocol"], connection["received"], connection["sent"]) == ("connection", "tcp", 3, 3)
    assert connection["whole"] is True and connection["endpoint"] == f"tcp://:{port}"
    assert "hidden" not in log.read_text()

    log.rename(tmp_path / "access.log.1")
    network.process.signal(signal.SIGHUP)
    wait_until(log.exists, "the log to be opened again")
    curl(network, f"https://web.{DOMAIN}/echo")
    assert len(entries(log, 1)) == 1 and len(entries(tmp_path / "access.log.1", 2)) == 2


def test_a_decision_is_explained_by_its_request_id(registry, tmp_path):
    log = tmp_path / "access.log"
    policy = tmp_path / "policy.yml"
    policy.write_text(POLICY)
    policy.chmod(0o640)
    endpoints = [{"url": f"https://web.{DOMAIN}", "account": "acme", "type": "agent", "policy": str(policy)}]
    upstream = registry.upstream(HttpUpstream())
    network = registry.network(log={"access": {"to": str(log)}}, endpoints=endpoints)
    token = network.token(f"web.{DOMAIN}", account="acme")
    network.start()
    registry.agent(network, token, {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": upstream.url}}}).start()

    answer = curl(network, f"https://web.{DOMAIN}/closed")
    entries(log, 1)
    told = run([NETWORK, "explain", answer.headers["adit-request-id"], "--log", log]).stdout.decode()
    unknown = subprocess.run([NETWORK, "explain", "0" * 32, "--log", log], capture_output=True, check=False)

    assert answer.status == 451
    assert "on_http_request[0] closed: matched" in told and "deny: refused with 451" in told
    assert answer.headers["adit-error"] in told
    assert unknown.returncode == 1 and b"ADIT-1506" in unknown.stderr
    shown = network.metrics()
    labels = f'account="acme",endpoint="https://web.{DOMAIN}"'
    assert f'adit_endpoint_requests_total{{{labels},status="4xx"}} 1' in shown
    assert f'adit_endpoint_policy_actions_total{{{labels},action="deny"}} 1' in shown
    assert 'adit_account_requests_total{account="acme",status="4xx"} 1' in shown


def test_a_trace_goes_on_and_its_span_is_exported(registry):
    collector = registry.upstream(Collector(statuses=[503]))
    telemetry = {"endpoint": collector.url, "sample": 1, "headers": {"x-key": "secret-of-the-collector"}}
    network, upstream, _ = deployment(registry, opentelemetry=telemetry)
    network.secrets.append("secret-of-the-collector")

    answer = curl(network, f"https://web.{DOMAIN}/headers", "-H", f"traceparent: 00-{TRACE}-{PARENT}-00", "-H", "tracestate: a=1")
    curl(network, f"https://web.{DOMAIN}/headers", "-H", "traceparent: 00-nothing", "-H", "tracestate: a=1")
    wait_until(lambda: len(collector.spans) >= 2, "two spans")

    assert collector.faults == []
    assert {headers["x-key"] for headers in collector.headers} == {"secret-of-the-collector"}
    ours = next(span for span in collector.spans if span["traceId"] == TRACE)
    other = next(span for span in collector.spans if span["traceId"] != TRACE)
    assert ours["parentSpanId"] == PARENT and "parentSpanId" not in other
    seen = attributes(ours)
    assert (seen["http.request.method"], seen["http.response.status_code"]) == ("GET", str(answer.status))
    assert seen["adit.request_id"] == answer.headers["adit-request-id"]
    assert seen["adit.endpoint"] == f"https://web.{DOMAIN}" and "url.path" not in seen
    wait_until(lambda: network.metric("adit_spans_total") >= 2, "both to be counted")
    came = upstream.requests[0].headers
    assert (came["traceparent"], came["tracestate"]) == (f"00-{TRACE}-{ours['spanId']}-01", "a=1")
    came = upstream.requests[1].headers
    assert (came["traceparent"], came["tracestate"]) == (f"00-{other['traceId']}-{other['spanId']}-01", None)


def test_without_tracing_what_the_caller_says_of_its_trace_passes_untouched(world):
    curl(world.network, world.url("web", "headers?untouched"), "-H", "traceparent: what-ever", "-H", "tracestate: A=1")

    came = world.http.wait_for("/headers?untouched").headers
    assert (came["traceparent"], came["tracestate"]) == ("what-ever", "A=1")

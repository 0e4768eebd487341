"""The customer's own policy: each refusal as the vendor is told and as the customer reads it, and what ends at once."""

import calendar
import json
import signal
import time
import urllib.parse

import pytest

from harness.audit import audited
from harness.clients import curl, dial, receive
from harness.deployment import AGENT, DOMAIN, yaml
from harness.http_upstream import HttpUpstream
from harness.patience import Starved
from harness.ports import free_port
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo

PAST = "2020-01-01T00:00:00Z"


class Site:
    """A network with an access log, one agent under a policy, an HTTP and a TCP endpoint."""

    def __init__(self, registry, tmp_path, **agent):
        self.registry = registry
        self.access = tmp_path / "access.log"
        self.network = registry.network(log={"format": "json", "level": "debug", "access": {"to": str(self.access)}}).start()
        self.http = registry.upstream(HttpUpstream())
        self.raw = registry.upstream(RawUpstream(echo))
        self.port = free_port()
        self.token = self.network.token(f"web.{DOMAIN}", f"tcp:{self.port}")
        self.http_port = urllib.parse.urlsplit(self.http.url).port
        endpoints = {
            "web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": f"http://localhost:{self.http_port}"}},
            "raw": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://localhost:{self.raw.port}"}},
        }
        self.agent = registry.agent(self.network, self.token, endpoints, **agent)
        self.policy = self.agent.directory / "policy.yml"

    def rules(self, **web):
        """Both endpoints are allowed, but for what is said of the first."""
        rule = {"name": "web", "endpoints": ["https://*"], "hosts": ["localhost"], "ports": [self.http_port], "protocols": ["http"]}
        rule = {key: value for key, value in {**rule, **web}.items() if value is not None}
        raw = {"name": "raw", "endpoints": [f"tcp://:{self.port}"], "hosts": ["localhost"], "ports": [self.raw.port], "protocols": ["tcp"]}
        return [rule, raw]

    def write(self, allow=(), **whole):
        text = yaml({"version": 1, **whole, "allow": list(allow)}) if allow else yaml({"version": 1, **whole})
        draft = self.policy.with_suffix(".draft")
        draft.write_text(text + "\n")
        draft.chmod(0o600)
        draft.rename(self.policy)

    def get(self):
        return curl(self.network, f"https://web.{DOMAIN}/hello")

    def told(self, message, after=0, **fields):
        """Waits for a line of the agent's log with these fields, and returns it."""

        def look():
            for line in self.agent.process.lines[after:]:
                try:
                    entry = json.loads(line)
                except ValueError:
                    continue
                if entry.get("message") == message and all(entry.get(key) == value for key, value in fields.items()):
                    return entry
            return None

        return wait_until(look, f"{message} {fields} in:\n{self.agent.process.text()[-3000:]}")

    def adit(self, *arguments):
        env = {"XDG_STATE_HOME": str(self.agent.directory / "state")}
        return run([AGENT, *arguments, "--config", self.agent.config], env=env).stdout.decode()

    def audited(self, kind, **fields):
        return audited(self.adit, kind, **fields)

    def refusal(self, name):
        """What `adit status` says of the policy and an endpoint."""
        status = json.loads(self.adit("status", "--output", "json"))
        return next(one for one in status["endpoints"] if one["name"] == name)["refusal"] or ""

    def failures(self, code):
        """How many streams the network was told so of."""
        return self.network.metric_of(f'adit_stream_failures_total{{code="{code}"}}')

    def left(self, url):
        """Why the network has nobody for an endpoint: the status of the page, and what the last agent said."""
        return self.network.left(url)

    def logged(self, **fields):
        """Waits for a line of the network's access log with these fields."""

        def look():
            lines = self.access.read_text().splitlines() if self.access.exists() else []
            entries = [json.loads(line) for line in lines]
            return next((entry for entry in entries if all(entry.get(key) == value for key, value in fields.items())), None)

        return wait_until(look, f"{fields} in the access log")


@pytest.fixture
def site(registry, tmp_path):
    return Site(registry, tmp_path)


def closed_hours():
    """A window that is not now, for a day to come."""
    day = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][(time.gmtime().tm_wday + 3) % 7]
    return [f"{day} 00:00-24:00"]


@pytest.mark.parametrize(
    "reason, change, status, fault",
    [
        ("host", {"hosts": ["127.0.0.2"]}, 403, "ADIT-3017"),
        ("port", {"ports": [1]}, 403, "ADIT-3017"),
        ("protocol", {"protocols": ["https"]}, 403, "ADIT-3017"),
        ("address", {"hosts": ["*"], "addresses": ["10.0.0.0/8"]}, 403, "ADIT-3017"),
        ("expired", {"expires": PAST}, 403, "ADIT-3017"),
        ("hours", {"hours": closed_hours()}, 403, "ADIT-3017"),
        ("bytes", {"total_bytes": 1}, 403, "ADIT-3017"),
    ],
)
def test_each_refusal_is_told_to_the_vendor_by_a_code_and_to_the_customer_by_its_rule(site, reason, change, status, fault):
    site.write(site.rules(**change))
    site.agent.start()

    answer = site.get()
    if reason == "bytes":
        answer = site.get()  # the first octet uses it up

    assert (answer.status, answer.headers["adit-error"]) == (status, fault)
    line = site.told("connection refused by the policy", name="web", reason=reason, level="warn")
    assert (line["rule"], line["told"]) == ("web", "POLICY") and line["error"].startswith("ADIT-1402")
    assert site.logged(status=status, endpoint=f"https://web.{DOMAIN}")
    # An address is known when the connection has begun.
    record = site.audited("end", reason=reason) if reason == "address" else site.audited("refused", endpoint="web", reason=reason)
    assert (record["decision"], record["rule"], record["told"]) == ("refused", "web", "POLICY")
    # What a name or a count refuses is known with each connection only.
    refusal = site.refusal("web")
    assert ("ADIT-1402" in refusal and "rule `web`: " in refusal) == (reason not in ("address", "bytes")), refusal
    # The other rule is none of its business.
    with dial(site.port) as sock:
        sock.sendall(b"alive")
        assert receive(sock, 5) == b"alive"
    # Nothing of what is inside is told outside.
    inside = f"localhost:{site.http_port}"
    assert inside not in answer.body.decode() and inside not in site.network.process.text()


def test_of_an_endpoint_that_no_rule_is_for_the_vendor_hears_a_code_and_the_customer_reads_the_rest(site):
    url, gauge = f"https://web.{DOMAIN}", 'adit_endpoints_withheld{code="DISALLOWED"}'
    text = "the customer's policy does not allow the endpoint"

    def withheld():
        return wait_until(lambda: (site.network.endpoint(url)[1] or {}).get("withheld"), "the vendor to be told")

    site.write(site.rules(endpoints=["https://other.example.com"]))
    site.agent.expected = 1
    site.agent.start()

    # What the vendor is told.
    (hint,) = withheld()
    assert (hint["code"], hint["text"]) == ("DISALLOWED", text) and hint["since"].endswith("Z")
    status, page = site.network.endpoint(url)
    assert (status, page["ready"], page["members"]) == (503, False, [])
    assert site.network.metric_of(gauge) == 1
    site.network.process.wait_for('an endpoint is withheld')
    told = site.network.process.text()
    assert "other.example.com" not in told and "ADIT-1402" not in told
    # What the customer reads.
    line = site.told("endpoint not asked for: the network is told", name="web")
    assert (line["told"], line["why"]) == ("DISALLOWED", text)
    record = site.audited("bind", event="withheld", endpoint="web")
    assert (record["told"], record["why"], record["url"]) == ("DISALLOWED", text, url)
    line = site.told("endpoint not possible", name="web")
    assert site.audited("bind", event="not asked for", endpoint="web")["decision"] == "refused"
    assert "no rule is for the endpoint" in site.refusal("web")
    assert "ADIT-1402" in line["error"] and f"no rule is for the endpoint https://web.{DOMAIN}" in line["error"]
    # What callers find.
    assert site.get().status == 404

    mark = site.agent.process.mark()
    site.write(site.rules())
    site.told("endpoint bound", after=mark, name="web")
    assert site.get().status == 200
    wait_until(lambda: site.network.metric_of(gauge) == 0, "the hint to be over")
    assert "withheld" not in site.network.endpoint(url)[1]

    site.write(site.rules(endpoints=["https://other.example.com"]))
    assert withheld()[0]["code"] == "DISALLOWED"
    wait_until(lambda: site.get().status == 503, "callers to find nobody")
    assert site.network.left(url)[1]["code"] == "DISALLOWED"


@pytest.mark.parametrize("reason, change", [("connections", {"max_connections": 1}), ("rate", {"connections_per_second": 1})])
def test_what_is_too_much_is_told_as_a_limit(site, reason, change):
    rules = site.rules()
    rules[1].update(change)
    site.write(rules)
    site.agent.start()
    with dial(site.port) as first:
        first.sendall(b"alive")
        assert receive(first, 5) == b"alive"
        with dial(site.port) as second:
            try:
                assert second.recv(1) == b""
            except ConnectionResetError:
                pass
        line = site.told("connection refused by the policy", name="raw", reason=reason)
        assert (line["rule"], line["told"]) == ("raw", "LIMIT")
        assert site.failures("LIMIT") >= 1
        record = site.audited("refused", endpoint="raw", reason=reason)
        assert (record["rule"], record["told"]) == ("raw", "LIMIT")
        first.sendall(b"still")
        assert receive(first, 5) == b"still"


def test_a_policy_tightened_in_mid_transfer_ends_it_within_a_second_and_one_that_is_wrong_changes_nothing(site):
    site.write(site.rules())
    site.agent.start()
    with dial(site.port) as sock:
        sock.sendall(b"before")
        assert receive(sock, 6) == b"before"

        mark = site.agent.process.mark()
        site.policy.write_text("version: 1\nallow:\n  - name: x\n    endpoint: ['*']\n")
        line = site.told("policy not taken: what was in force stays", after=mark)
        assert line["error"].startswith("ADIT-1401") and ":3:5: allow[0].endpoints: " in line["fault"]
        site.told("policy not taken: what was in force stays", after=mark, fault=f"{site.policy}:4:5: allow[0].endpoint: unknown key. Did you mean `endpoints`?")
        sock.sendall(b"after that")
        assert receive(sock, 10) == b"after that"

        sock.sendall(bytes(1 << 20))
        tightened = time.monotonic()
        site.write(site.rules()[:1])
        with pytest.raises(ConnectionResetError):
            while sock.recv(1 << 16):
                sock.sendall(bytes(1 << 10))
        assert time.monotonic() - tightened < 1.0
    line = site.told("connection refused by the policy", name="raw", reason="endpoint")
    assert line["told"] == "POLICY"
    line = site.told("endpoint given up", name="raw")
    assert line["told"] == "DISALLOWED" and "policy" in line["why"]
    assert site.audited("bind", event="given up", endpoint="raw")["told"] == "DISALLOWED"
    site.network.process.wait_for('"an endpoint was given up".*DISALLOWED|DISALLOWED.*"an endpoint was given up"')
    status, left = site.left(f"tcp://:{site.port}")
    assert (status, left["how"], left["code"]) == (503, "given up", "DISALLOWED")
    assert left["text"] == "the customer's policy does not allow the endpoint"
    assert site.network.metric_of('adit_unbinds_total{code="DISALLOWED"}') == 1
    assert site.get().status == 200

    mark = site.agent.process.mark()
    site.write(site.rules())
    site.told("endpoint bound", after=mark, name="raw")
    with dial(site.port) as sock:
        sock.sendall(b"again")
        assert receive(sock, 5) == b"again"
    assert site.left(f"tcp://:{site.port}") == (200, None)


def test_the_end_of_the_time_ends_what_is_open(site):
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6))
    rules = site.rules()
    rules[1]["expires"] = moment
    site.write(rules)
    site.agent.start()
    with dial(site.port, timeout=30) as sock:
        sock.sendall(b"alive")
        assert receive(sock, 5) == b"alive"
        with pytest.raises(ConnectionResetError):
            sock.recv(1)
        late = time.time() - calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%SZ"))
        assert -0.5 < late < 1.5
    assert site.told("connection refused by the policy", name="raw", reason="expired")["rule"] == "raw"


def test_a_command_that_the_policy_does_not_allow_is_refused_whatever_the_configuration_says(registry, tmp_path):
    site = Site(registry, tmp_path, remote_management={"restart": True, "stop": True})
    site.write(site.rules(), commands={"restart": True})
    site.agent.start()

    explained = explain(site, "--json")

    assert json.loads(explained)["commands"] == {"stop": False, "restart": True, "update": False, "configuration": False}


def explain(site, *arguments):
    return run([AGENT, "explain", "--config", site.agent.config, *arguments], env={"XDG_STATE_HOME": str(site.agent.directory / "state")}).stdout.decode()


def test_it_is_explained_what_the_vendor_can_reach_and_what_has_changed(site):
    site.write(site.rules(hours=["mon-fri 08:00-18:00 +01:00"], endpoints=[f"https://web.{DOMAIN}"], max_connections=5))

    text = explain(site)
    for line in (
        f"  callers      come in at https://web.{DOMAIN}",
        f"  leads to     localhost:{site.http_port} (http)",
        "the vendor: TLS of callers ends at the network",
        "  allowed      by rule `raw`",
        "  stop         refused: ",
        f"  rule         `web`: from https://web.{DOMAIN} to localhost; ports {site.http_port}; speaking http; "
        "at mon-fri 08:00-18:00 +01:00; at most 5 connections at once",
    ):
        assert line in text, text
    assert site.token.secret not in text

    before = site.agent.directory / "before.json"
    before.write_text(explain(site, "--json"))
    site.write(site.rules(hours=["mon-fri 08:00-18:00 +01:00"], endpoints=[f"https://web.{DOMAIN}"], max_connections=5)[:1])
    changed = explain(site, "--diff", before)
    assert "- Endpoint raw, allowed: by rule `raw`\n" in changed
    assert f"+ Endpoint raw, refused: no rule is for the endpoint tcp://:{site.port}\n" in changed
    assert "nothing has changed" in explain(site, "--diff", site.agent.config)


def test_a_policy_that_others_may_write_or_that_is_wrong_starts_nothing(site):
    site.write(site.rules())
    site.policy.chmod(0o666)
    site.agent.spawn()
    assert site.agent.process.wait() == 3
    assert "0666" in site.agent.process.text() and "chmod go-w" in site.agent.process.text() and "ADIT-1401" in site.agent.process.text()

    site.policy.chmod(0o600)
    site.policy.write_text("version: 1\nallow:\n  - name: a\n    hosts: [crm.corp]\n")
    site.agent.spawn()
    assert site.agent.process.wait() == 3
    assert f"{site.policy}:3:5: allow[0].addresses: a name needs the addresses" in site.agent.process.text()
    done = run([AGENT, "config", "check", "--config", site.agent.config], check=False)
    assert done.returncode == 3 and b"allow[0].endpoints" in done.stderr


@pytest.mark.parametrize("how", ["command", "file", "signal"])
def test_frozen_is_closed_within_a_second_stays_closed_over_a_restart_and_the_vendor_is_told_why(site, how):
    site.agent.start()
    sock = dial(site.port)
    sock.sendall(b"alive")
    assert receive(sock, 5) == b"alive"
    env = {"XDG_STATE_HOME": str(site.agent.directory / "state")}
    file = site.agent.directory / "frozen"

    starved = Starved(site.agent.process.pid, site.network.process.pid)
    frozen = time.monotonic()
    if how == "command":
        run([AGENT, "freeze", "--config", site.agent.config, "--reason", "an audit"], env=env)
    elif how == "file":
        file.touch()
    else:
        site.agent.process.signal(signal.SIGUSR1)
    with sock, pytest.raises(ConnectionResetError):
        sock.recv(1)
    took = time.monotonic() - frozen
    assert took < 1.0 + (how == "command") + starved.seconds()  # a program is started as well
    site.network.process.wait_for('a session ended.*FROZEN|FROZEN.*a session ended')
    assert site.get().status in (404, 503)
    status, left = wait_until(lambda: site.left(f"tcp://:{site.port}")[1] and site.left(f"tcp://:{site.port}"), "the page to say why")
    assert (status, left["code"], left["text"]) == (503, "FROZEN", "the customer has frozen this agent")
    why = site.told("frozen: everything is closed")["why"]
    if how == "signal":
        assert why.startswith("since ") and why.endswith("SIGUSR1")  # it is closed before anything is written
        wait_until(file.exists, "the file that lasts")
    else:
        assert why.startswith(f"{file} is there") and ("an audit" in why) == (how == "command")
    assert f"everything is closed: {file} is there" in explain(site)

    sessions = site.network.process.text().count("a session began")
    site.agent.process.kill()
    site.agent.spawn()
    site.told("frozen: everything is closed")
    time.sleep(1)  # nothing may happen, however long one looks
    assert site.network.process.text().count("a session began") == sessions
    assert site.agent.process.alive()

    run([AGENT, "thaw", "--config", site.agent.config], env=env, check=False)  # it may not answer so soon
    site.agent.wait_bound()
    with dial(site.port) as sock:
        sock.sendall(b"alive")
        assert receive(sock, 5) == b"alive"

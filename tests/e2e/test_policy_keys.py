"""An issuer that changes its keys, is down and comes back, with terms of seconds where the defaults are minutes and hours."""

import json
import time

import pytest

from conftest import Registry
from harness.clients import curl
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.issuer import Curve, Issuer
from harness.process import wait_until

POLICY = """
on_http_request:
  - name: callers
    actions:
      - type: jwt-validation
        config:
          issuer: {allow_list: [{value: "https://issuer.example"}]}
          http: {tokens: [{type: jwt, method: header, name: Authorization, prefix: "Bearer "}]}
          jws:
            allowed_algorithms: [ES256]
            keys: {sources: {additional_jkus: ["https://localhost:PORT/keys"]}}
"""

PAUSE, REFRESH, OUTAGE = 2, 3, 9


class Gate:
    def __init__(self, registry, directory):
        self.old, self.new = Curve(directory, "old"), Curve(directory, "new")
        self.issuer = registry.upstream(Issuer(directory, [self.old.jwk()]))
        upstream = registry.upstream(HttpUpstream())
        url = f"https://keys.{DOMAIN}"
        self.network = registry.network(
            endpoints=[{"url": url, "account": "e2e", "type": "agent", "policy": "policy.yml"}],
            policy_fetch={"allow": ["127.0.0.0/8", "::1"], "ca": str(self.issuer.ca)},
            limits={"keys_pause": f"{PAUSE}s", "keys_refresh": f"{REFRESH}s", "keys_outage": f"{OUTAGE}s"},
        )
        policy = self.network.directory / "policy.yml"
        policy.write_text(POLICY.replace("PORT", str(self.issuer.port)))
        policy.chmod(0o640)
        self.network.start()
        registry.agent(self.network, self.network.token(f"*.{DOMAIN}"), {"keys": {"url": url, "upstream": {"url": upstream.url}}}).start()
        self.began = time.monotonic()

    def ask(self, key, **claims):
        claims = {"iss": "https://issuer.example", "exp": int(time.time()) + 300, **claims}
        token = key.token({"alg": "ES256", "kid": key.name}, claims)
        # It must never be written down, nor anything of it.
        self.network.secrets += [part for part in token.split(".") if part != token.split(".")[0]]
        return curl(self.network, f"https://keys.{DOMAIN}/hello", "-H", f"Authorization: Bearer {token}")

    def verdict(self, answer):
        """What the access log has of a request."""
        request = answer.headers["adit-request-id"]
        wait_until(lambda: request in self.network.process.text(), "the access log")
        return json.loads(next(line for line in self.network.process.lines if request in line))["verdicts"][-1]

    def asked_within_the_pause(self):
        """Whether the issuer was never asked sooner than the pause after the last time."""
        return len(self.issuer.asked) <= (time.monotonic() - self.began) / PAUSE + 1


@pytest.fixture
def gate(tmp_path):
    registry = Registry(tmp_path)
    try:
        yield Gate(registry, tmp_path)
    finally:
        registry.close()
    assert list(registry.faults()) == []


def told(reason, status=401):
    return f"on_http_request[0] callers: jwt-validation: refused with {status}: {reason}"


def test_a_key_that_comes_anew_is_found_and_one_that_is_taken_back_is_not_used(gate):
    assert gate.ask(gate.old).status == 200
    gate.issuer.serve([gate.new.jwk()])
    changed = time.monotonic()

    first = gate.ask(gate.new)
    if first.status == 401:  # the set is not older than the pause
        assert gate.verdict(first) == told("no key of the issuer has signed the token")
    wait_until(lambda: gate.ask(gate.new).status == 200, "the new key", deadline=PAUSE * 3)
    assert time.monotonic() - changed < PAUSE * 3
    refused = gate.ask(gate.old)
    assert (refused.status, gate.verdict(refused)) == (401, told("no key of the issuer has signed the token"))
    # Who sends tokens of keys that nobody has does not make the issuer be asked more often.
    for _ in range(50):
        assert gate.ask(gate.old).status == 401
    assert gate.asked_within_the_pause()


def test_an_issuer_that_is_down_is_outlived_and_no_longer(gate):
    assert gate.ask(gate.old).status == 200
    fetched = time.monotonic()
    gate.issuer.fail()

    while gate.ask(gate.old).status == 200:
        assert time.monotonic() - fetched < OUTAGE + PAUSE, "nobody passes when the issuer is gone for longer"
    assert time.monotonic() - fetched > OUTAGE - 1, "its keys are used until then"
    refused = gate.ask(gate.old)
    assert (refused.status, refused.headers["retry-after"]) == (503, "60")
    assert gate.verdict(refused) == told("the keys of the issuer cannot be fetched", 503)
    assert len(gate.issuer.asked) > 2, "it is asked again while it is down"

    gate.issuer.serve([gate.old.jwk()])
    wait_until(lambda: gate.ask(gate.old).status == 200, "the issuer, which is back", deadline=PAUSE * 3)
    assert gate.asked_within_the_pause()


def test_the_access_log_has_why_a_token_is_refused_and_nothing_of_it(gate):
    for claims, reason in (
        ({"exp": int(time.time()) - 600}, "the token has expired"),
        ({"nbf": int(time.time()) + 600}, "the token is not valid yet"),
        ({"iss": "https://another.example"}, "the issuer of the token is not allowed"),
        ({"exp": "never"}, "the claim `exp` of the token is missing or malformed"),
    ):
        refused = gate.ask(gate.old, **claims)
        assert (refused.status, gate.verdict(refused)) == (401, told(reason)), claims
    missing = curl(gate.network, f"https://keys.{DOMAIN}/hello")
    assert gate.verdict(missing) == told("there is no token, or more than one")

"""Who calls: passwords, tokens of an issuer, and calls that a service has signed; each once right and often wrong."""

import base64
import hashlib
import hmac
import http.client
import json
import time

import pytest

from conftest import Registry
from harness.clients import curl, tls_context
from harness.deployment import DOMAIN
from harness.http_upstream import HttpUpstream
from harness.issuer import Curve, Issuer, Rsa, url64

POLICIES = {
    "basic": """
on_http_request:
  - actions:
      - type: basic-auth
        config:
          realm: staff
          credentials: ["ann:of-ann-alone", "eve:$2b$04$7QhFpAkXkUO2OPd94dHm1OOLXl1fYVbrmXUS3SZF0fKhKqOZ9yZgm"]
""",
    "guessed": """
on_http_request:
  - actions: [{type: basic-auth, config: {credentials: ["ann:of-ann-alone"]}}]
""",
    "told": """
on_http_request:
  - actions: [{type: basic-auth, config: {enforce: false, credentials: ["ann:of-ann-alone"]}}]
  - expressions: ["!actions.ngrok.basic_auth.credentials.authorized"]
    actions: [{type: custom-response, config: {status_code: 299, body: "${actions.ngrok.basic_auth.credentials.username}"}}]
""",
    "webhook": """
on_http_request:
  - actions: [{type: verify-webhook, config: {provider: github, secret: of-the-webhook}}]
""",
}

JWT = """
on_http_request:
  - actions:
      - type: jwt-validation
        config:
          issuer: {allow_list: [{value: "https://issuer.example"}]}
          audience: {allow_list: [{value: "urn:api"}]}
          http: {tokens: [{type: access_token, method: header, name: Authorization, prefix: "Bearer "}]}
          jws:
            allowed_algorithms: [RS256, ES256]
            keys: {sources: {additional_jkus: ["https://localhost:PORT/SET"]}}
      - type: add-headers
        config: {headers: {x-user: "${actions.ngrok.jwt_validation.tokens[0].payload.sub}"}}
"""

SETS = {"jwt": "keys", "down": "down", "elsewhere": "elsewhere", "page": "page", "large": "large"}


class Gate:
    def __init__(self, registry, directory):
        self.rsa, self.curve, self.mallory = Rsa(directory, "r"), Curve(directory, "e"), Curve(directory, "m")
        self.issuer = registry.upstream(Issuer(directory, [self.rsa.jwk(), self.curve.jwk()]))
        self.http = registry.upstream(HttpUpstream())
        texts = POLICIES | {
            name: JWT.replace("PORT", str(self.issuer.port)).replace("SET", path) for name, path in SETS.items()
        }
        endpoints = [{"url": f"https://{name}.{DOMAIN}", "account": "e2e", "type": "agent", "policy": f"{name}.yml"} for name in texts]
        fetch = {"allow": ["127.0.0.0/8", "::1"], "ca": str(self.issuer.ca)}
        self.network = registry.network(endpoints=endpoints, policy_fetch=fetch)
        for name, text in texts.items():
            path = self.network.directory / f"{name}.yml"
            path.write_text(text)
            path.chmod(0o640)
        # Whatever is written down must not have these.
        self.network.secrets += ["of-ann-alone", "correct horse", "of-the-webhook", "a wrong guess", base64.b64encode(b"ann:of-ann-alone").decode()]
        self.network.start()
        token = self.network.token(f"*.{DOMAIN}")
        agent = {name: {"url": f"https://{name}.{DOMAIN}", "upstream": {"url": self.http.url}} for name in texts}
        registry.agent(self.network, token, agent).start()

    def ask(self, name, path, *options, **more):
        return curl(self.network, f"https://{name}.{DOMAIN}/{path}", *options, **more)

    def bearer(self, name, token, path="headers"):
        return self.ask(name, path, "-H", f"Authorization: Bearer {token}")

    def claims(self, **more):
        return {"iss": "https://issuer.example", "aud": "urn:api", "sub": "ann", "exp": int(time.time()) + 300, **more}


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    directory = tmp_path_factory.mktemp("auth")
    registry = Registry(directory)
    try:
        yield Gate(registry, directory)
    finally:
        registry.close()
    assert list(registry.faults()) == []


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_basic_auth(gate, version):
    for pair in ("ann:of-ann-alone", "eve:correct horse"):
        answer = gate.ask("basic", "headers", version, "-u", pair)
        assert answer.status == 200
        seen = dict((name.lower(), value) for name, value in answer.json())
        assert seen["authorization"] == "Basic " + base64.b64encode(pair.encode()).decode()
    upstream = len(gate.http.requests)
    for options in ((), ("-u", "ann:a wrong guess"), ("-u", "nobody:a wrong guess"), ("-H", "Authorization: Bearer x"), ("-H", "Authorization: Basic x")):
        answer = gate.ask("basic", "headers", version, *options)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Basic realm="staff", charset="UTF-8"')
    both = ("-H", "Authorization: Basic YW5uOm9mLWFubi1hbG9uZQ==", "-H", "Authorization: Basic ZXZlOmNvcnJlY3QgaG9yc2U=")
    assert gate.ask("basic", "headers", version, *both).status == 401
    assert len(gate.http.requests) == upstream


def test_basic_auth_that_only_tells(gate):
    assert gate.ask("told", "hello", "-u", "ann:of-ann-alone").status == 200
    answer = gate.ask("told", "hello", "-u", "ann:a wrong guess")
    assert (answer.status, answer.body) == (299, b"ann")


# V72
def test_a_guesser_has_to_wait_and_no_password_is_logged(gate):
    connection = http.client.HTTPSConnection("127.0.0.1", gate.network.ports["https"], context=named(gate), timeout=20)
    start, seen = time.monotonic(), []
    for at in range(1_000):
        pair = base64.b64encode(f"ann:a wrong guess {at}".encode()).decode()
        connection.request("GET", "/hello", headers={"Host": f"guessed.{DOMAIN}", "Authorization": f"Basic {pair}"})
        answer = connection.getresponse()
        answer.read()
        seen.append(answer.status)
    free = 10 + (time.monotonic() - start) / 6 + 1
    assert seen[:10] == [401] * 10
    assert set(seen) == {401, 429}
    assert seen.count(401) <= free
    answer = gate.ask("guessed", "hello", "-u", "ann:of-ann-alone")
    assert answer.status == 429, "the right password too"
    assert 1 <= int(answer.headers["retry-after"]) <= 6


def named(gate):
    context = tls_context(gate.network)
    wrap = context.wrap_socket
    context.wrap_socket = lambda sock, **more: wrap(sock, **{**more, "server_hostname": f"guessed.{DOMAIN}"})
    return context


def test_tokens_of_the_issuer_pass(gate):
    for key, algorithm in ((gate.rsa, "RS256"), (gate.curve, "ES256")):
        for header in ({"alg": algorithm, "kid": key.name, "typ": "JWT"}, {"alg": algorithm}):
            answer = gate.bearer("jwt", key.token(header, gate.claims()))
            assert answer.status == 200, header
            assert dict((name.lower(), value) for name, value in answer.json())["x-user"] == "ann"
    assert gate.ask("jwt", "headers").headers["www-authenticate"] == "Bearer"
    assert gate.issuer.asked.count("/keys") == 1


# V68
def test_hostile_tokens_are_refused(gate):
    claims, curve, mallory = gate.claims(), gate.curve, gate.mallory
    good = {"alg": "ES256", "kid": "e"}
    right = curve.token(good, claims)
    head, body, signature = right.split(".")
    confused = {"alg": "HS256", "kid": "r"}
    signed = f"{url64(json.dumps(confused).encode())}.{body}"
    hostile = {
        "none": f"{url64(json.dumps({'alg': 'none'}).encode())}.{body}.",
        "none in another case": f"{url64(json.dumps({'alg': 'NonE'}).encode())}.{body}.",
        "no algorithm": curve.token({"kid": "e"}, claims),
        "the public key as a secret": f"{signed}.{url64(hmac.digest(gate.rsa.public, signed.encode(), hashlib.sha256))}",
        "a key that it brings": mallory.token({"alg": "ES256", "jwk": mallory.jwk()}, claims),
        "an address of keys": mallory.token({"alg": "ES256", "kid": "m", "jku": f"https://localhost:{gate.issuer.port}/evil"}, claims),
        "an address of a certificate": mallory.token({**good, "x5u": f"https://localhost:{gate.issuer.port}/evil"}, claims),
        "the identity of a file": mallory.token({"alg": "ES256", "kid": "../../../dev/null"}, claims),
        "the identity of a query": mallory.token({"alg": "ES256", "kid": "' OR 1=1 --"}, claims),
        "an extension": curve.token({**good, "crit": ["exp"]}, claims),
        "a signature of zeros": curve.token(good, claims, bytes(64)),
        "no signature": f"{head}.{body}.",
        "other claims": f"{head}.{url64(json.dumps(gate.claims(sub='eve')).encode())}.{signature}",
        "another kind of key": curve.token({"alg": "RS256", "kid": "e"}, claims),
        "an end that is a text": curve.token(good, gate.claims(exp="never")),
        "no end": curve.token(good, {name: value for name, value in claims.items() if name != "exp"}),
        "over": curve.token(good, gate.claims(exp=int(time.time()) - 60)),
        "another issuer": curve.token(good, gate.claims(iss="https://issuer.example/")),
        "another audience": curve.token(good, gate.claims(aud="urn:apis")),
    }
    assert gate.bearer("jwt", right).status == 200
    upstream = len(gate.http.requests)
    for what, token in hostile.items():
        answer = gate.bearer("jwt", token)
        assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"'), what
    assert len(gate.http.requests) == upstream
    assert "/evil" not in gate.issuer.asked, "no address of a token is ever asked"
    assert gate.issuer.asked.count("/keys") == 1, "nor is the issuer, for the sake of keys that nobody has, before a minute is over"


@pytest.mark.parametrize("name", ["down", "elsewhere", "page", "large"])
def test_without_keys_nobody_passes(gate, name):
    token = gate.curve.token({"alg": "ES256", "kid": "e"}, gate.claims())
    for _ in range(3):
        answer = gate.bearer(name, token)
        assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert gate.issuer.asked.count(f"/{SETS[name]}") == 1


def test_webhooks(gate):
    body = b'{"zen":"Design for failure."}'
    signature = "sha256=" + hmac.new(b"of-the-webhook", body, hashlib.sha256).hexdigest()
    for version in ("--http1.1", "--http2"):
        answer = gate.ask("webhook", "echo", version, "-H", f"X-Hub-Signature-256: {signature}", "--data-binary", "@-", stdin=body)
        assert (answer.status, answer.body) == (200, body)
    upstream = len(gate.http.requests)
    for header, sent, status in (
        (f"X-Hub-Signature-256: {signature}", body + b" ", 403),
        (f"X-Hub-Signature: {signature}", body, 403),
        (f"X-Hub-Signature-256: {signature[:-1]}{'0' if signature[-1] == '1' else '1'}", body, 403),
        (f"X-Hub-Signature-256: {signature}", bytes((1 << 20) + 1), 413),
    ):
        assert gate.ask("webhook", "echo", "-H", header, "--data-binary", "@-", stdin=sent).status == status
    assert len(gate.http.requests) == upstream

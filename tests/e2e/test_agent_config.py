"""The agent's configuration as a file: import of ngrok's, schemas, completion, manual pages, and a reload in mid-transfer."""

import json
import os
import re
import signal
import subprocess
import threading

import jsonschema
import pytest
import yaml as pyyaml

from harness import payload
from harness.clients import curl, dial, receive
from harness.deployment import AGENT, DOMAIN, NETWORK, ROOT, yaml
from harness.http_upstream import HttpUpstream
from harness.ports import free_port
from harness.raw_upstream import RawUpstream, echo

EXAMPLES = sorted((ROOT / "agent" / "tests" / "import").glob("*.yml"))
SCHEMAS = {name: json.loads((ROOT / "docs" / "schema" / f"{name}.schema.json").read_text()) for name in ("agent", "policy")}


def told(argv, code=0, **keywords):
    """Runs the agent and returns what it printed, on either output."""
    done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, timeout=60, **keywords)
    assert done.returncode == code, (argv, done.returncode, done.stdout, done.stderr)
    return done.stdout + done.stderr


def check(config):
    done = subprocess.run([AGENT, "config", "check", "--output", "json", "--config", config], capture_output=True, text=True, timeout=60)
    return json.loads(done.stdout)


# --- check


def test_what_a_start_would_lack_is_said_beside_what_is_valid(tmp_path):
    config = tmp_path / "adit.yml"
    endpoint = "  - {name: %s, url: 'https://a.example', upstream: {url: 80}}\n"
    config.write_text(f"version: 1\nagent:\n  authtoken_file: none\n  log: nowhere/agent.log\nendpoints:\n{endpoint % 'a'}{endpoint % 'b'}")

    said = told([AGENT, "config", "check", "--config", config])
    report = check(config)

    assert report["valid"] and said.startswith(f"{config}: valid\n")
    for part in ("agent.connect_url", "none: ", "nowhere", "`a` and `b` ask for the same https://a.example"):
        assert any(part in what for what in report["lacking"]) and part in said, (part, said)
    token = tmp_path / "token"
    token.write_text("adit_token\n")
    token.chmod(0o600)
    config.write_text(f"version: 1\nagent: {{authtoken_file: token, connect_url: 'a:1'}}\nendpoints:\n{endpoint % 'a'}")
    assert check(config)["lacking"] == []


def test_a_variable_that_is_no_text_is_refused(tmp_path):
    config = tmp_path / "adit.yml"
    config.write_text("version: 1\nagent: {connect_url: 'a:1'}\n")

    said = told([AGENT, "config", "check", "--config", config], code=3, env={**os.environb, b"ADIT_CRL": b"off\xff"})

    assert "ADIT_CRL" in said, said


# --- import


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_what_is_imported_is_valid_and_its_policies_are_the_network_s(example, tmp_path):
    out = tmp_path / "adit.yml"
    argv = [AGENT, "config", "import", example, "--out", out, "--connect-url", "connect.vendor.example:443", "--domain", "vendor.example", "--expose"]

    report = json.loads(told([*argv, "--output", "json"]))

    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["adit.yml", *report["beside"]])
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())
    assert "s3cret" not in json.dumps(report)
    # Certificates that are not on this machine are all that may be wrong.
    faults = check(out)["faults"]
    assert all(fault["code"] in ("ADIT-1004", "ADIT-1010") and fault["line"] and fault["column"] for fault in faults), faults
    validate("agent", out.read_text())
    for policy in tmp_path.glob("*.policy.yml"):
        # `oauth` is none of the network's actions: its check says so.
        unknown = "type: oauth" in policy.read_text()
        checked = subprocess.run([NETWORK, "policy", "check", policy], capture_output=True, text=True, timeout=60)
        assert checked.returncode == 0 or unknown, (policy.read_text(), checked.stdout, checked.stderr)


def test_an_import_overwrites_nothing_and_tells_on_the_right_output(tmp_path):
    theirs, out = tmp_path / "ngrok.yml", tmp_path / "adit.yml"
    theirs.write_text("version: 3\nagent:\n  authtoken: s3cret\n  region: eu\nendpoints:\n  - name: a\n    url: https://a.example.com\n    upstream: {url: 80}\n")
    theirs.chmod(0o600)

    done = subprocess.run([AGENT, "config", "import", theirs], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and pyyaml.safe_load(done.stdout)["endpoints"][0]["name"] == "a"
    assert f"{theirs}:3:3: agent.authtoken: a credential for ngrok's network" in done.stderr, done.stderr
    assert f"{theirs}:4:3: agent.region: the network that is dialed" in done.stderr, done.stderr
    assert "s3cret" not in done.stdout + done.stderr

    assert "written:" in told([AGENT, "config", "import", theirs, "--out", out])
    out.write_text("mine")
    refused = told([AGENT, "config", "import", theirs, "--out", out], code=1)
    assert "ADIT-1008" in refused and "--force" in refused and out.read_text() == "mine"
    told([AGENT, "config", "import", theirs, "--out", out, "--force", "--keep-authtoken"])
    assert pyyaml.safe_load(out.read_text())["agent"]["authtoken"] == "s3cret" and out.stat().st_mode & 0o777 == 0o600
    assert check(out)["valid"]
    told([AGENT, "config", "import", theirs, "--keep-authtoken"], code=2)

    theirs.write_text("version: 9\n")
    assert re.search(r"ngrok\.yml:1:10: version: .*\n.*ADIT-1030", told([AGENT, "config", "import", theirs], code=3))


# --- schema


class Core(pyyaml.SafeLoader):
    """YAML 1.2 has no type for times; editors read them as text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in pyyaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def validate(name, text):
    jsonschema.Draft202012Validator(SCHEMAS[name]).validate(pyyaml.load(text, Core))


def test_the_program_prints_the_schemas_that_are_published():
    assert json.loads(told([AGENT, "config", "schema"])) == SCHEMAS["agent"]
    assert json.loads(told([AGENT, "config", "schema", "policy"])) == SCHEMAS["policy"]
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_what_the_documents_show_is_valid_by_the_schemas():
    blocks = {name: re.findall(r"```yaml\n(.*?)```", (ROOT / "docs" / name).read_text(), re.S) for name in ("agent.md", "agent-policy.md")}
    assert blocks["agent.md"] and blocks["agent-policy.md"]
    whole = next(block for block in blocks["agent.md"] if "heartbeat_interval" in block)
    validate("agent", whole)
    validate("policy", blocks["agent-policy.md"][0])


GOOD = {
    "agent": [
        "",
        "version: 1\nagent:\nendpoints:\n",
        "agent: {connect_url: [a.example.com, '[::1]:4443'], sessions: 8, log: off, remote_management: {stop: true}}",
        "agent: {connect_url: 'a, b:44', resume_window: 0s, max_connections: 10_000, drain_timeout: 1.5s}",
        "endpoints: [{name: a, url: 'tcp://:1', upstream: {url: 22, proxy_protocol: '2', connect_timeout: 500ms}}]",
        "endpoints: [{name: a, url: tls://a.b, upstream: {url: 22}, agent_tls_termination: {min_version: 1.3, mutual_tls_certificate_authorities: [a.pem]}}]",
    ],
    "policy": [
        "version: 1",
        "version: 1\nhours: daily 22:00-06:00\nbytes_per_second: 10MB\ncommands: {update: true}",
        "version: 1\nallow: [{name: a, endpoints: '*', hosts: localhost, ports: [1, 2-3], protocols: [tcp]}]",
    ],
}
BAD = {
    "agent": [
        "version: 2",
        "agent: 7",
        "agent: {log_levle: info}",
        "agent: {heartbeat_interval: 10}",
        "agent: {sessions: 9}",
        "agent: {remote_management: {stop: perhaps}}",
        "endpoints: [{name: a, url: 'https://a.b'}]",
        "endpoints: [{name: a b, url: 'https://a.b', upstream: {url: 1}}]",
        "endpoints: [{name: a, url: a.b, upstream: {url: 1}}]",
        "endpoints: [{name: a, url: 'https://a.b', upstream: {url: 1, protocol: http3}}]",
    ],
    "policy": [
        "{}",
        "version: 2",
        "version: 1\nalow: []",
        "version: 1\nexpires: tomorrow",
        "version: 1\nbytes_per_second: 10 bananas",
        "version: 1\nallow: [{name: a, endpoints: '*', hosts: localhost, ports: 1}]",
        "version: 1\nallow: [{name: a, endpoints: '*', hosts: localhost, ports: 1, protocols: [udp]}]",
    ],
}


@pytest.mark.parametrize("name", ["agent", "policy"])
def test_the_schema_and_the_check_agree_on_what_is_good_and_bad(name, tmp_path):
    config, policy = tmp_path / "adit.yml", tmp_path / "policy.yml"

    def checked(text):
        config.write_text(text if name == "agent" else "version: 1\n")
        policy.write_text(text if name == "policy" else "version: 1\n")
        config.chmod(0o600)
        policy.chmod(0o600)
        return check(config)

    for text in GOOD[name]:
        validate(name, text or "{}")
        # Certificates that are not there are all that may be wrong.
        assert all(fault["code"] == "ADIT-1010" for fault in checked(text)["faults"]), (text, checked(text))
    for text in BAD[name]:
        with pytest.raises(jsonschema.ValidationError):
            validate(name, text)
        faults = checked(text)["faults"]
        assert faults and all(fault["line"] and fault["column"] and fault["remedy"] for fault in faults), (text, faults)


# --- completion and manual


@pytest.fixture
def completed(tmp_path):
    script = tmp_path / "adit.bash"
    script.write_text(told([AGENT, "completions", "bash"]))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "adit").symlink_to(AGENT.resolve())
    config = tmp_path / "adit.yml"
    config.write_text(yaml({"version": 1, "endpoints": [{"name": name, "url": f"https://{name}.{DOMAIN}", "upstream": {"url": 1}} for name in ("crm", "crm-old", "db")]}))
    config.chmod(0o600)

    def complete(*words):
        """What bash offers for the last word."""
        quoted = " ".join(f"'{word}'" for word in words)
        line = f'source {script}; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _adit_with_endpoints adit "{words[-1]}" "{words[-2]}"; printf "%s\\n" "${{COMPREPLY[@]}}"'
        environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "ADIT_CONFIG": str(config), "HOME": str(tmp_path)}
        return told(["bash", "--norc", "-c", line], env=environment).split()

    return complete


def test_bash_completes_commands_flags_and_the_names_of_endpoints(completed):
    assert completed("adit", "conf") == ["config"]
    assert "import" in completed("adit", "config", "")
    assert completed("adit", "config", "check", "--out") == ["--output"]
    assert completed("adit", "start", "cr") == ["crm", "crm-old"]
    assert completed("adit", "start", "crm", "d") == ["db"]
    assert completed("adit", "certificate", "request", "d") == ["db"]
    assert "--all" in completed("adit", "start", "--")
    assert completed("adit", "start", "--config", "/nowhere.yml", "cr") == []
    assert completed("adit", "certificate", "renew", "d") == ["db"]
    assert completed("adit", "prove", "--endpoint", "cr") == ["crm", "crm-old"]
    assert completed("adit", "prove", "--endpoint", "=", "d") == ["db"]
    assert completed("adit", "audit", "show", "--endpoint", "=") == ["crm", "crm-old", "db"]


def test_names_are_those_of_the_configuration_that_the_command_line_names(completed, tmp_path):
    other = tmp_path / "other.yml"
    other.write_text(yaml({"version": 1, "endpoints": [{"name": "erp", "url": f"https://erp.{DOMAIN}", "upstream": {"url": 1}}]}))
    other.chmod(0o600)
    for words in (["--config", other, "start", "e"], ["--config", "=", other, "start", "e"], ["start", "--config", other, ""]):
        assert completed("adit", *map(str, words)) == ["erp"], words
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "ADIT_CONFIG": str(tmp_path / "adit.yml"), "HOME": str(tmp_path)}

    # fish completes a line that it is given.
    script = tmp_path / "adit.fish"
    script.write_text(told([AGENT, "completions", "fish"]))

    def fish(line):
        offered = told(["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"], env=environment)
        return [word.split("\t")[0] for word in offered.splitlines()]

    assert fish("adit start cr") == ["crm", "crm-old"]
    assert fish("adit certificate renew d") == ["db"]
    assert fish("adit prove --endpoint cr") == ["crm", "crm-old"]
    assert fish(f"adit --config {other} start e") == ["erp"]
    assert fish(f"adit audit show --config={other} --endpoint ") == ["erp"]

    # Of zsh what asks for the names, with what its line editor and its completion would give it.
    script = tmp_path / "_adit"
    script.write_text(told([AGENT, "completions", "zsh"]))
    stubs = "compdef() {}; compadd() { print -l -- ${(P)2} }; _call_program() { shift; eval \"$@\" }"

    def zsh(line):
        return told(["zsh", "-f", "-c", f"{stubs}; source {script}; LBUFFER='{line}'; _adit_endpoint_names"], env=environment).split()

    assert zsh("adit start ") == ["crm", "crm-old", "db"]
    for line in (f"adit --config {other} start ", f"adit --config={other} prove --endpoint ", f"adit --config \"{other}\" start "):
        assert zsh(line) == ["erp"], line


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_script(shell, tmp_path):
    script = tmp_path / f"adit.{shell}"
    script.write_text(told([AGENT, "completions", shell]))
    assert told([shell, "-n", script]) == ""


def test_the_manual_pages_are_well_formed_and_of_every_command(tmp_path):
    told([AGENT, "man", "--out", tmp_path / "man1"])
    pages = sorted((tmp_path / "man1").iterdir())
    names = {page.name for page in pages}
    assert {"adit.1", "adit-start.1", "adit-config.1", "adit-config-import.1", "adit-completions.1"} <= names
    assert not any("help" in name for name in names)
    linted = subprocess.run(["mandoc", "-T", "lint", "-W", "error", *pages], capture_output=True, text=True, timeout=60)
    assert linted.returncode == 0, linted.stdout
    assert "what it was asked to" in told(["mandoc", "-T", "utf8", tmp_path / "man1" / "adit.1"])


# --- reload


def test_a_reload_by_difference_leaves_a_transfer_alone(registry):
    """Of four endpoints one changes, one goes and one comes, in the middle of a transfer through the fourth."""
    network = registry.network().start()
    site, other = registry.upstream(HttpUpstream()), registry.upstream(HttpUpstream())
    gate = threading.Event()
    sent = b"".join(payload.blocks(8 << 20))

    def serve(sock):
        sock.sendall(sent[: len(sent) // 2])
        gate.wait(60)
        sock.sendall(sent[len(sent) // 2 :])

    source = registry.upstream(RawUpstream(serve))
    port = free_port()
    token = network.token(f"*.{DOMAIN}", f"tcp:{port}")
    endpoints = {
        "bulk": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{source.target}"}},
        "changes": {"url": f"https://changes.{DOMAIN}", "upstream": {"url": site.url}},
        "goes": {"url": f"https://goes.{DOMAIN}", "upstream": {"url": site.url}},
    }
    agent = registry.agent(network, token, endpoints).start()
    client = dial(port, timeout=60)
    received = receive(client, len(sent) // 2)

    def reload(text, said):
        agent.config.write_text(text)
        mark = agent.process.mark()
        agent.process.signal(signal.SIGHUP)
        agent.process.wait_for(said, after=mark)
        return mark

    # One that is not valid changes nothing.
    before = agent.config.read_text()
    reload(before + "surprise: 1\n", "configuration not taken: the last one stays")
    after = before.replace(f"https://goes.{DOMAIN}", f"https://comes.{DOMAIN}").replace('"goes"', '"comes"')
    first = after.index(site.url)
    after = after[:first] + other.url + after[first + len(site.url) :]
    mark = reload(after, "configuration read again")
    agent.expected = 2
    agent.wait_bound(after=mark)

    gate.set()
    received += receive(client, len(sent) - len(received))
    client.close()
    assert received == sent
    bound = [line for line in agent.process.lines[mark:] if "endpoint bound" in line]
    assert len(bound) == 2 and not any('"bulk"' in line for line in bound), bound
    assert sum("session established" in line for line in agent.process.lines) == 1
    assert curl(network, f"https://changes.{DOMAIN}/hello").status == 200
    assert curl(network, f"https://comes.{DOMAIN}/hello").status == 200
    assert curl(network, f"https://goes.{DOMAIN}/hello").status in (404, 503)
    assert [seen.path for seen in other.requests] == ["/hello"]


def test_an_endpoint_that_changes_is_not_in_its_own_way(registry):
    network = registry.network().start()
    sites = [registry.upstream(HttpUpstream()) for _ in range(2)]
    agent = registry.agent(network, network.token(f"*.{DOMAIN}"), {"web": {"url": f"https://web.{DOMAIN}", "upstream": {"url": sites[0].url}}}).start()
    text = agent.config.read_text()

    for turn in range(1, 16):
        agent.config.write_text(text.replace(sites[0].url, sites[turn % 2].url))
        mark = agent.process.mark()
        agent.process.signal(signal.SIGHUP)
        agent.expected = 1
        agent.wait_bound(after=mark)
        assert curl(network, f"https://web.{DOMAIN}/hello").status == 200

    assert not any("ADIT-2004" in line for line in agent.process.lines), agent.process.text()
    assert [len(site.requests) for site in sites] == [7, 8]

"""The network's certificate, revoked: lists in the handshake, fetched and kept, believed or not, before a session and during it."""

import json
import re
import socket
import time

from harness.authority import Authority
from harness.clients import dial, receive
from harness.deployment import AGENT, NETWORK
from harness.lists import Lists
from harness.ports import free_port
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo

LONG = 60.0


class Deployment:
    """A network with a certificate of `authority`, an upstream, and a TCP endpoint that leads there."""

    def __init__(self, registry, authority=None, **settings):
        self.registry, self.authority = registry, authority
        self.port = free_port()
        self.upstream = registry.upstream(RawUpstream(echo))
        self.network = registry.network(**settings).start()
        self.token = self.network.token(f"tcp:{self.port}")
        self.runs = 0

    def agent(self, name="agent", **settings):
        if self.authority:
            settings = {"connect_cas": str(self.authority.pem), **settings}
        endpoints = {"echo": {"url": f"tcp://:{self.port}", "upstream": {"url": f"tcp://{self.upstream.target}"}}}
        return self.registry.agent(self.network, self.token, endpoints, name=name, **settings)

    def refused(self, code, ca=None, **settings):
        """What an agent says that gives up at the first failure."""
        self.runs += 1
        folder = self.registry.root / f"once-{self.runs}"
        folder.mkdir()
        told = {f"ADIT_{key.upper()}": str(value) for key, value in settings.items()}
        env = {"XDG_STATE_HOME": str(folder), "HOME": str(folder), "ADIT_AUTHTOKEN": self.token.secret, **told}
        ca = ca or (self.authority.pem if self.authority else self.network.ca)
        argv = [AGENT, "tcp", self.upstream.port, "--url", f"tcp://:{self.port}", "--log", "off", "--connect-url", self.network.connect_url, "--connect-cas", ca]
        done = run(argv, check=False, env=env)
        text = done.stderr.decode()
        assert (done.returncode, text[:9]) == (5, code), text
        return text

    def carries(self):
        with dial(self.port) as sock:
            sock.sendall(b"ping")
            return receive(sock, 4) == b"ping"


def told(process, code):
    """The lines of an agent's log that tell an error."""
    return [line for line in process.lines if code in line]


def distrusted(network, reason, more_than=0):
    counter = f'adit_ingress_errors_total{{reason="{reason}"}}'
    wait_until(lambda: network.metric(counter) > more_than, f"the vendor sees that an agent does not accept the certificate: {reason}")


def test_a_list_comes_with_the_handshake_so_that_no_other_port_is_needed(registry):
    ours = Authority(registry.root, "ours")
    # The certificate says where its list is, and nobody is there.
    first, second = (ours.serve(label, f"http://localhost:{free_port()}/list") for label in ("first", "second"))
    listed = ours.list(registry.root / "list.pem")
    it = Deployment(registry, ours, ingress={**first, "crl": [str(listed)]})
    agent = it.agent(crl="require").start()
    agent.process.wait_for("a newer revocation list is in force.*the handshake")
    assert it.carries()
    assert "not revoked by the list of CN=ours" in run([AGENT, "diagnose", "--config", agent.config], check=False).stdout.decode()
    kept = list((agent.directory / "state" / "adit" / "crl").iterdir())
    assert len(kept) == 1 and kept[0].stat().st_mode & 0o777 == 0o600
    agent.stop()

    ours.revoke("first")
    ours.list(listed)
    it.network.process.wait_for("the revocation lists for agents have changed")
    text = it.refused("ADIT-1111")
    for part in ["CN=first", "CN=ours", "revoked at", "the handshake", "the vendor must replace"]:
        assert part in text, text
    distrusted(it.network, "revoked")
    it.network.process.wait_for("an agent does not accept the network's certificate")
    assert it.refused("ADIT-1111", crl="require") and it.network.metric("adit_sessions_began_total") == 1

    # The customer may not want to know, and the customer's own page says so.
    off = it.agent(name="off", crl="off").start()
    assert it.carries()
    off.stop()
    said = run([AGENT, "explain", "--config", off.config]).stdout.decode()
    assert "off: nobody is asked; a stolen key of the network is believed until its certificate expires" in said

    # Another certificate in the files is taken without a restart.
    (ours.directory / "first.key").write_bytes((ours.directory / "second.key").read_bytes())
    (ours.directory / "first.pem").write_bytes((ours.directory / "second.pem").read_bytes())
    it.network.process.wait_for("certificate files have changed and were read again")
    it.agent(name="again").start()
    assert it.carries()


def test_a_list_is_fetched_and_what_cannot_be_believed_is_never_taken_for_an_empty_one(registry):
    ours, other = Authority(registry.root, "ours"), Authority(registry.root, "other")
    lists = registry.upstream(Lists())
    files = ours.serve("network", f"{lists.url}/good")
    good = ours.list(registry.root / "good.pem").read_bytes()
    lists.give("/good", good)
    it = Deployment(registry, ours, ingress=files)
    agent = it.agent().start()
    agent.process.wait_for(f"a newer revocation list is in force.*{lists.url}/good")
    assert it.carries()
    agent.stop()

    past = ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z"]
    lists.give("/over", ours.list(registry.root / "over.pem", *past).read_bytes())
    lists.give("/foreign", other.list(registry.root / "foreign.pem").read_bytes())
    lists.give("/redirect", b"", 302)
    lists.give("/cut", good)
    lists.give("/half", good[:-100])
    lists.give("/endless", bytes(1 << 16))
    lists.give("/text", b"<html>welcome</html>")
    for path, problem in [
        ("over", "is over: its successor was due at 2020-01-02"),
        ("foreign", "its issuer CN=other is none of the authorities"),
        ("redirect", "the answer is 302"),
        ("missing", "the answer is 404"),
        ("cut", "cut off"),
        ("half", "cut off"),
        ("endless", "longer than 4194304 octets"),
        ("text", "neither DER nor PEM"),
    ]:
        text = it.refused("ADIT-1121", crl_url=f"{lists.url}/{path}")
        assert problem in text and f"/{path}" in text, text
    assert "refused" in it.refused("ADIT-1121", crl_url=f"http://127.0.0.1:{free_port()}/list").lower()
    distrusted(it.network, "distrusted")
    assert it.network.metric("adit_sessions_began_total") == 1, "nobody else had a session, nor showed a token"

    # Revoked, by what is fetched.
    ours.revoke("network")
    lists.give("/good", ours.list(registry.root / "new.pem").read_bytes())
    text = it.refused("ADIT-1111")
    assert f"{lists.url}/good" in text, text
    distrusted(it.network, "revoked")


def test_an_older_list_is_refused_while_the_agent_runs_and_after_its_restart(registry):
    ours = Authority(registry.root, "ours")
    lists = registry.upstream(Lists())
    old = ours.list(registry.root / "old.pem").read_bytes()
    it = Deployment(registry, ours, ingress=ours.serve("network"))
    ours.revoke("network")
    lists.give("/list", ours.list(registry.root / "new.pem").read_bytes())
    agent = it.agent(crl_url=f"{lists.url}/list", crl_refresh="1s").spawn()
    agent.process.wait_for("ADIT-1111")
    lists.give("/list", old)
    agent.process.wait_for("older than one that was in force already", deadline=LONG)
    agent.stop()
    agent.spawn().process.wait_for("ADIT-1111")
    assert not [line for line in agent.process.lines if "endpoint bound" in line]


def test_a_certificate_that_is_revoked_during_a_session_ends_it_and_what_it_carries(registry):
    ours = Authority(registry.root, "ours")
    lists = registry.upstream(Lists())
    files = ours.serve("network", f"{lists.url}/list")
    ours.serve("next", f"{lists.url}/list")
    listed = registry.root / "list.pem"
    lists.give("/list", ours.list(listed).read_bytes())
    it = Deployment(registry, ours, ingress=files)
    agent = it.agent(crl_refresh="1s").start()
    sock = dial(it.port, timeout=LONG)
    sock.sendall(b"before")
    assert receive(sock, 6) == b"before"

    ours.revoke("network")
    lists.give("/list", ours.list(listed).read_bytes())
    agent.process.wait_for("its sessions end", deadline=LONG)
    assert told(agent.process, "ADIT-1111: network's certificate was revoked")
    try:
        assert sock.recv(10) == b"", "the connection ends"
    except ConnectionResetError:
        pass
    it.network.process.wait_for("a session ended.*UNTRUSTED|UNTRUSTED.*a session ended", deadline=LONG)
    distrusted(it.network, "revoked")  # it goes on trying

    mark = agent.process.mark()
    (ours.directory / "network.key").write_bytes((ours.directory / "next.key").read_bytes())
    (ours.directory / "network.pem").write_bytes((ours.directory / "next.pem").read_bytes())
    agent.wait_bound(after=mark, deadline=LONG)
    wait_until(it.carries, "it serves again")


def test_the_network_tells_that_its_certificate_is_revoked_and_the_session_ends_although_nothing_can_be_fetched(registry):
    """CRL-005, CRL-006: a list is fetched at that moment, from where nobody ever answers."""
    ours = Authority(registry.root, "ours")
    files, listed = ours.serve("network"), ours.list(registry.root / "list.pem")
    it = Deployment(registry, ours, ingress={**files, "crl": [str(listed)]})
    mute = socket.create_server(("127.0.0.1", 0))
    mute.settimeout(LONG)
    agent = it.agent(crl="require", crl_url=f"http://127.0.0.1:{mute.getsockname()[1]}/list", crl_refresh="1s").start()
    sock = dial(it.port, timeout=LONG)
    sock.sendall(b"before")
    assert receive(sock, 6) == b"before"

    fetching, _ = mute.accept()
    ours.revoke("network")
    began = time.monotonic()
    ours.list(listed)
    agent.process.wait_for("its sessions end", deadline=LONG)
    assert time.monotonic() - began < 10
    assert any("(from the session)" in line for line in told(agent.process, "ADIT-1111")), told(agent.process, "ADIT-1111")
    try:
        assert sock.recv(10) == b"", "the connection ends"
    except ConnectionResetError:
        pass
    it.network.process.wait_for("a session ended.*UNTRUSTED|UNTRUSTED.*a session ended", deadline=LONG)
    fetching.close()
    mute.close()


def test_an_old_list_and_one_of_another_authority_that_are_told_in_a_session_change_nothing(registry):
    """CRL-004"""
    elsewhere = registry.root / "elsewhere"
    elsewhere.mkdir()
    ours, namesake = Authority(registry.root, "ours"), Authority(elsewhere, "ours")
    old = ours.list(registry.root / "old.pem").read_bytes()
    files, listed = ours.serve("network"), ours.list(registry.root / "list.pem")
    it = Deployment(registry, ours, ingress={**files, "crl": [str(listed)]})
    agent = it.agent(crl_url=f"http://127.0.0.1:{free_port()}/list").start()

    def shown():
        return run([AGENT, "status", "--config", agent.config], env={"XDG_STATE_HOME": str(agent.state)}).stdout.decode()

    def give(octets):
        new = registry.root / "new.pem"
        new.write_bytes(octets)
        new.rename(listed)

    give(old + namesake.list(registry.root / "namesake.pem").read_bytes())
    agent.process.wait_for("a revocation list is not believed.*older than one that was in force already", deadline=LONG)
    assert any("the session" in line for line in told(agent.process, "is not believed")), agent.process.lines
    agent.process.wait_for("its signature is not that of CN=ours", deadline=LONG)
    assert it.carries() and it.network.metric("adit_sessions") == 1
    assert "from the handshake at " in shown() and "number 0x02" in shown(), shown()

    give(ours.list(registry.root / "newer.pem").read_bytes())
    agent.process.wait_for("a newer revocation list is in force.*the session", deadline=LONG)
    wait_until(lambda: "from the session at " in shown() and "number 0x03" in shown(), "status says whence the list is")
    assert it.carries() and it.network.metric("adit_sessions_began_total") == 1


def test_a_list_that_runs_out_during_a_session_ends_it_until_there_is_another(registry):
    ours = Authority(registry.root, "ours")
    lists = registry.upstream(Lists())
    listed = registry.root / "list.pem"
    lists.give("/list", ours.list(listed).read_bytes())
    it = Deployment(registry, ours, ingress=ours.serve("network", f"{lists.url}/list"))
    agent = it.agent(crl_refresh="1s").start()

    def short():
        mark = agent.process.mark()
        lists.give("/list", ours.list(listed, "-crlsec", "20").read_bytes())
        agent.process.wait_for("a newer revocation list is in force", after=mark, deadline=LONG)
        return True

    assert short()
    lists.give("/list", b"", 404)
    agent.process.wait_for("its sessions end", deadline=LONG)
    assert told(agent.process, "ADIT-1121")
    mark = agent.process.mark()
    lists.give("/list", ours.list(listed).read_bytes())
    agent.wait_bound(after=mark, deadline=LONG)
    wait_until(it.carries, "it serves again")


def test_the_private_ca_gives_out_its_list_and_a_revoked_ingress_is_replaced_while_agents_come_over(registry):
    port = free_port()
    # Whoever fetches finds it where the certificates say.
    it = Deployment(registry, crl={"listen": [f"127.0.0.1:{port}"], "url": f"http://localhost:{port}/of/ca.crl"})
    given = run(["curl", "-sS", "-D", "/dev/stderr", f"http://127.0.0.1:{port}/of/ca.crl"])
    assert b"application/pkix-crl" in given.stderr.lower() and b"max-age" in given.stderr
    (registry.root / "given.crl").write_bytes(given.stdout)
    run(["openssl", "crl", "-inform", "DER", "-in", registry.root / "given.crl", "-CAfile", it.network.ca, "-noout"])
    public = ["curl", "-sS", "--resolve", f"localhost:{it.network.ports['http']}:127.0.0.1", f"http://localhost:{it.network.ports['http']}/of/ca.crl"]
    assert run(public).stdout == given.stdout, "at the public listener too"

    agent = it.agent(crl="require").start()
    agent.process.wait_for("a newer revocation list is in force.*the handshake")
    shown = ["openssl", "s_client", "-connect", f"127.0.0.1:{it.network.ports['ingress']}", "-servername", "localhost", "-alpn", "adit/1"]
    certificate = run([*shown], stdin=b"", check=False).stdout
    text = run(["openssl", "x509", "-noout", "-text"], stdin=certificate).stdout.decode()
    assert f"URI:http://localhost:{port}/of/ca.crl" in text, text

    sock = dial(it.port, timeout=LONG)
    sock.sendall(b"before")
    assert receive(sock, 6) == b"before"
    serials = [line.split()[0] for line in run([NETWORK, "ca", "list", "--config", it.network.config]).stdout.decode().splitlines()]
    assert len(serials) == 1, "what the network shows can be revoked"
    mark = agent.process.mark()
    run([NETWORK, "ca", "revoke", "--config", it.network.config, "--reason", "key-compromise", serials[0]])
    it.network.process.wait_for("the ingress's certificate was revoked and another one was issued", deadline=LONG)
    agent.wait_bound(after=mark, deadline=LONG)
    agent.process.wait_for("its sessions end", after=mark, deadline=LONG)
    try:
        assert sock.recv(10) == b"", "what ran under the revoked certificate ends"
    except ConnectionResetError:
        pass
    wait_until(it.carries, "new connections are carried")
    assert run([*shown], stdin=b"", check=False).stdout != certificate


def test_an_agent_that_is_bound_to_a_key_takes_no_other_network_however_trusted(registry):
    it = Deployment(registry)
    key = json.loads(run([NETWORK, "ca", "show", "--config", it.network.config, "--output", "json"]).stdout)["network_key"]
    assert key in run([NETWORK, "ca", "show", "--config", it.network.config]).stdout.decode()
    other = "sha256:" + "ab" * 32
    agent = it.agent(network_key=[other, key]).start()
    assert it.carries()
    agent.stop()

    text = it.refused("ADIT-1122", network_key=other)
    assert key in text and "bound to sha256:q6urq6" in text, text
    distrusted(it.network, "pinned")
    said = run([AGENT, "explain", "--config", agent.config]).stdout.decode()
    assert f"to the key sha256:q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=" in said and key in said, said


def test_the_vendor_learns_why_an_agent_does_not_accept_the_certificate(registry):
    ours, other = Authority(registry.root, "ours"), Authority(registry.root, "other")
    ours.serve("old", None, "localhost", "-startdate", "20200101000000Z", "-enddate", "20200102000000Z")
    wrong = ours.serve("wrong", None, "elsewhere.example")
    it = Deployment(registry, ours, ingress=wrong)
    for code, ca, reason in [("ADIT-1105", other.pem, "distrusted"), ("ADIT-1106", None, "distrusted")]:
        before = it.network.metric(f'adit_ingress_errors_total{{reason="{reason}"}}')
        it.refused(code, ca)
        distrusted(it.network, reason, before)
    (ours.directory / "wrong.key").write_bytes((ours.directory / "old.key").read_bytes())
    (ours.directory / "wrong.pem").write_bytes((ours.directory / "old.pem").read_bytes())
    it.network.process.wait_for("certificate files have changed and were read again")
    it.refused("ADIT-1107")
    distrusted(it.network, "expired")


def diagnosed(agent):
    """The checks of a report, by name, and the exit code."""
    done = run([AGENT, "diagnose", "--json", "--config", agent.config], check=False)
    return {check["check"]: check for check in json.loads(done.stdout)["checks"]}, done.returncode


def test_diagnose_says_by_how_much_the_clock_differs_from_that_of_a_server_of_lists(registry):
    ours = Authority(registry.root, "ours")
    lists = registry.upstream(Lists())
    lists.give("/list", ours.list(registry.root / "list.pem").read_bytes())
    it = Deployment(registry, ours, ingress=ours.serve("network", f"{lists.url}/list"))
    agent = it.agent()

    found, code = diagnosed(agent)
    assert (found["clock"]["result"], found["crl"]["result"]) == ("ok", "ok"), (code, found)
    assert f"what {lists.url}/list says (unsigned) by " in found["clock"]["found"] and "give or take" in found["clock"]["found"]

    lists.ahead = 7_200
    found, code = diagnosed(agent)
    assert (code, found["clock"]["result"], found["clock"]["code"]) == (0, "warning", "ADIT-1123"), found["clock"]
    assert re.search(r"is behind what .* says \(unsigned\) by (2 h 0 min|1 h 59 min), give or take", found["clock"]["error"]), found["clock"]
    assert "timedatectl" in found["clock"]["remedy"]

    # An hour before the list was made: that cannot be, and what is signed says nothing against this clock.
    lists.ahead = -7_200
    found, _ = diagnosed(agent)
    assert found["clock"]["result"] == "ok" and "unsigned" not in found["clock"]["found"], found["clock"]


def test_diagnose_tells_a_certificate_that_has_expired_from_a_clock_that_is_wrong(registry):
    ours = Authority(registry.root, "ours")
    ours.serve("old", None, "localhost", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")
    ours.serve("early", None, "localhost", "-startdate", "20900101000000Z", "-enddate", "20910101000000Z")
    files = ours.serve("network")
    listed = ours.list(registry.root / "list.pem")
    it = Deployment(registry, ours, ingress={**files, "crl": [str(listed)]})
    agent = it.agent()
    found, code = diagnosed(agent)
    assert (code, found["clock"]["result"]) == (0, "ok"), found

    def show(label):
        mark = it.network.process.mark()
        for kind in ("key", "pem"):
            (ours.directory / f"network.{kind}").write_bytes((ours.directory / f"{label}.{kind}").read_bytes())
        it.network.process.wait_for("certificate files have changed and were read again", after=mark, deadline=LONG)

    show("old")
    found, code = diagnosed(agent)
    assert (code, found["tls"]["code"], found["clock"]["result"]) == (5, "ADIT-1107", "ok"), found
    assert found["clock"]["found"].endswith("the certificate has expired, and the clock is not to blame"), found["clock"]
    assert found["protocol"]["result"] == "skipped", "nothing is said to whom is not trusted"

    show("early")
    found, code = diagnosed(agent)
    assert (code, found["tls"]["code"], found["clock"]["code"]) == (5, "ADIT-1108", "ADIT-1123"), found
    assert "the network's certificate was made at 2090-01-01 00:00:00 UTC: it is behind by " in found["clock"]["error"], found["clock"]

"""The names of the ingress: each with a certificate of its own, and the accounts that are admitted there; and certificates that change under sessions."""

from harness.authority import Authority
from harness.clients import dial, receive
from harness.deployment import AGENT, NETWORK, yaml
from harness.ports import free_port
from harness.process import run, wait_until
from harness.raw_upstream import RawUpstream, echo

ACME = "acme.connect.e2e.test"
OPEN = "open.connect.e2e.test"
LONG = 60.0


def shown(network, name):
    """The certificate that an agent meets which asks for `name`."""
    argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{network.ports['ingress']}", "-servername", name, "-alpn", "adit/1"]
    return run(["openssl", "x509", "-noout", "-serial", "-subject", "-issuer"], stdin=run(argv, stdin=b"", check=False).stdout).stdout.decode()


def once(registry, network, secret, port, name, number):
    """What an agent says that gives up when it is refused."""
    folder = registry.root / f"once-{number}"
    folder.mkdir()
    env = {"XDG_STATE_HOME": str(folder), "HOME": str(folder), "ADIT_AUTHTOKEN": secret, "ADIT_SERVER_NAME": name}
    argv = [AGENT, "tcp", port, "--url", f"tcp://:{port}", "--log", "off", "--connect-url", network.connect_url, "--connect-cas", network.ca]
    done = run(argv, check=False, env=env)
    return done.returncode, done.stderr.decode()


def test_a_name_admits_its_accounts_and_refuses_the_others_as_it_refuses_strangers(registry):
    echoing = registry.upstream(RawUpstream(echo))
    names = ["localhost", "127.0.0.1", {"name": ACME, "accounts": ["acme"]}, {"name": OPEN}]
    network = registry.network(ingress={"names": names}).start()
    ports = [free_port(), free_port()]
    acme, globex = network.token(f"tcp:{ports[0]}", account="acme"), network.token(f"tcp:{ports[1]}", account="globex")

    def agent(label, token, port, name=None):
        settings = {"server_name": name} if name else {}
        endpoints = {"echo": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{echoing.target}"}}}
        return registry.agent(network, token, endpoints, name=label, **settings)

    assert len({shown(network, name) for name in ("localhost", ACME, OPEN)}) == 3, "each has its own"
    assert f"CN = {ACME}" in shown(network, ACME) or f"CN={ACME}" in shown(network, ACME)
    at_home = agent("acme", acme, ports[0], ACME).start()
    agent("globex", globex, ports[1]).start().stop()
    agent("globex-open", globex, ports[1], OPEN).start().stop()

    invalid = acme.secret[:-4] + ("AAAA" if acme.secret[-4:] != "AAAA" else "BBBB")
    network.secrets.append(invalid)
    said = [once(registry, network, secret, ports[1], ACME, at) for at, secret in enumerate((globex.secret, invalid))]
    assert said[0] == said[1] and said[0][0] == 4 and said[0][1].startswith("ADIT-2001"), said
    line = network.process.wait_for("does not admit their account.*|.*does not admit their account").string
    assert ACME in line and "globex" in line and globex.id in line
    assert len([line for line in network.process.lines if "does not admit their account" in line]) == 1
    assert network.metric('adit_ingress_errors_total{reason="account"}') == 1

    # Who is taken out loses the session that stands.
    network.settings["ingress"]["names"][2] = {"name": ACME, "accounts": ["globex"]}
    network.write_config()
    network.process.signal(1)
    network.process.wait_for("a name of the ingress does not admit the account any more", deadline=LONG)
    at_home.process.wait_for("ADIT-2001", deadline=LONG)
    agent("globex-acme", globex, ports[1], ACME).start()


def test_a_name_has_a_certificate_of_a_file_and_sessions_stay_when_it_changes(registry):
    ours = Authority(registry.root, "ours")
    echoing = registry.upstream(RawUpstream(echo))
    files, _ = ours.serve("first", None, ACME), ours.serve("second", None, ACME)
    network = registry.network(ingress={"names": ["localhost", {"name": ACME, **files}]}).start()
    assert "issuer=CN = ours" in shown(network, ACME) or "issuer=CN=ours" in shown(network, ACME)
    port = free_port()
    endpoints = {"echo": {"url": f"tcp://:{port}", "upstream": {"url": f"tcp://{echoing.target}"}}}
    settings = {"server_name": ACME, "connect_cas": str(ours.pem)}
    agent = registry.agent(network, network.token(f"tcp:{port}"), endpoints, **settings).start()
    sock = dial(port, timeout=LONG)
    sock.sendall(b"before")
    assert receive(sock, 6) == b"before"

    before = shown(network, ACME)
    for kind in ("key", "pem"):
        (ours.directory / f"first.{kind}").write_bytes((ours.directory / f"second.{kind}").read_bytes())
    wait_until(lambda: shown(network, ACME) != before, "new connections meet the new certificate", deadline=LONG)
    sock.sendall(b"after")
    assert receive(sock, 5) == b"after", "sessions stay"
    assert len([line for line in agent.process.lines if "session established" in line]) == 1
    assert not [line for line in agent.process.lines if "session lost" in line or "connection lost" in line]


def test_what_a_name_needs_is_said(registry):
    network = registry.network()
    text = {"version": 1, "ingress": {"listen": ["127.0.0.1:1"], "names": [{"name": ACME, "certificate": "a.pem"}, {"accounts": ["x"]}]}, "http": {"listen": ["127.0.0.1:2"]}}
    network.config.write_text(yaml(text) + "\n")
    said = run([NETWORK, "config", "check", "--config", network.config], check=False)
    for part in ["ingress.names[0].key: certificate and key belong together", "ingress.names[1].name: an item needs a name"]:
        assert part in said.stderr.decode(), said.stderr.decode()

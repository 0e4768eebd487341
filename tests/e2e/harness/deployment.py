"""A network with its certificates, database and tokens in a fresh directory, and the agents that dial it."""

import json
import os
import pathlib
import shutil
import urllib.error
import urllib.parse
import urllib.request

from .ports import free_port
from .process import DEADLINE, Process, run, wait_until

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = pathlib.Path(os.environ.get("E2E_BIN_DIR", ROOT / "target" / "debug"))
NETWORK = BIN / "adit-network"
AGENT = BIN / "adit"
DOMAIN = "e2e.test"


def yaml(value, indent=0):
    """Writes plain data as YAML: mappings and lists in block form, scalars as JSON."""
    pad = "  " * indent
    if isinstance(value, dict) and value:
        lines = []
        for key, item in value.items():
            nested = isinstance(item, (dict, list)) and item
            lines.append(f"{pad}{key}:" + ("\n" + yaml(item, indent + 1) if nested else f" {json.dumps(item)}"))
        return "\n".join(lines)
    if isinstance(value, list) and value:
        return "\n".join(f"{pad}-\n{yaml(item, indent + 1)}" if isinstance(item, dict) else f"{pad}- {json.dumps(item)}" for item in value)
    return pad + json.dumps(value)


class Network:
    """One `adit-network serve`, restartable on the same addresses."""

    def __init__(self, directory, name="network", **settings):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.ports = {key: free_port() for key in ("ingress", "http", "https", "admin")}
        self.settings = settings
        self.config = self.directory / "network.yml"
        self.process = None
        self.runs = []
        self.secrets = []
        self.ca = self.directory / "pki" / "ca.pem"
        self.write_config()
        run([NETWORK, "ca", "init", "--config", self.config])

    def write_config(self):
        config = {
            "version": 1,
            "domains": [DOMAIN],
            "private_ca": str(self.directory / "pki"),
            "database": {"path": str(self.directory / "network.db")},
            "ingress": {"listen": self._listen("ingress"), "names": ["localhost", "127.0.0.1", "::1"]},
            "http": {"listen": self._listen("http")},
            "https": {"listen": self._listen("https")},
            "tcp": {"address": "127.0.0.1", "ports": ["1024-65535"]},
            "admin": {"listen": f"127.0.0.1:{self.ports['admin']}"},
            "log": {"format": "json", "level": "debug"},
        }
        for key, value in self.settings.items():
            config[key] = {**config.get(key, {}), **value} if isinstance(value, dict) else value
        self.config.write_text(yaml(config) + "\n")
        self.config.chmod(0o640)

    def _listen(self, name):
        return [f"127.0.0.1:{self.ports[name]}", f"[::1]:{self.ports[name]}"]

    def start(self):
        self.process = Process(self.name, [NETWORK, "serve", "--config", self.config, "--ready"])
        self.runs.append(self.process)
        self.ready = json.loads(self.process.first_stdout_line())
        return self

    def restart(self):
        """Starts again after a kill or a stop."""
        return self.start()

    def stop_and_start(self):
        self.process.stop()
        return self.start()

    def token(self, *rules, account="e2e"):
        """Creates an authtoken and returns its secret."""
        argv = [NETWORK, "token", "create", "--config", self.config, "--account", account, "--output", "json"]
        for rule in rules:
            argv += ["--allow", f"bind:{rule}"]
        created = json.loads(run(argv).stdout)
        self.secrets.append(created["token"])
        return Token(created["id"], created["token"])

    def revoke(self, token):
        run([NETWORK, "token", "revoke", "--config", self.config, token.id])

    def metrics(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def metric(self, name):
        """The sum of a metric over its labels; 0 where it is absent."""
        total = 0.0
        for line in self.metrics().splitlines():
            if line.startswith(name) and line[len(name)] in " {":
                total += float(line.rsplit(" ", 1)[1])
        return total

    def metric_of(self, series):
        """The number of one series, with its labels as they are written; 0 where it is absent."""
        lines = [line for line in self.metrics().splitlines() if line.startswith(f"{series} ")]
        return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0

    def left(self, url):
        """What the page of one endpoint says of the last agent that left it: the status, and what it said if nobody came since."""
        status, endpoint = self.endpoint(url)
        return status, endpoint and endpoint.get("left")

    def endpoint(self, url):
        """The page of one endpoint: the status, and what it says."""
        query = urllib.parse.urlencode({"endpoint": url})
        page = f"http://127.0.0.1:{self.ports['admin']}/readyz/endpoints?{query}"
        try:
            with urllib.request.urlopen(page, timeout=5) as answer:
                status, said = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return 404, None
            status, said = error.code, json.load(error)
        return status, said["endpoints"][0]

    def health(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['admin']}{path}", timeout=5) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    @property
    def connect_url(self):
        return f"localhost:{self.ports['ingress']}"


class Token:
    def __init__(self, id, secret):
        self.id = id
        self.secret = secret


class Agent:
    """One `adit start --all`. `endpoints` maps a name to its entry in the configuration."""

    def __init__(self, network, directory, token, endpoints, name="agent", **settings):
        self.network = network
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.state = self.directory / "state"
        self.config = self.directory / f"{name}.yml"
        agent = {
            "connect_url": network.connect_url,
            # Beside the configuration: there a policy lets it be named.
            "connect_cas": str(shutil.copy(network.ca, self.directory / "network-ca.pem")),
            "authtoken": token.secret,
            "log": "stderr",
            "log_level": "debug",
            "log_format": "json",
            **settings,
        }
        entries = [{"name": key, **entry} for key, entry in endpoints.items()]
        self.config.write_text(yaml({"version": 1, "agent": agent, "endpoints": entries}) + "\n")
        self.config.chmod(0o600)
        self.expected = len(entries)
        self.process = None
        self.runs = []

    def spawn(self, env=None):
        """Starts the program without waiting for anything."""
        # The agent's lasting name is kept apart from that of an agent that the user of this machine runs.
        state = {"XDG_STATE_HOME": str(self.state), **(env or {})}
        self.process = Process(self.name, [AGENT, "start", "--all", "--config", self.config], cwd=self.directory, env=state)
        self.runs.append(self.process)
        return self

    def start(self):
        """Starts the program and waits until every endpoint is bound."""
        self.spawn()
        self.wait_bound()
        return self

    def wait_bound(self, after=0, deadline=DEADLINE):
        def all_bound():
            bound = [line for line in self.process.lines[after:] if is_bound(line)]
            return len(bound) >= self.expected

        wait_until(all_bound, lambda: f"{self.expected} endpoints bound by {self.name}:\n{self.process.text()[-3000:]}", deadline)

    def stop(self):
        return self.process.stop()


def is_bound(line):
    """Tells whether a log line of the agent says that an endpoint is bound."""
    try:
        return json.loads(line).get("message") == "endpoint bound"
    except (ValueError, AttributeError):
        return False

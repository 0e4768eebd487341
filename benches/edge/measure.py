"""Measures the edge beside nginx and Caddy, which end TLS and pass requests to the same upstream without a tunnel, and beside two nginx in
a row with TLS between them: what a way through two programs costs without a tunnel.

Everything runs on this machine, so a rate is one of the processors that all share; targets take turns, round by round.
Usage: measure.py [--json FILE] [--only NAME] [--seconds N] [--rounds N]
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import json
import multiprocessing
import os
import pathlib
import re
import ssl
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
os.environ.setdefault("E2E_BIN_DIR", str(ROOT / "target" / "release"))

from harness.deployment import DOMAIN, NETWORK, Agent, Network  # noqa: E402
from harness.ports import free_port  # noqa: E402
from harness.process import Process, run, wait_until  # noqa: E402

NAME = f"bench.{DOMAIN}"
#: What the upstream answers, in octets.
BODY = 1_024
#: Callers that shake hands at once, each one handshake after another: so many that the processors and not the way there and back decide.
CALLERS = 16
#: What the requests of one connection wait for at once, over HTTP/2.
STREAMS = 10
TICK = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass
class Target:
    """Something that ends TLS at a port of the loopback; `pids` are its processes."""

    name: str
    port: int
    pids: list

    def processor(self):
        """Seconds of processor that its processes have spent."""
        spent = 0
        for pid in self.pids:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            spent += int(fields[11]) + int(fields[12])
        return spent / TICK


def children(pid):
    return [int(child) for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def nginx(folder, name, servers):
    """Starts an nginx with these servers; returns it."""
    folder.mkdir()
    config = folder / "nginx.conf"
    config.write_text(f"""
daemon off;
pid {folder}/pid;
error_log {folder}/error.log warn;
worker_processes auto;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 128;
  {servers}
}}
""")
    return Process(name, ["nginx", "-c", config])


@contextlib.contextmanager
def stand():
    """An upstream, and the three that end TLS in front of it; gives the targets, Adit first."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = pathlib.Path(name)
        upstream, proxy, caddy, front, back = (free_port() for _ in range(5))

        def keep(process):
            # Not by force: the workers of nginx would stay.
            stack.callback(process.stop)
            return process

        keep(nginx(folder / "upstream", "upstream", f"""
  server {{ listen 127.0.0.1:{upstream} backlog=4096; location / {{ default_type text/plain; return 200 "{"x" * BODY}"; }} }}"""))
        wait_until(lambda: listens(upstream), "the upstream listens")

        quiet = {"format": "json", "level": "warn"}
        limits = {"connections_per_source": 100_000, "handshakes": 10_000}
        network = Network(folder / "network", log=quiet, limits=limits).start()
        keep(network.process)
        token = network.token(f"*.{DOMAIN}")
        agent = Agent(network, folder / "agent", token, {"bench": {"url": f"https://{NAME}", "upstream": {"url": f"http://127.0.0.1:{upstream}"}}}, log_level="info")
        keep(agent.start().process)

        # The same kind of key and chain for all: one that the network's CA has signed.
        run([NETWORK, "ca", "issue", "--config", network.config, "--out", folder / "site", NAME])
        certificate, key = folder / "site.pem", folder / "site.key"
        def ends_tls(name, port, there, protocol):
            """An nginx that ends TLS at this port and passes requests on to another."""
            return keep(nginx(folder / name, name, f"""
  upstream there {{ server 127.0.0.1:{there}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} ssl http2 backlog=4096;
    server_name {NAME};
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    location / {{
      proxy_pass {protocol}://there;
      proxy_ssl_verify on;
      proxy_ssl_trusted_certificate {network.ca};
      proxy_ssl_server_name on;
      proxy_ssl_name {NAME};
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}"""))

        other = ends_tls("nginx", proxy, upstream, "http")
        pair = [ends_tls("back", back, upstream, "http"), ends_tls("front", front, back, "https")]
        settings = folder / "Caddyfile"
        settings.write_text(f"""{{
  admin off
  auto_https off
  storage file_system {folder}/caddy
  log {{
    level ERROR
  }}
}}
https://{NAME}:{caddy} {{
  bind 127.0.0.1
  tls {certificate} {key}
  reverse_proxy 127.0.0.1:{upstream}
}}
""")
        third = keep(Process("caddy", ["caddy", "run", "--config", settings, "--adapter", "caddyfile"], env={"HOME": name}))
        for port in (proxy, caddy, back, front):
            wait_until(lambda port=port: listens(port), f"{port} is listened on")
        yield [
            Target("adit", network.ports["https"], [network.process.child.pid, agent.process.child.pid]),
            Target("nginx", proxy, [other.child.pid, *children(other.child.pid)]),
            Target("two nginx", front, [pid for nginx in pair for pid in (nginx.child.pid, *children(nginx.child.pid))]),
            Target("caddy", caddy, [third.child.pid]),
        ]


def requests(target, connections, http2, seconds):
    """Requests a second, and the processor that the target spent on one, in µs."""
    argv = ["h2load", "--connect-to", f"127.0.0.1:{target.port}", "-c", connections, "-D", seconds, "--warm-up-time", 1, "-t", 1]
    argv += ["-m", STREAMS] if http2 else ["--h1"]
    before = target.processor()
    said = run([*argv, f"https://{NAME}/"]).stdout.decode()
    spent = target.processor() - before
    rate = float(re.search(r"finished in .*?, ([\d.]+) req/s", said)[1])
    done, failed, errored = (int(re.search(rf"(\d+) {word}", said)[1]) for word in ("succeeded", "failed", "errored"))
    if failed or errored or not done:
        raise RuntimeError(f"{target.name}: {failed} failed, {errored} errored, {done} done:\n{said}")
    return rate, spent / (rate * (seconds + 1)) * 1e6


def shake(port, resumed, seconds):
    """Handshakes one after another with TLS 1.3, new or resumed; returns how many. A resumed one that was not is an error."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    session, count = None, 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port)) as plain:
            with context.wrap_socket(plain, server_hostname=NAME, session=session) as tls:
                if resumed:
                    if session is not None and not tls.session_reused:
                        raise RuntimeError(f"{port}: not resumed")
                    # The ticket comes with the answer.
                    tls.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n".encode())
                    while tls.recv(65_536):
                        pass
                    session = tls.session
        count += 1
    return count


def handshakes(target, resumed, seconds):
    """Handshakes a second of several callers at once, and the processor that the target spent on one, in µs."""
    context = multiprocessing.get_context("spawn")
    # None begins before all have been started.
    start = context.Barrier(CALLERS)
    before = target.processor()
    with concurrent.futures.ProcessPoolExecutor(CALLERS, context, initializer=start.wait) as pool:
        counts = list(pool.map(shake, [target.port] * CALLERS, [resumed] * CALLERS, [seconds] * CALLERS))
    return sum(counts) / seconds, (target.processor() - before) / sum(counts) * 1e6


CASES = {
    f"requests, HTTP/{version}, {connections} connections": (
        lambda target, seconds, connections=connections, version=version: requests(target, connections, version == 2, seconds),
        0.8 if connections == 64 else None,
    )
    for version in (1, 2)
    for connections in (1, 64, 512)
} | {
    "handshakes, full": (lambda target, seconds: handshakes(target, False, seconds), 0.95),
    "connections with a request, resumed": (lambda target, seconds: handshakes(target, True, seconds), None),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--only", help="cases with this in their name")
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    chosen = {name: case for name, case in CASES.items() if not arguments.only or arguments.only in name}
    if not chosen:
        parser.error(f"no case has {arguments.only!r} in its name")
    figures = []
    with stand() as targets:
        print("Rates a second, and in brackets µs of processor of the target for each.\n")
        others = [target.name for target in targets[1:]]
        titles = ["what", *(target.name for target in targets), *(f"adit/{name}" for name in others), "goal", ""]
        print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
        for name, (measure, goal) in chosen.items():
            runs = {target.name: [] for target in targets}
            for _ in range(arguments.rounds):
                for target in targets:
                    runs[target.name].append(measure(target, arguments.seconds))
            rate = {name: statistics.median(rate for rate, _ in values) for name, values in runs.items()}
            cost = {name: statistics.median(cost for _, cost in values) for name, values in runs.items()}
            ratio = rate["adit"] / rate["nginx"]
            verdict = "" if goal is None else "met" if ratio >= goal else "MISSED"
            cells = [f"{rate[target.name]:,.0f} ({cost[target.name]:,.0f})" for target in targets]
            wanted = "" if goal is None else f"≥ {goal:.2f} of nginx"
            ratios = [f"{rate['adit'] / rate[name]:.2f}" for name in others]
            print(f"| {' | '.join([name, *cells, *ratios, wanted, verdict])} |", flush=True)
            figures.append({"name": name, "rate": rate, "processor_us": cost, "goal": goal})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

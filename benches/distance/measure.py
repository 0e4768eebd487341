"""Measures the tunnel over a path of 100 ms beside no tunnel: two network namespaces joined by a user-space link.

The customer's side (agent, upstream) is in one namespace, the vendor's (network, caller) in the other. Needs root.
Usage: measure.py [--json FILE] [--only NAME] [--seconds N] [--sessions N]
"""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
os.environ.setdefault("E2E_BIN_DIR", str(ROOT / "target" / "release"))

from harness.namespaces import FAR, FAR_IP, NEAR, FarAgent, NearNetwork, inside, namespaces, sh  # noqa: E402
from harness.process import Process, wait_until  # noqa: E402

LINK = ROOT / "target" / "release" / "bench-link"
ENDS = pathlib.Path(__file__).with_name("ends.py")
UPSTREAM, ENDPOINT = 7_001, 7_002

GBIT, HALF_GBIT = 125_000_000, 62_500_000
ROUND_TRIP_US = 100_000
#: Seconds after which a stream has its share of the path.
RAMP = 4

CASES = {
    "one stream, 1 Gbit/s": dict(rate=GBIT, mtu=9_000, loss=0, control="cubic", streams=1, goal=0.90),
    "one stream, 500 Mbit/s": dict(rate=HALF_GBIT, mtu=1_500, loss=0, control="bbr", streams=1, goal=0.95),
    "16 streams, 500 Mbit/s, 0.5 % loss": dict(rate=HALF_GBIT, mtu=1_500, loss=5_000, control="bbr", streams=16, goal=0.95),
    "a new connection and a request": dict(rate=HALF_GBIT, mtu=1_500, loss=0, control="bbr", streams=0, goal=0.95),
    "the same beside one stream, 0.5 % loss": dict(rate=HALF_GBIT, mtu=1_500, loss=5_000, control="bbr", streams=0, beside=1, goal=0.95),
    "the same beside 16 streams, 0.5 % loss": dict(rate=HALF_GBIT, mtu=1_500, loss=5_000, control="bbr", streams=0, beside=16, goal=0.95),
}


@contextlib.contextmanager
def congestion_control(name):
    """Namespaces that are made meanwhile inherit it; a kernel does not let them choose by themselves."""
    setting = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")
    before = setting.read_text()
    setting.write_text(name)
    try:
        yield
    finally:
        setting.write_text(before)


@contextlib.contextmanager
def path(rate, mtu, loss, control):
    """Two namespaces and the link between them."""
    with congestion_control(control), namespaces(mtu) as devices:
        for namespace in (NEAR, FAR):
            # What a host for long paths has: without it no connection, ours or another, fills the path.
            for key, value in (("tcp_wmem", "4096 65536 67108864"), ("tcp_rmem", "4096 131072 67108864")):
                sh(*inside(namespace, "sysctl", "-q", "-w", f"net.ipv4.{key}={value}"))
        queue = rate * ROUND_TRIP_US // 1_000_000
        argv = [LINK, ROUND_TRIP_US // 2, rate, queue, loss]
        link = subprocess.Popen([str(part) for part in argv], stdin=devices[0], stdout=devices[1])
        try:
            yield
        finally:
            link.kill()
            link.wait()


@contextlib.contextmanager
def tunnel(directory, sessions):
    network = NearNetwork(directory, log={"format": "json", "level": "warn"})
    agent = None
    try:
        network.start()
        endpoint = {"url": f"tcp://:{ENDPOINT}", "upstream": {"url": f"tcp://127.0.0.1:{UPSTREAM}"}}
        token = network.token(f"tcp:{ENDPOINT}")
        agent = FarAgent(network, directory, token, {"far": endpoint}, log_level="info", sessions=sessions).start()
        made = "session established"
        wait_until(lambda: sum(made in line for line in agent.process.lines) == sessions, "every session to begin")
        yield
    finally:
        for running in (agent, network):
            if running is not None and running.process is not None:
                running.process.kill()


def figure(host, port, case, seconds):
    """Octets a second, or for connections how many a second one after the other."""
    if case["streams"] == 0:
        with bulk_beside(host, port, case.get("beside", 0)):
            argv = inside(NEAR, sys.executable, ENDS, "ask", host, port, 20)
            return 1 / float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    argv = inside(NEAR, sys.executable, ENDS, "bulk", host, port, case["streams"], RAMP, seconds)
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


@contextlib.contextmanager
def bulk_beside(host, port, streams):
    """So many streams that take what the path gives, past their start."""
    if streams == 0:
        yield
        return
    argv = [str(part) for part in inside(NEAR, sys.executable, ENDS, "bulk", host, port, streams, RAMP, 3_600)]
    bulk = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        time.sleep(RAMP)
        yield
    finally:
        bulk.kill()
        bulk.wait()


def measure(case, seconds, rounds, sessions):
    """Alternates no tunnel and the tunnel over one path; returns the medians."""
    with tempfile.TemporaryDirectory() as directory, path(case["rate"], case["mtu"], case["loss"], case["control"]):
        upstream = Process("upstream", inside(FAR, sys.executable, ENDS, "serve", UPSTREAM))
        try:
            upstream.first_stdout_line()
            with tunnel(directory, sessions):
                pairs = [
                    (figure(FAR_IP, UPSTREAM, case, seconds), figure("127.0.0.1", ENDPOINT, case, seconds))
                    for _ in range(rounds)
                ]
        finally:
            upstream.kill()
    middle = rounds // 2
    return tuple(sorted(column)[middle] for column in zip(*pairs))


def shown(case, value):
    return f"{1_000 / value:.0f} ms" if case["streams"] == 0 else f"{value / 1e6:.1f} MB/s"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to a file too")
    parser.add_argument("--only", help="cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sessions", type=int, default=1, help="how many the agent holds")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("network namespaces and TUN devices need root")
    figures = []
    print("| work over 100 ms | no tunnel | Adit | ratio | goal | |\n|---|---|---|---|---|---|", flush=True)
    for name, case in CASES.items():
        if arguments.only and arguments.only not in name:
            continue
        plain, ours = measure(case, arguments.seconds, arguments.rounds, arguments.sessions)
        ratio, met = ours / plain, "met" if ours / plain >= case["goal"] else "MISSED"
        print(f"| {name} | {shown(case, plain)} | {shown(case, ours)} | {ratio:.2f} | ≥ {case['goal']:.2f} | {met} |", flush=True)
        figures.append({"name": name, "plain": plain, "adit": ours, "ratio": ratio, "goal": case["goal"]})
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()

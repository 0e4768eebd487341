#!/usr/bin/env python3
"""Prints how large the programs are and what they hold in memory, the network running and the agent with one idle session. --check demands the goals.

With the programs of `make dist`; --bin FOLDER names others. A network that is not there is taken from target/debug, and then not measured.
"""

import argparse
import os
import pathlib
import shutil
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[1]
TARGET = os.environ.get("TARGET", f"{os.uname().machine}-unknown-linux-musl")
# The agent, stripped, in octets; and resident with one idle session.
MOST_OCTETS, MOST_RESIDENT = 10_000_000, 8 << 20


def memory(process):
    """Resident and proportional memory of a process in octets."""
    lines = pathlib.Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines[1:])
    return [int(fields[name].split()[0]) << 10 for name in ("Rss", "Pss")]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", type=pathlib.Path, default=ROOT / "target" / TARGET / "dist")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="adit-sizes-"))
    programs = folder / "bin"
    programs.mkdir()
    for name in ("adit", "adit-network"):
        found = arguments.bin / name
        (programs / name).symlink_to(found if found.exists() else ROOT / "target" / "debug" / name)
    is_measured = (arguments.bin / "adit-network").exists()
    os.environ["E2E_BIN_DIR"] = str(programs)
    sys.path.insert(0, str(ROOT / "tests" / "e2e"))
    from harness.deployment import DOMAIN, Agent, Network

    network = Network(folder / "network", log={"format": "json", "level": "info"}).start()
    agent = None
    try:
        token = network.token(f"web.{DOMAIN}")
        endpoint = {"url": f"https://web.{DOMAIN}", "upstream": {"url": "http://localhost:1"}}
        agent = Agent(network, folder / "agent", token, {"web": endpoint}, log_level="info").start()
        held = memory(agent.process)
        size = (arguments.bin / "adit").stat().st_size
        rows = [("adit", size, *held)]
        if is_measured:
            rows.append(("adit-network", (arguments.bin / "adit-network").stat().st_size, *memory(network.process)))
        print(f"{'':14}{'on disk, MB':>12}{'resident, MiB':>15}{'proportional, MiB':>19}")
        for name, octets, resident, proportional in rows:
            print(f"{name:14}{octets / 1e6:12.1f}{resident / 2**20:15.1f}{proportional / 2**20:19.1f}")
    finally:
        if agent:
            agent.process.kill()
        network.process.kill()
        shutil.rmtree(folder)
    missed = [f"adit has {size} octets, more than {MOST_OCTETS}"] * (size > MOST_OCTETS)
    missed += [f"adit holds {held[0]} octets, more than {MOST_RESIDENT}"] * (held[0] > MOST_RESIDENT)
    print("\n".join(missed) or f"goals met: {MOST_OCTETS / 1e6:.0f} MB, {MOST_RESIDENT >> 20} MiB resident with one idle session")
    if arguments.check and missed:
        sys.exit(1)


main()

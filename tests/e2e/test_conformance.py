"""The programs as they are built, held to the specification by adit-conformance."""

import json
import os
import pathlib
import subprocess

from harness.deployment import AGENT, ROOT

PROGRAM = pathlib.Path(os.environ.get("E2E_CONFORMANCE", ROOT / "target" / "debug" / "adit-conformance"))
SHIM = ROOT / "conformance" / "shims" / "adit_agent.py"


def test_the_network_breaks_no_clause(registry, tmp_path):
    network = registry.network(domains=["example"], tcp={"address": "127.0.0.1", "ports": ["1-65535"]}).start()
    names = ["a.example", "ends.example", "sealed.example", "passes.example", "stays.example", "*.internal"]
    token = network.token(*names, "tcp:1-65535")  # and none for refused.example

    summary = held(tmp_path, "--role", "network", "--target", network.connect_url, "--ca", network.ca, "--states", "--jobs", "8", token=token.secret)

    assert summary["passed"] > 300


def test_the_agent_breaks_no_clause(tmp_path):
    summary = held(tmp_path, "--role", "agent", "--shim", f"python3 '{SHIM}' '{AGENT}'")

    assert summary["passed"] > 30


def held(folder, *arguments, token="test"):
    """Plays all scenarios with a program that has an application of its own; returns how many came to what."""
    report = folder / "report.json"
    argv = [PROGRAM, "--own-application", "--json", report, "--timeout", "20000", *arguments]
    run = subprocess.run([str(part) for part in argv], env={**os.environ, "ADIT_CONFORMANCE_TOKEN": token}, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr[-2000:]
    summary = json.loads(report.read_text())["summary"]
    assert summary["failed"] == 0
    return summary

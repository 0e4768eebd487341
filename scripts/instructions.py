#!/usr/bin/env python3
"""Compares counted instructions with those that were committed: instructions.py compare|update FILE < gungraun's JSON lines

A count may differ by 2 %. Counts of another compiler, C library, valgrind or machine are not comparable: that is said, and is
no failure.
"""

import json
import platform
import subprocess
import sys

TOLERANCE = 0.02


def environment():
    """Returns what counts depend on beside the code."""
    run = lambda *command: subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[0]
    wide = [flag for flag in ("avx2", "avx512f") if flag in open("/proc/cpuinfo").read()]
    return {
        "rustc": run("rustc", "--version"),
        "valgrind": run("valgrind", "--version"),
        "libc": " ".join(platform.libc_ver()),
        "machine": " ".join([platform.machine(), *wide]),
    }


def counted(lines):
    """Returns the instructions of each benchmark."""
    counts = {}
    for line in lines:
        if not line.startswith("{"):
            continue
        summary = json.loads(line)
        name = f"{summary['function_name']}/{summary['id']}"
        counts[name] = instructions(summary)
    return dict(sorted(counts.items()))


def instructions(node):
    """Returns the instructions of this run: the first count of that kind in a summary."""
    if isinstance(node, dict) and "Ir" in node:
        return int(node["Ir"]["values"]["new"])
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return next((count for count in map(instructions, children) if count is not None), None)


def main():
    action, path = sys.argv[1:]
    counts, here = counted(sys.stdin), environment()
    if not counts:
        sys.exit("nothing was counted")
    if action == "update":
        with open(path, "w") as file:
            json.dump({"environment": here, "instructions": counts}, file, indent=2)
            file.write("\n")
        return
    committed = json.load(open(path))
    if committed["environment"] != here:
        print(f"not compared: counted with {here}, committed with {committed['environment']}")
        return
    expected, failed = committed["instructions"], False
    for name in sorted(expected.keys() | counts.keys()):
        before, now = expected.get(name), counts.get(name)
        if before is None or now is None:
            print(f"{name:32} {before or 'not committed':>14} {now or 'not counted':>14}")
            failed = True
            continue
        change = now / before - 1
        far = abs(change) > TOLERANCE
        failed |= far
        print(f"{name:32} {before:14,} {now:14,} {change:+8.2%}{'  TOO FAR' if far else ''}")
    if failed:
        sys.exit("counts differ: make bench-instructions-update, and say why in the commit")


main()

#!/usr/bin/env python3
"""Compares counted instructions with those that were committed: instructions.py compare|update FILE PROGRAM

A count may differ by 2 %. Counts of another compiler, C library, valgrind or machine are not comparable: that is said, and is
no failure.
"""

import concurrent.futures
import json
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile

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


def counted(program):
    """Returns the instructions of each benchmark of the program."""
    names = subprocess.run([program], capture_output=True, text=True, check=True).stdout.split()
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(sorted(names), pool.map(lambda name: count(program, name), sorted(names))))


def count(program, name):
    """Returns the instructions that valgrind counts while the program is in `measured`."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "counts")
        tool = ["valgrind", "-q", "--tool=callgrind", "--toggle-collect=*bench_instructions::measured*"]
        subprocess.run([*tool, f"--callgrind-out-file={file}", program, name], check=True)
        return int(re.search(r"^summary: (\d+)$", file.read_text(), re.MULTILINE)[1])


def main():
    action, path, program = sys.argv[1:]
    counts, here = counted(program), environment()
    if not counts or not all(counts.values()):
        sys.exit(f"nothing was counted: {counts}")
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

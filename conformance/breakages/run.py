#!/usr/bin/env python3
"""Breaks the code on purpose, one clause at a time, and demands that what shows the clause fails.

    run.py                 all of breakages.json
    run.py 8               eight of them, others each day, none that takes a program to be built
    run.py RES-002 GO-008  those of these clauses

Each breakage is a text of one file and what to put in its place, in a copy of the tree under target/breakages. Where it
names no test, a scenario or vector of its clause has to fail; else that test.
"""

import datetime
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COPY = ROOT / "target" / "breakages"
HERE = ROOT / "conformance"
PATIENCE = 600  # seconds for one breakage, the first build too


def main(arguments):
    breakages = json.loads((HERE / "breakages" / "breakages.json").read_text())
    stale = [fault for fault in map(stale_fault, breakages) if fault]
    if stale:
        sys.exit("\n".join(stale))
    if arguments and arguments[0].isdigit():
        some = int(arguments[0])
        breakages = [one for one in breakages if one.get("test", "adit-core").startswith(("adit-core", "adit-conformance"))]
        first = datetime.date.today().toordinal() * some
        breakages = [breakages[(first + at) % len(breakages)] for at in range(min(some, len(breakages)))]
    elif arguments:
        breakages = [one for one in breakages if one["clause"] in arguments]
    copy_tree()
    shown_by = places()
    survivors = [told for told in (survives(one, shown_by) for one in breakages) if told]
    print(f"{len(breakages)} breakages, {len(breakages) - len(survivors)} caught")
    if survivors or not breakages:
        sys.exit("\n".join(survivors) or "there is no such breakage")


def stale_fault(one):
    """Returns what is wrong with a breakage that fits the code no longer."""
    found = (ROOT / one["file"]).read_text().count(one["old"])
    return None if found == 1 else f"{one['clause']}: its text stands {found} times in {one['file']}: {one['old']}"


def copy_tree():
    """Copies what git knows, and leaves alone what has not changed, so that little is built again."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    names = {name for name in listed.decode().split("\0") if (ROOT / name).is_file()}
    for name in names:
        write(COPY / name, (ROOT / name).read_bytes())
    for folder, folders, files in os.walk(COPY):
        for file in (pathlib.Path(folder, name) for name in files):
            if str(file.relative_to(COPY)) not in names:
                file.unlink()  # it has moved since the last time


def write(target, octets):
    if not target.is_file() or target.read_bytes() != octets:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(octets)


def places():
    """Returns the clauses of each scenario, vector and state, by what it shows."""
    found = {}
    for file in [*HERE.glob("scenarios/*.json"), *HERE.glob("vectors/*.json")]:
        content = json.loads(file.read_text())
        lists = content.values() if isinstance(content, dict) else [content]
        for case in (case for cases in lists for case in cases):
            clauses = case.get("clauses", [case.get("clause")])
            found.setdefault(case["what"], set()).update(clauses)
    for state in json.loads((HERE / "spec" / "states.json").read_text())["states"]:
        for verdict, kinds in state["verdicts"].items():
            for kind in kinds:
                found[f"{state['what']}: {kind} is {verdict}"] = {"FRAME-013", verdict}
    return found


def survives(one, shown_by):
    """Breaks the copy, tests it, mends it; returns what to tell when nothing failed that had to."""
    target = COPY / one["file"]
    whole = target.read_text()
    write(target, whole.replace(one["old"], one["new"]).encode())
    try:
        failure, output = test(one.get("test"))
    finally:
        write(target, whole.encode())
    label = f"{one['clause']} ({one['file']}: {one['new'].strip()[:60] or 'nothing'})"
    if re.search(r"^error(\[|: could not compile)", output, re.MULTILINE):
        return f"{label}: does not build\n{output[-1500:]}"
    lines = output.splitlines()
    failed = [what for what in shown_by if any(line.startswith(what) or f": {what}" in line for line in lines)]
    mine = [what for what in failed if one["clause"] in shown_by[what]]
    caught = failure != 0 and (bool(mine) or "test" in one)
    print(f"{'caught  ' if caught else 'SURVIVED'} {label}: {mine[0] if mine else one.get('test', failed[:3])}", flush=True)
    return None if caught else f"{label}: nothing that shows the clause fails, but {failed[:5]}"


def test(name):
    """Runs one test, `package binary function`, or all scenarios and vectors; returns how it ended and what it said."""
    if name:
        package, binary, function = name.split()
        features = ["--all-features"] if package == "adit-core" else []
        which = ["-p", package, *features, *(["--lib"] if binary == "lib" else ["--test", binary]), "--", function]
    else:
        # Of the whole workspace: with these features the dependencies are built already.
        which = ["--workspace", "--all-features", "--test", "scenarios", "--test", "vectors", "--no-fail-fast"]
        which += ["--", "--skip", "every_scenario_cut_anywhere"]  # long, and never the only one that fails
    environment = {**os.environ, "CARGO_TARGET_DIR": str(ROOT / "target"), "RUST_BACKTRACE": "0", "PROPTEST_CASES": "16"}
    command = ["cargo", "test", "-q", "--locked", *which]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=COPY, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    try:
        stdout, stderr = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return 1, "a test does not come to its end"
    return process.returncode, stdout + stderr


if __name__ == "__main__":
    main(sys.argv[1:])

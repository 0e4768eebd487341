#!/usr/bin/env python3
"""Changes the core in the small ways that cargo-mutants lists, and tells which changes no test notices.

To build the core and its tests takes a hundred times as long as to run the tests that notice a change. So they are built
once, in a copy under target/mutants, with every change behind a switch: `a < b` becomes
`(if on(7) { a <= b } else { a < b })`, and ADIT_MUTANT=7 turns it on. A function stops being `const` where the compiler lets
it. A change that does not build is found by what the compiler says of it, and taken out. The first failure ends a run.

Results are in target/mutants/results.jsonl, and a campaign goes on where it was stopped. Its order is random, and the same
each time, so that what was run when it was stopped is a fair sample. What is missed has to be listed in core/mutants.md, with a
reason.
"""

import argparse
import collections
import fnmatch
import functools
import hashlib
import json
import math
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time

import tree_sitter
import tree_sitter_rust

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORK = ROOT / "target" / "mutants"
COPY = WORK / "tree"
RESULTS = WORK / "results.jsonl"
REASONS = ROOT / "core" / "mutants.md"
MEMORY = 4 << 30  # octets that a program of tests may have

# All of the core but what tests it: the simulator, and what counts memory for it.
LIST = ["--package", "adit-core", "--exclude-re", "::held"]
LIST += ["--exclude", "core/src/testing/**", "--exclude", "core/src/session/measure.rs"]

# What is held by the runtimes' tests, over sockets and far slower.
APART = ("core/src/driver/", "core/src/tls")

# The core's tests, and the conformance suite in isolation, those first that are quick and find most.
CORE = ["lib", "rules", "hostile", "session", "resume", "heartbeat", "silence", "vectors", "scenarios", "distance", "simulation"]
CORE += ["laws", "memory", "allocations"]
SLOW = CORE[CORE.index("distance") :]
LIB = ["-p", "adit-core", "--all-features", "--lib"]
SUITE = ["-p", "adit-core", "-p", "adit-conformance", "--all-features", "--test", "vectors", "--test", "scenarios"]
CUTS = ["--skip", "every_scenario_cut_anywhere"]  # long, and finds no more

SWITCH = """
/// Which change is on, for the whole process.
#[doc(hidden)]
pub mod switch {
    extern crate std;
    static ON: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    fn look() -> u32 {
        let on = std::env::var("ADIT_MUTANT").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        let told = std::panic::take_hook();
        std::panic::set_hook(std::boxed::Box::new(move |panic| {
            told(panic);
            std::process::exit(101); // one failure is enough
        }));
        on
    }
    pub fn on(change: u32) -> bool {
        *ON.get_or_init(look) == change
    }
}
"""


def main():
    options = parse()
    mutants = listed()
    if options.list:
        print("\n".join(one["name"] for one in mutants))
        return
    if options.report:
        report(mutants)
        return
    copy_tree()
    switched = switch(mutants)
    programs = build([*LIB, "--tests"]) | build(SUITE)
    campaign(options, mutants, switched, [(name, programs[name]) for name in CORE if name in programs])
    report(mutants)


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", default="*")
    parser.add_argument("--minutes", type=float, default=math.inf)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--retry", action="store_true", help="run again what was missed")
    parser.add_argument("--quick", action="store_true", help="leave what the quick tests miss for another run")
    parser.add_argument("--driver", action="store_true", help="the driver and TLS, by the tests of the runtimes too")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", action="store_true")
    return parser.parse_args()


def listed():
    """Returns what cargo-mutants would change, each with a number, and a key that stays when it moves to another line."""
    command = ["cargo", "mutants", "--list", "--json", *LIST]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    seen = collections.Counter()
    for number, one in enumerate(found, 1):
        place = one["span"]["start"]["line"]
        line = (ROOT / one["file"]).read_text().splitlines()[place - 1].strip()
        one["number"], one["what"] = number, re.sub(r":\d+:\d+:", ":", one["name"], count=1)
        text = f"{one['what']}\n{line}"
        seen[text] += 1
        one["key"] = hashlib.sha256(f"{text}\n{seen[text]}".encode()).hexdigest()[:16]
    return found


def copy_tree():
    """Copies what git knows, and leaves alone what has not changed, so that little is built again."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout.decode().split("\0")
    for name in filter(lambda name: name and not name.startswith("core/src/"), names):
        if (ROOT / name).is_file():
            write(COPY / name, (ROOT / name).read_bytes())
    for path in (COPY / "core").rglob("*.rs"):
        if not (ROOT / path.relative_to(COPY)).is_file():
            path.unlink()  # it has moved since the last time


def write(target, octets):
    if not target.is_file() or target.read_bytes() != octets:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(octets)


# ---- switches ----------------------------------------------------------------------------------------------------------


class Source:
    """One file, and where its changes go."""

    def __init__(self, path, mutants):
        self.octets = path.read_bytes()
        self.lines = [0]
        for line in self.octets.split(b"\n"):
            self.lines.append(self.lines[-1] + len(line) + 1)
        parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
        self.tree = parser.parse(self.octets)
        self.changes = [(one["number"], *self.span(one["span"]), one) for one in mutants]

    def place(self, at):
        start = self.lines[at["line"] - 1]
        line = self.octets[start : self.lines[at["line"]]].decode()
        return start + len(line[: at["column"] - 1].encode())

    def span(self, span):
        return self.place(span["start"]), self.place(span["end"])

    def switched(self, dropped, constant):
        """Returns the text with every change behind its switch, but those dropped; and those that no switch fits."""
        bodies, places, unfit = {}, {}, set()
        for number, start, end, one in self.changes:
            if number in dropped:
                continue
            on, text = f"/*<{number}*/crate::switch::on({number})", one["replacement"]
            if one["genre"] == "FnValue" and one["function"]["return_type"].startswith("-> impl"):
                unfit.add(number)  # another type than the one that is returned
            elif one["genre"] == "FnValue":
                bodies.setdefault(start, []).append(f"if {on} {{ return {text}; }}/*{number}>*/ ")
            elif node := self.holder(HOLDERS[one["genre"]], start, end):
                places.setdefault((node.start_byte, node.end_byte), (node, []))[1].append((number, on, start, end, text))
            else:
                unfit.add(number)
        constants = re.finditer(rb"\bconst (?=(?:unsafe )?fn (\w+))", self.octets)
        strip = {found.start(): found.end() for found in constants if found[1].decode() not in constant}
        return self.render(bodies, places, strip).encode(), unfit

    def holder(self, kinds, start, end):
        """Returns the least expression, or arm of a match, that a change is in."""
        node = self.tree.root_node.descendant_for_byte_range(start, end - 1)
        while node is not None and node.type not in kinds:
            node = node.parent
        return node

    def render(self, bodies, places, strip):
        # What begins at a place, the outer first, and what ends there, the inner first.
        heads, tails = {}, {}
        for start, end in sorted(places, key=lambda place: place[0] - place[1]):
            node, changes = places[start, end]
            if node.type == "match_arm":
                pattern = node.child_by_field_name("pattern")
                guard = pattern.child_by_field_name("condition")
                always = "".join(f"{on}/*{number}>*/ || " for number, on, _, _, text in changes if text == "true")
                never = " && ".join(f"!{on}/*{number}>*/" for number, on, _, _, text in changes if text != "true")
                if guard is None:
                    heads.setdefault(pattern.end_byte, []).append(f" if {never}")
                else:
                    heads.setdefault(guard.start_byte, []).append(f"{never} && ({always}" if never else f"({always}")
                    tails.setdefault(pattern.end_byte, []).insert(0, ")")
            else:
                head = "("
                for number, on, first, last, text in changes:
                    plain = (self.octets[start:first] + text.encode() + self.octets[last:end]).decode()
                    head += f"if {on} {{ {plain} }}/*{number}>*/ else "
                heads.setdefault(start, []).append(head + "{ ")
                tails.setdefault(end, []).insert(0, " })")
        out, at = [], 0
        for place in sorted({*bodies, *heads, *tails, *strip}):
            out.append(self.octets[at:place].decode())
            out += tails.get(place, []) + bodies.get(place, []) + heads.get(place, [])
            at = strip.get(place, place)
        out.append(self.octets[at:].decode())
        return "".join(out)


HOLDERS = {
    "BinaryOperator": ("binary_expression", "compound_assignment_expr"),
    "UnaryOperator": ("unary_expression",),
    "MatchArm": ("match_arm",),
    "MatchArmGuard": ("match_arm",),
    "StructField": ("struct_expression",),
}


def switch(mutants):
    """Writes the copy with switches; returns for each number why it has none, by number."""
    by_file = {}
    for one in mutants:
        by_file.setdefault(one["file"], []).append(one)
    sources = {}
    for path in sorted((ROOT / "core" / "src").rglob("*.rs")):
        name = str(path.relative_to(ROOT))
        sources[name] = Source(path, by_file.get(name, []))
    state = WORK / "dropped.json"
    known = json.loads(state.read_text()) if state.is_file() else {"dropped": {}, "constant": []}
    dropped = {one["number"]: known["dropped"][one["key"]] for one in mutants if one["key"] in known["dropped"]}
    constant = set(known["constant"])
    keys = {one["number"]: one["key"] for one in mutants}
    while True:
        for name, source in sources.items():
            text, unfit = source.switched(dropped, constant)
            dropped.update({number: "no switch fits" for number in unfit})
            write(COPY / name, text + (SWITCH.encode() if name == "core/src/lib.rs" else b""))
        faults = check(LIB) or check(SUITE)
        why = {keys[number]: why for number, why in dropped.items()}
        state.write_text(json.dumps({"dropped": why, "constant": sorted(constant)}))
        if not faults:
            return dropped
        before = len(dropped), len(constant)
        for fault in faults:
            blame(fault, dropped, constant)
        print(f"{len(dropped)} changes have no switch or do not build", flush=True)
        if before == (len(dropped), len(constant)):
            sys.exit("\n".join(fault["rendered"] for fault in faults[:5]))


def check(which):
    command = ["cargo", "test", "--no-run", "--locked", "--message-format=json", *which]
    process = subprocess.run(command, cwd=COPY, env=environment(), capture_output=True, text=True)
    messages = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    told = [one["message"] for one in messages if one.get("reason") == "compiler-message"]
    faults = [one for one in told if one["level"] == "error" and one["spans"]]
    if process.returncode != 0 and not faults:
        sys.exit(process.stderr[-3000:])
    return faults


def blame(fault, dropped, constant):
    """Finds the change that does not build, or the function that has to stay constant."""
    code = (fault["code"] or {}).get("code", "syntax")
    for span in sorted(fault["spans"], key=lambda span: not span["is_primary"]):
        if not span["file_name"].startswith("core/src"):
            continue
        text = (COPY / span["file_name"]).read_bytes()[: span["byte_start"] + 1].decode(errors="ignore")
        open_ones = []
        for found in re.finditer(r"/\*<(\d+)\*/|/\*(\d+)>\*/", text):
            if found[1]:
                open_ones.append(int(found[1]))
            elif int(found[2]) in open_ones:
                open_ones.remove(int(found[2]))
        if open_ones:
            dropped[open_ones[-1]] = code
            return
    if code == "E0015":
        if found := re.search(r"non-const \S+(?: \S+)? `(?:[^`]*::)?(\w+)(?:::<[^`]*>)?`", fault["message"]):
            constant.add(found[1])


def environment(**more):
    # Dependencies stay as they are built for other tests.
    profile = {"CARGO_PROFILE_DEV_OPT_LEVEL": "1", "CARGO_PROFILE_DEV_DEBUG": "0"}
    return {**os.environ, **profile, "CARGO_TARGET_DIR": str(WORK / "target"), "RUST_BACKTRACE": "0", **more}


def build(which):
    """Builds the tests; returns the programs by name."""
    command = ["cargo", "test", "--no-run", "--locked", "--message-format=json", *which]
    process = subprocess.run(command, cwd=COPY, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    programs = {}
    for line in process.stdout.splitlines():
        one = json.loads(line) if line.startswith("{") else {}
        if one.get("executable") and one["profile"]["test"]:
            programs["lib" if "lib" in one["target"]["kind"] else one["target"]["name"]] = one["executable"]
    return programs


# ---- the campaign ------------------------------------------------------------------------------------------------------


def campaign(options, mutants, unswitched, programs):
    done = results()
    order = sorted(mutants, key=lambda one: one["key"])
    random.Random(options.seed).shuffle(order)
    order.sort(key=lambda one: one["key"] not in done)  # what is run again comes first
    until = time.monotonic() + options.minutes * 60
    again = {None, *(["pending"] if not options.quick else []), *(["missed", "pending"] if options.retry else [])}
    for one in order:
        wanted = one["file"].startswith(APART) == options.driver and fnmatch.fnmatch(one["file"], options.files)
        if not wanted or done.get(one["key"], {}).get("verdict") not in again:
            continue
        if time.monotonic() > until:
            break
        began = spent()
        if why := unswitched.get(one["number"]):
            verdict, by = "unswitched", why
        else:
            verdict, by = judge(one, programs, options.quick)
        record = {"key": one["key"], "name": one["name"], "verdict": verdict, "by": by, "seconds": round(spent() - began, 1)}
        with RESULTS.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if verdict in ("missed", "pending"):
            print(f"{verdict}: {one['name']}", flush=True)


def judge(one, programs, quick):
    """Runs the tests of the module that is changed, then all, until one fails."""
    module = pathlib.Path(one["file"]).relative_to("core/src").with_suffix("").parts[0]
    name, program = programs[0]
    if failure := run(name, program, one["number"], patience(name, program), f"{module}::"):
        return failure
    for name, program in programs:
        if quick and name in SLOW:
            return "pending", ""
        if failure := run(name, program, one["number"], patience(name, program)):
            return failure
    return "missed", ""


@functools.cache
def patience(name, program):
    """Returns how long a program may take, in seconds, after it has shown how long it takes without a change."""
    began = spent()
    if run(name, program, 0, 600) is not None:
        sys.exit(f"{name} fails without a change")
    return math.ceil(10 + 5 * (spent() - began))


def spent():
    """Returns the processor time of all programs that have run, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(name, program, number, patience, *which):
    """Runs one program of tests; returns how it failed, if it did.

    Patience is processor time, so that a busy machine makes no difference.
    """
    suite = name in SUITE
    home = COPY / ("conformance" if suite else "core")
    env = environment(ADIT_MUTANT=str(number), PROPTEST_MAX_SHRINK_ITERS="0", PROPTEST_RNG_SEED="1")
    log = WORK / "log.txt"

    def limit():
        os.nice(10)  # others work here too
        resource.setrlimit(resource.RLIMIT_CPU, (patience, patience))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    with log.open("w") as out:
        apart = {"stdout": out, "stderr": out, "preexec_fn": limit, "start_new_session": True}
        command = [program, "-q", "--nocapture", *which, *(CUTS if suite else [])]
        process = subprocess.Popen(command, cwd=home, env=env, **apart)
        try:
            code = process.wait(600)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = -signal.SIGXCPU
    kept = COPY / "core" / "proptest-regressions"  # a failure of one change is not to be tried on the next
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(ROOT / "core" / "proptest-regressions", kept)
    if code == 0:
        return None
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "timeout", name
    found = re.search(r"thread '([^']+)' .*panicked", log.read_text(errors="replace"))
    return "caught", f"{name}: {found[1] if found else code}"


def results():
    lines = RESULTS.read_text().splitlines() if RESULTS.is_file() else []
    return {one["key"]: one for one in map(json.loads, lines)}


def report(mutants):
    """Prints what came out; ends with a fault when something was missed for which there is no reason."""
    done = results()
    drawn = [(one, done[one["key"]]["verdict"]) for one in mutants if one["key"] in done]
    for part, apart in (("the core", False), ("driver and TLS", True)):
        count = collections.Counter(verdict for one, verdict in drawn if one["file"].startswith(APART) == apart)
        count["missed"] += count.pop("pending", 0)  # nothing has noticed it so far
        viable = count["caught"] + count["timeout"] + count["missed"]
        if viable:
            least, most = interval(viable - count["missed"], viable)
            among = sum(one["file"].startswith(APART) == apart for one in mutants)
            print(f"{part}: {sum(count.values())} of {among} were drawn: {dict(count)}; of {viable} that build")
            print(f"{100 * (viable - count['missed']) / viable:.1f} % are caught, at 95 % between {least:.1f} and {most:.1f} %")
    reasons = REASONS.read_text() if REASONS.is_file() else ""
    open_ones = [one["name"] for one, verdict in drawn if verdict in ("missed", "pending") and f"`{one['what']}`" not in reasons]
    if open_ones:
        sys.exit("\n".join(["missed, and no reason in core/mutants.md:", *open_ones]))


def interval(hits, of):
    """Wilson's interval, in per cent."""
    z, share = 1.96, hits / of
    middle, half = share + z * z / (2 * of), z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return 100 * (middle - half) / (1 + z * z / of), 100 * (middle + half) / (1 + z * z / of)


if __name__ == "__main__":
    main()

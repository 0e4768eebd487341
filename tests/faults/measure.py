"""Faults on real sockets: makes them, measures what comes of them, and says whether that is good enough.

Each case runs in network namespaces of its own, many side by side. Needs root.
Usage: measure.py [--only NAME,…] [--times N] [--minutes N] [--json FILE]
"""

import argparse
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import typing

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]
os.environ.setdefault("E2E_BIN_DIR", str(HERE.parents[1] / "target" / "release"))

import black_hole  # noqa: E402
import crowd  # noqa: E402
import freeze  # noqa: E402
import outage  # noqa: E402
import race  # noqa: E402
import slow_link  # noqa: E402
import soak  # noqa: E402
import wall_clock  # noqa: E402
from figures import HEAD, Figure  # noqa: E402

@dataclasses.dataclass
class Case:
    """`measure` gets how often and for how many minutes, of which one may mean nothing to it."""

    measure: typing.Callable
    times: int = 1
    minutes: float = 0


#: These take little of a processor and run side by side.
QUIET = {
    **{f"black-hole {way}": Case(lambda times, _, way=way: black_hole.measure(way, times), times=20) for way in black_hole.WAYS},
    **{f"outage {kind}": Case(lambda times, _, kind=kind: outage.measure(kind, times), times=50) for kind in outage.KINDS},
    **{f"slow-link {name}": Case(lambda _, minutes, name=name: slow_link.measure(name, minutes), minutes=30) for name in slow_link.LINKS},
    **{
        f"freeze {who} {seconds}": Case(lambda times, _, who=who, seconds=seconds: freeze.measure(who, seconds, times), times=times)
        for who in ("agent", "network")
        for seconds, times in ((5, 10), (14, 10), (30, 10), (600, 1))
    },
    **{f"wall-clock {who}": Case(lambda times, _, who=who: wall_clock.measure(who, times), times=2) for who in ("agent", "network")},
    "race": Case(lambda times, _: race.measure(times), times=200),
    "soak": Case(lambda _, minutes: soak.measure(minutes), minutes=60),
}
#: These take all of it, and run one after the other when the others are over.
BUSY = {
    "crowd idle": Case(lambda _, minutes: crowd.idle(60 * minutes), minutes=1),
    "crowd restart": Case(lambda times, _: crowd.comes_back(times), times=3),
    "crowd vanish": Case(lambda times, _: crowd.vanish(times), times=2),
}
CASES = QUIET | BUSY

ISOLATE = "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec \"$@\""


def run(name, arguments):
    """Runs one case in namespaces of its own; prints its figures and returns them."""
    argv = ["unshare", "--net", "--mount", "sh", "-c", ISOLATE, "sh", sys.executable, __file__, "--case", name]
    for option in ("times", "minutes"):
        if getattr(arguments, option) is not None:
            argv += [f"--{option}", str(getattr(arguments, option))]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    figures = []
    for line in done.stdout.splitlines():
        if line.startswith('{"fault"'):
            figures.append(Figure(**json.loads(line)))
        elif line.startswith("#"):
            print(line, file=sys.stderr, flush=True)
    if done.returncode != 0:
        print(f"{name}: {done.stdout[-4_000:]}", file=sys.stderr, flush=True)
        figures = [Figure(f"{name}: could not be measured", "", [], (0, 0))]
    for figure in figures:
        print(figure.row(), flush=True)
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="cases whose names contain one of these")
    parser.add_argument("--times", type=int, help="how often each fault is made")
    parser.add_argument("--minutes", type=float, help="how long what takes long is to take")
    parser.add_argument("--json", type=pathlib.Path, help="write the figures to a file too, every value of them")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        case = CASES[arguments.case]
        for figure in case.measure(arguments.times or case.times, arguments.minutes or case.minutes):
            print(figure.json(), flush=True)
        return
    if os.geteuid() != 0:
        raise SystemExit("network namespaces and TUN devices need root")
    wanted = [name for name in CASES if not arguments.only or any(part in name for part in arguments.only.split(","))]
    print(HEAD, flush=True)
    figures = []
    threads = [threading.Thread(target=lambda name=name: figures.extend(run(name, arguments))) for name in wanted if name in QUIET]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in wanted:
        if name in BUSY:
            figures += run(name, arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=2) + "\n")
    sys.exit(0 if figures and all(figure.met() for figure in figures) else 1)


if __name__ == "__main__":
    main()

"""A short slice of what `make faults` measures at length: each fault once, under heartbeats of a second."""

import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import black_hole  # noqa: E402
import race  # noqa: E402
import wall_clock  # noqa: E402

# Faults are timed, and both use the same namespaces: one at a time.
pytestmark = pytest.mark.xdist_group("faults")

INTERVAL, TOLERANCE = 1, 2


@pytest.mark.parametrize("way", black_hole.WAYS)
def test_a_black_hole_is_found_when_the_rule_says(way):
    by_agent, by_network = black_hole.measure(way, 1, agents=3, interval=INTERVAL, tolerance=TOLERANCE)
    for figure in (by_agent, by_network):
        assert len(figure.values) == 3
        # A machine that runs other tests as well looks late.
        assert TOLERANCE - black_hole.LATE <= min(figure.values) and max(figure.values) <= INTERVAL + TOLERANCE + 1, figure.values


def test_of_two_resumes_one_wins():
    for figure in race.measure(4):
        assert figure.met(), figure.row()


@pytest.mark.parametrize("who", ("agent", "network"))
def test_a_wall_clock_that_jumps_by_a_year_loses_nothing(who):
    heartbeat = {"heartbeat_interval": f"{INTERVAL}s", "heartbeat_tolerance": f"{TOLERANCE}s"}
    lost, _ = wall_clock.measure(who, 1, agents=1, hold=2 * (INTERVAL + TOLERANCE), jumps=(wall_clock.YEAR, 0), **heartbeat)
    assert lost.met(), lost.row()

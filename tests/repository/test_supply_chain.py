"""The check of dependencies is itself checked."""

import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_a_seeded_advisory_fails_the_check():
    run = subprocess.run([ROOT / "scripts/advisories.sh", "selftest"], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "a seeded advisory fails the check" in run.stdout

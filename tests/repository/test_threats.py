"""Holds docs/threats.md to the sources: each test that it names exists."""

import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
SKIPPED = {"target", ".git"}


def rows():
    for line in (ROOT / "docs" / "threats.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if re.fullmatch(r"V\d+", cells[0]):
            assert len(cells) == 4, f"a row has four cells: {line}"
            yield cells


def sources():
    for top in ROOT.iterdir():
        if top.is_dir() and top.name not in SKIPPED:
            yield from top.rglob("*.rs")
            yield from top.rglob("*.py")


def defined():
    names = set()
    for path in sources():
        names.update(re.findall(r"\b(?:fn|def)\s+(\w+)\s*[(<]", path.read_text()))
    return names


def test_every_test_named_in_the_threat_table_exists():
    names = defined()
    missing = []
    for row in rows():
        tests = re.findall(r"`([^`]+)`", row[3])
        if not tests:
            missing.append(f"{row[0]} names no test")
        missing.extend(f"{row[0]}: {test}" for test in tests if test not in names)
    assert missing == []


def test_each_threat_has_one_row():
    classes = [row[0] for row in rows()]
    assert sorted(classes) == sorted(set(classes))

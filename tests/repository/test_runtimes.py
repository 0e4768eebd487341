"""Holds the runtime crates to being thin: what decides is in the core."""

import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
MOST = 600


def lines_of_code(crate):
    """Counts lines that are neither empty nor comment alone."""
    lines = (line.strip() for path in sorted((ROOT / crate / "src").rglob("*.rs")) for line in path.read_text().splitlines())
    return sum(1 for line in lines if line and not line.startswith("//"))


def test_no_runtime_crate_is_over_six_hundred_lines_of_code():
    crates = sorted(path.parent.name for path in ROOT.glob("runtime-*/Cargo.toml"))
    assert crates == ["runtime-smol", "runtime-tokio"]
    counts = {crate: lines_of_code(crate) for crate in crates}
    assert all(0 < count <= MOST for count in counts.values()), counts

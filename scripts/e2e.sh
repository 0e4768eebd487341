#!/usr/bin/env bash
# Builds the programs and runs the tests that are written in Python; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# As other steps build them, so that nothing is built twice.
cargo build -q --locked --workspace --all-features --bins --example sample_upstream --example sample_vendor
# Three at a time, also on two processors: most of a test is waiting. A short one: the path of a Unix socket has room for 107 octets. What failed stays there to be looked at.
base=$(mktemp -d /tmp/e2e.XXXX)
timeout --kill-after=30 1200 target/venv/bin/python -m pytest -q -p no:cacheprovider --basetemp "$base" --numprocesses 3 --dist loadgroup tests "$@"
rm -rf "$base"

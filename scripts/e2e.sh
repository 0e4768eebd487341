#!/usr/bin/env bash
# Builds the programs and runs the tests that are written in Python; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# As other steps build them, so that nothing is built twice.
cargo build -q --locked --workspace --all-features --bins --example sample_upstream --example sample_vendor
exec timeout --kill-after=30 1200 target/venv/bin/python -m pytest -q -p no:cacheprovider --numprocesses 2 --dist loadgroup tests "$@"

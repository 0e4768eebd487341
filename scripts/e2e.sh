#!/usr/bin/env bash
# Builds the programs and runs the tests that are written in Python; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
# With the features that other steps build them with, so that no dependency is built twice.
cargo build -q --release --locked -p adit-network -p adit -p adit-benches --bin adit-network --bin adit --example sample_upstream
cargo build -q --locked --workspace --all-features --bin adit-conformance
exec timeout --kill-after=30 1200 target/venv/bin/python -m pytest -q -p no:cacheprovider tests "$@"

#!/usr/bin/env bash
# Builds the programs and runs the tests that are written in Python; arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p adit-network -p adit
cargo build -q --release --locked -p adit --example sample_upstream
cargo build -q --locked -p adit-conformance --features program --bin adit-conformance
exec timeout --kill-after=30 1200 target/venv/bin/python -m pytest -q -p no:cacheprovider tests "$@"

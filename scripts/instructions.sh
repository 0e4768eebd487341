#!/usr/bin/env bash
# Counts instructions and compares them with those that were committed, or commits anew: instructions.sh compare|update
set -euo pipefail
cd "$(dirname "$0")/.."
export GUNGRAUN_RUNNER="$PWD/target/tools/bin/gungraun-runner"
counts=target/instructions.json
# The packages of the end-to-end tests too, so that dependencies are built once for both.
cargo bench -q --locked -p adit-network -p adit -p adit-benches --bench instructions -- --output-format=json >"$counts"
python3 scripts/instructions.py "${1:-compare}" benches/instructions.json <"$counts"

#!/usr/bin/env bash
# Counts instructions and compares them with those that were committed, or commits anew: instructions.sh compare|update
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build -q --release --locked -p adit-benches --no-default-features --bin bench-instructions
python3 scripts/instructions.py "${1:-compare}" benches/instructions.json target/release/bench-instructions

#!/usr/bin/env bash
# Runs the driver's tests under a scheduler that tries interleavings: SCHEDULES (100) of each kind for each test.
set -euo pipefail
cd "$(dirname "$0")/../core/shuttle"

CARGO_TARGET_DIR="$PWD/../../target/shuttle" cargo test -q --locked

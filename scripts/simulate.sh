#!/usr/bin/env bash
# Runs simulated worlds of agents and nodes, on every core: simulate.sh [storm]
#
# SEEDS (20,000) and FROM (0) say which; SEED=N runs one again, TRACE=1 tells all that happens in it. A storm has AGENTS that find
# nobody for AWAY seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build -q --locked --profile simulate -p adit-core --features testing,std --example simulate
if [ "${1:-}" = storm ]; then
  exec target/simulate/examples/simulate --storm "${AGENTS:-100000}" --away "${AWAY:-5}"
fi
if [ -n "${SEED:-}" ]; then
  exec target/simulate/examples/simulate --seed "$SEED" ${TRACE:+--trace}
fi
exec target/simulate/examples/simulate --seeds "${SEEDS:-20000}" --from "${FROM:-0}"

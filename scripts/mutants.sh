#!/usr/bin/env bash
# Changes the core in small ways and lists the changes that no test notices: mutants.sh [mutants.py's arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH"
exec target/venv-mutants/bin/python scripts/mutants.py "$@"

#!/usr/bin/env bash
# Everything that must hold before a change lands. CI runs this and nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-never}
# A test that fails is run once more. One that passes then is named as flaky at the end: a bug to mend, which stops nobody else.
export NEXTEST_RETRIES=${NEXTEST_RETRIES:-1}

core_alone() {
  cargo check -q -p adit-core --no-default-features
  tests -p adit-core --no-default-features --lib
}
allocations() {
  cargo build -q --locked --workspace --all-features --bin bench-allocations
  target/debug/bench-allocations --check
}
docs() {
  local package
  for package in $(packages); do
    RUSTDOCFLAGS="-D warnings" cargo doc -q --no-deps -p "$package" --all-features
  done
}

tools() {
  scripts/install-tools.sh test && scripts/install-tools.sh fuzz
}
installed() {
  wait "$1" || { tail -40 target/tools.log >&2; return 1; }
}

# Most of an installation is waiting: what needs nothing goes on beside it.
mkdir -p target
tools >target/tools.log 2>&1 &
installing=$!
scripts/lint.sh code
step "tools, begun with the lints" installed $installing
scripts/lint.sh supply
step "core without features" core_alone
step "unit and property tests" tests --workspace --exclude adit-conformance --all-features
step "simulated worlds" env SEEDS=5000 scripts/simulate.sh
step "simulated storm" scripts/simulate.sh storm
step "interleavings of the driver" scripts/shuttle.sh
step conformance tests -p adit-conformance --all-features
step "clauses broken on purpose" conformance/breakages/run.py 10
step "memory at rest and at work" allocations
step "instructions counted" scripts/instructions.sh
step "documentation tests" cargo test -q --doc --workspace --all-features
step documentation docs
# Level 1 builds in three quarters of the time.
step "each fuzzer for 5 s" env CARGO_PROFILE_RELEASE_OPT_LEVEL=1 scripts/fuzz.sh all 5
step "end-to-end tests" scripts/e2e.sh --reruns "$NEXTEST_RETRIES" -rR
printf '\nall passed in %d s\n' "$SECONDS"

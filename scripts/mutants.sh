#!/usr/bin/env bash
# Changes the core in many small ways, one at a time, and runs its tests; lists the changes that no test notices.
#
# FILES is a glob of sources (all of the core but its testing); SHARD=k/n takes a part.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH"

arguments=(--package adit-core --output target/mutants --no-shuffle --minimum-test-timeout 120)
arguments+=(--exclude 'core/src/testing/**' --exclude 'core/src/driver/**' --exclude 'core/src/tls/**' --exclude 'core/src/tls.rs')
[ -z "${FILES:-}" ] || arguments+=(--file "$FILES")
[ -z "${SHARD:-}" ] || arguments+=(--shard "$SHARD")
exec cargo mutants "${arguments[@]}" --no-default-features --features testing -- --lib --tests

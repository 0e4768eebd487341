#!/usr/bin/env bash
# Changes the core in many small ways, one at a time, and runs its tests; lists the changes that no test notices.
#
# FILES is a glob of sources (all of the core but its testing, and the driver and TLS, which the runtimes' tests hold); SHARD=k/n
# takes a part. Each change takes some 15 s.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH"

arguments=(--package adit-core --output target/mutants --no-shuffle --minimum-test-timeout 120)
arguments+=(--exclude 'core/src/testing/**' --exclude 'core/src/driver/**' --exclude 'core/src/tls/**' --exclude 'core/src/tls.rs')
arguments+=(--exclude 'core/src/session/measure.rs' --exclude-re '::held')
[ -z "${FILES:-}" ] || arguments+=(--file "$FILES")
[ -z "${SHARD:-}" ] || arguments+=(--shard "$SHARD")
exec cargo mutants "${arguments[@]}" --all-features -- --lib --tests

#!/usr/bin/env bash
# Format, lints of each package by itself, licences and advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

step format cargo fmt --all --check
for package in $(packages); do
  step "lint $package" cargo clippy -q -p "$package" --all-targets --all-features -- -D warnings
done
step "core without features" cargo check -q -p adit-core --no-default-features
step "every combination of features" scripts/features.sh
step "licences, bans, advisories" scripts/advisories.sh check


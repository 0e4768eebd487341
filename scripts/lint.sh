#!/usr/bin/env bash
# Format, lints of each package by itself, licences and advisories.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# Every file is there that the manifests name, and nothing is needed that a registry could not give.
package() {
  local name
  for name in $(published); do
    cargo package -q --no-verify --allow-dirty --exclude-lockfile -p "$name" 2>/dev/null || cargo package --no-verify --allow-dirty --exclude-lockfile -p "$name"
  done
}

step format cargo fmt --all --check
for package in $(packages); do
  step "lint $package" cargo clippy -q -p "$package" --all-targets --all-features -- -D warnings
done
step "core without features" cargo check -q -p adit-core --no-default-features
step "every combination of features" scripts/features.sh
step "packages as they would be published" package
step "licences, bans, advisories" scripts/advisories.sh check


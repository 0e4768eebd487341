#!/usr/bin/env bash
# Format, lints of each package by itself, licences and advisories: lint.sh [code|supply]
#
# code is what needs nothing installed, supply is licences and advisories; both without a word.
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

if [ "${1:-}" = supply ]; then
  step "licences, bans, advisories" scripts/advisories.sh check
  exit
fi
step format cargo fmt --all --check
for package in $(packages); do
  step "lint $package" cargo clippy -q -p "$package" --all-targets --all-features -- -D warnings
done
step "core without features" cargo check -q -p adit-core --no-default-features
step "every combination of features" scripts/features.sh
step "packages as they would be published" package
[ "${1:-}" = code ] || step "licences, bans, advisories" scripts/advisories.sh check

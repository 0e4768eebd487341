#!/usr/bin/env bash
# Builds one file a program that needs nothing beside it: dist.sh adit|adit-network …
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh
for program in "$@"; do
  profile=(--config packaging/profile.toml)
  [ ! -e "packaging/profile-$program.toml" ] || profile+=(--config "packaging/profile-$program.toml")
  # Relocations of a static program that lies anywhere in memory take a bit each, not 24 octets.
  cargo rustc -q --locked "${profile[@]}" --profile dist --target "$target" -p "$program" --bin "$program" -- -C link-arg=-Wl,-z,pack-relative-relocs
  packaging/static.sh "target/$target/dist/$program"
done

#!/usr/bin/env bash
# Builds one file a program that needs nothing beside it: dist.sh adit|adit-network …
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh
for program in "$@"; do
  cargo build -q --locked --config packaging/profile.toml --profile dist --target "$target" -p "$program" --bin "$program"
  packaging/static.sh "target/$target/dist/$program"
done

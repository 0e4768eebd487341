#!/usr/bin/env bash
# Checks every combination of features of the crates that others build on.
set -euo pipefail
cd "$(dirname "$0")/.."

# Prints every subset of its arguments, one a line, joined by commas; the first is empty.
subsets() {
  local mask index chosen
  for ((mask = 0; mask < 1 << $#; mask++)); do
    chosen=
    for ((index = 0; index < $#; index++)); do
      ((mask >> index & 1)) && chosen+=",${*:index+1:1}"
    done
    printf '%s\n' "${chosen#,}"
  done
}

# Names the features of a package, one a line.
features() {
  cargo metadata --no-deps --format-version 1 --locked |
    python3 -c 'import json, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == sys.argv[1]:
        print(*(name for name in package["features"] if name != "default"), sep="\n")' "$1"
}

for package in adit-core adit-runtime adit-tokio adit-smol; do
  mapfile -t names < <(features "$package" | grep .)
  count=0
  while read -r combination; do
    cargo clippy -q --locked -p "$package" --no-default-features --features "$combination" -- -D warnings
    count=$((count + 1))
  done < <(subsets "${names[@]}")
  echo "$package: $count combinations of features"
done

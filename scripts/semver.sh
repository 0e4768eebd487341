#!/usr/bin/env bash
# Compares the public API of the crates that others build on with what it was at another commit: semver.sh [REVISION]
#
# What a version of the form 0.x.y may not change within x fails; without a revision it is that of HEAD.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
export PATH="$PWD/target/tools/bin:$PATH"
revision=${1:-HEAD}

selection=()
for package in $(published); do selection+=(--package "$package"); done
exec cargo semver-checks --baseline-rev "$revision" --all-features "${selection[@]}"

#!/usr/bin/env bash
# Checks licences, bans, sources and advisories of everything in Cargo.lock, and all but licences of what the fuzzers add in theirs:
# nothing of that is shipped.
#
# ADVISORY_DB=DIR  takes the advisories from that folder (it holds crates/NAME/RUSTSEC-*.md) and fetches nothing.
# selftest         proves that a known advisory fails the check, with the one seeded in tests/advisory.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/target/tools/bin:$PATH"

everything() {
  cargo deny --color never check advisories bans licenses sources
  cargo deny --color never --config deny.toml --manifest-path fuzz/targets/Cargo.toml check -A unused-wrapper advisories bans sources
}

# The checker takes advisories from a git repository only, so that a folder becomes one and stands in for the public address.
check_offline() {
  local work=$1 db=$2
  shift 2
  rm -rf "$work"
  mkdir -p "$work/source"
  cp -r "$db/crates" "$work/source/"
  chmod -R u+w "$work/source"
  git -C "$work/source" init -q -b main
  git -C "$work/source" add -A
  git -C "$work/source" -c user.name=adit -c user.email=adit@localhost -c commit.gpgsign=false commit -q -m advisories
  export ADVISORY_CHECKOUT="$work/checkout" \
    GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.file://$work/source.insteadOf" \
    GIT_CONFIG_VALUE_0="https://github.com/RustSec/advisory-db"
  "$@"
}

case ${1:-check} in
  check)
    if [ -n "${ADVISORY_DB:-}" ]; then
      db=$(cd "$ADVISORY_DB" && pwd)
      check_offline "$PWD/target/advisories-offline" "$db" everything
    else
      everything
    fi
    ;;
  selftest)
    if out=$(check_offline "$PWD/target/advisories-selftest" "$PWD/tests/advisory" cargo deny --color never check advisories 2>&1); then
      echo "a seeded advisory passed the check" >&2
      exit 1
    fi
    case $out in
      *RUSTSEC-2000-0001*) echo "a seeded advisory fails the check: ok" ;;
      *)
        printf '%s\n' "$out" "the check failed, but not on the seeded advisory" >&2
        exit 1
        ;;
    esac
    ;;
  *)
    echo "usage: $0 [check|selftest]" >&2
    exit 2
    ;;
esac

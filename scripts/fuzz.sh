#!/usr/bin/env bash
# Fuzzes: fuzz.sh [TARGET|all] [SECONDS]
#
# fuzz.sh minimise [TARGET|all]  takes what was found into fuzz/corpus.
# fuzz.sh coverage               tells what the corpus reaches of core (with llvm-tools of rustup).
#
# What is found lies in target/fuzz/corpus, an input that breaks a law in fuzz/targets/artifacts.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/target/tools/bin:$PATH"

mode=run
case ${1:-} in
  minimise | coverage)
    mode=$1
    shift
    ;;
esac
target=${1:-all} seconds=${2:-20}
common=(--fuzz-dir fuzz/targets --target-dir target/fuzz --sanitizer none) # no unsafe code to watch; and any compiler will do
logs=target/fuzz/logs
mkdir -p $logs

targets() {
  [ "$target" = all ] || { echo "$target"; return; }
  cargo fuzz list --fuzz-dir fuzz/targets
}

# fuzz NAME OPTION…: one run; new inputs go to the first directory.
fuzz() {
  local name=$1 found=target/fuzz/corpus/$1
  shift
  mkdir -p "$found" "fuzz/corpus/$name" "fuzz/regressions/$name"
  cargo fuzz run "${common[@]}" "${jobs[@]}" "$name" "$found" "fuzz/corpus/$name" "fuzz/regressions/$name" -- \
    -max_total_time="$seconds" -max_len=4096 -timeout=20 -print_final_stats=1 "$@" >"$logs/$name" 2>&1
}

# Says what came of a run: executions, edges, new inputs.
report() {
  local edges executions new
  edges=$(grep -ao 'cov: [0-9]*' "$logs/$1" | tail -1 | cut -d' ' -f2 || true)
  executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$logs/$1")
  new=$(sed -n 's/^stat::new_units_added: *//p' "$logs/$1")
  # A run of several processes tells as it goes: #EXECUTIONS: cov: EDGES …
  [ -n "$executions" ] || executions=$(grep -ao '^#[0-9]*: cov' "$logs/$1" | tail -1 | tr -dc 0-9)
  printf '%-16s %12s executions %7s edges %6s new inputs\n' "$1" "${executions:-?}" "${edges:-?}" "${new:--}"
}

failed() {
  echo "$1: a law is broken; see $logs/$1. The end of it:" >&2
  tail -40 "$logs/$1" >&2
  echo "Keep the input as a regression: cp fuzz/targets/artifacts/$1/INPUT fuzz/regressions/$1/NAME" >&2
}

# The smallest set of inputs that reaches what all found inputs reach.
minimise() {
  local name=$1 into=target/fuzz/minimised/$1
  rm -rf "$into"
  mkdir -p "$into" "target/fuzz/corpus/$name"
  cargo fuzz run "${common[@]}" "$name" "$into" "fuzz/corpus/$name" "target/fuzz/corpus/$name" -- \
    -set_cover_merge=1 -use_counters=0 -max_len=4096 >"$logs/$name.minimise" 2>&1 || { tail -20 "$logs/$name.minimise" >&2; exit 1; }
  rm -rf "fuzz/corpus/$name"
  cp -r "$into" "fuzz/corpus/$name"
  printf '%-16s %5d inputs, %s octets\n' "$name" "$(find "$into" -type f | wc -l)" \
    "$(find "$into" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }')"
}

# Which regions of core the corpus and the regressions reach, and which lines they do not.
coverage() {
  local into=$PWD/target/fuzz/coverage tools tests
  tools=$(rustc --print sysroot)/lib/rustlib/$(rustc -vV | sed -n 's/^host: //p')/bin
  [ -x "$tools/llvm-cov" ] || rustup component add llvm-tools
  rm -f "$into"/*.profraw
  export RUSTFLAGS=-Cinstrument-coverage LLVM_PROFILE_FILE=$into/%p-%m.profraw
  tests=$(cargo test -q -p adit-fuzz --test replay --target-dir "$into" --no-run --message-format json |
    grep -o '"executable":"[^"]*/replay-[^"]*"' | cut -d'"' -f4)
  (cd fuzz && "$tests" -q >/dev/null)
  "$tools/llvm-profdata" merge -sparse "$into"/*.profraw -o "$into/merged.profdata"
  local elsewhere='(core/src/testing/|fuzz/(src|tests)/|/registry/|/rustc/|/rustlib/)'
  "$tools/llvm-cov" report "$tests" -instr-profile "$into/merged.profdata" -ignore-filename-regex "$elsewhere" \
    -show-branch-summary=false -show-mcdc-summary=false
  "$tools/llvm-cov" show "$tests" -instr-profile "$into/merged.profdata" -ignore-filename-regex "$elsewhere" \
    -show-instantiations=false >"$into/lines"
  echo "line by line: $into/lines"
}

if [ $mode = coverage ]; then
  coverage
  exit
fi
cargo fuzz build "${common[@]}" ${CARGO_TERM_QUIET:+-q}
if [ $mode = minimise ]; then
  for name in $(targets); do minimise "$name"; done
  exit
fi

processors=$(nproc)
if [ "$target" != all ]; then
  jobs=()
  [ "$seconds" -le 60 ] || jobs=(--jobs "$processors")
  fuzz "$target" || { failed "$target"; exit 1; }
  report "$target"
  exit
fi

# Each target for itself, one more at a time than there are processors.
jobs=() running=() broken=0
for name in $(targets) ''; do
  while [ ${#running[@]} -gt "$processors" ] || { [ -z "$name" ] && [ ${#running[@]} -gt 0 ]; }; do
    first=${running[0]}
    if wait "${first%%:*}"; then report "${first#*:}"; else failed "${first#*:}" && broken=1; fi
    running=("${running[@]:1}")
  done
  [ -n "$name" ] || break
  fuzz "$name" &
  running+=("$!:$name")
done
exit $broken

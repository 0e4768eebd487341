#!/usr/bin/env bash
# Checks that the agent is Rust for Windows and macOS too, as far as can be told without their compilers of C: elsewhere.sh
#
# Whatever would be compiled as C, assembled or archived becomes an empty file, so that types are checked and nothing is linked.
set -euo pipefail
cd "$(dirname "$0")/.."
tool=$PWD/target/elsewhere/tool
mkdir -p "${tool%/*}"
cat >"$tool" <<'TOOL'
#!/bin/bash
case "$*" in *--version* | *-v) echo "clang version 17.0.0" && exit ;; esac
before=
for word in "$@"; do
  if [ "$before" = -o ]; then : >"$word"; fi
  case $word in *.a | *.lib) : >"$word" ;; esac
  before=$word
done
case " $* " in *" -E "*) echo clang ;; esac
TOOL
chmod +x "$tool"
export AWS_LC_SYS_CMAKE_BUILDER=0 AWS_LC_SYS_PREBUILT_NASM=1
for target in x86_64-pc-windows-gnu aarch64-apple-darwin; do
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup --quiet target add "$target"
  name=${target//-/_}
  env "CC_$name=$tool" "AR_$name=$tool" cargo check -q --locked --target "$target" -p adit --bin adit
  echo "$target: the agent is well typed"
done

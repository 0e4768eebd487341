#!/usr/bin/env bash
# Demands that a program is one file: no interpreter, no library to be found when it starts, nothing that could be stripped. static.sh FILE
set -euo pipefail
if readelf --program-headers --wide "$1" | grep -q INTERP; then
  echo "$1 asks for a dynamic linker" >&2
  exit 1
fi
if readelf --dynamic --wide "$1" | grep -q NEEDED; then
  echo "$1 needs shared libraries" >&2
  exit 1
fi
if readelf --section-headers --wide "$1" | grep -q SYMTAB; then
  echo "$1 has symbols that nothing needs" >&2
  exit 1
fi
echo "$1: static, $(stat -c %s "$1") octets"

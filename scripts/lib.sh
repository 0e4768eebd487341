# Sourced by the other scripts.

# Names the packages of the workspace, one a line.
packages() {
  cargo metadata --no-deps --format-version 1 --locked | grep -o '"name":"[^"]*","version":"[^"]*","id":' | cut -d'"' -f4
}

# Names the packages that others build on, one a line.
published() {
  printf '%s\n' adit-core adit-runtime adit-tokio adit-smol adit-tls adit-acme adit
}

# step NAME COMMAND…: runs it under a heading and says how long it took; ends the script when it fails.
step() {
  local name=$1 start=$SECONDS
  shift
  printf '\n== %s\n' "$name"
  if ! "$@"; then
    printf '== %s: FAILED after %d s\n' "$name" $((SECONDS - start)) >&2
    exit 1
  fi
  printf '== %s: ok, %d s\n' "$name" $((SECONDS - start))
}

# tests ARGUMENTS…: cargo nextest where it is installed, cargo test otherwise.
tests() {
  if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --no-fail-fast --status-level fail --final-status-level flaky --no-tests=pass "$@"
  else
    cargo test --no-fail-fast "$@"
  fi
}

#!/usr/bin/env bash
# The whole of Adit on one machine: a network, an upstream and an agent, each a process of its own, and one request through the
# tunnel. Needs Rust, a C compiler, make and bash. Runs until Ctrl-C.
#
#   UPSTREAM=http://127.0.0.1:3000   tunnels that service; without it a sample is started
#   JSON=1                           prints one JSON line on standard output when all is ready, everything else on standard error
#   HTTP_PORT, HTTPS_PORT, TCP_PORT, INGRESS_PORT, ADMIN_PORT   where to listen; 0 lets the system choose
set -euo pipefail
cd "$(dirname "$0")/.."

JSON=${JSON:-}
UPSTREAM=${UPSTREAM:-}
HTTP_PORT=${HTTP_PORT:-8080}
HTTPS_PORT=${HTTPS_PORT:-8443}
TCP_PORT=${TCP_PORT:-7000}
INGRESS_PORT=${INGRESS_PORT:-4443}
ADMIN_PORT=${ADMIN_PORT:-4040}
name=localhost
[ "$JSON" = 0 ] && JSON=

exec 3>&1
[ -n "$JSON" ] && exec 1>&2

main() {
  check_ports
  say "Building (the first time takes some minutes) …"
  # As the tests build them: in little time, and neither is built twice. What is deployed is built with --release.
  cargo build -q --locked --workspace --all-features --bin adit-network --bin adit --example sample_upstream
  mkdir -p target/run
  dir=$(mktemp -d "$PWD/target/run/XXXXXX")
  chmod 700 "$dir"
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
  trap stop EXIT

  [ -n "$UPSTREAM" ] || start_sample
  start_network
  start_agent
  try
  announce
  # Ends when one of the programs ends, which is a failure, or with a signal.
  wait -n || true
  say "One of the programs has ended; its log is in $dir:"
  tail -n 5 "$dir"/*.log
  exit 1
}

say() { printf '%s\n' "$*"; }

fail() {
  printf 'make run: %s\n' "$*" >&2
  exit 1
}

check_ports() {
  local variable port
  for variable in HTTP_PORT HTTPS_PORT TCP_PORT INGRESS_PORT ADMIN_PORT; do
    port=${!variable}
    [[ $port =~ ^[0-9]+$ ]] && [ "$port" -le 65535 ] || fail "$variable=$port is not a port"
    if [ "$port" != 0 ] && (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      fail "port $port is taken; choose another with $variable=… make run, or let the system choose with $variable=0"
    fi
  done
  # A tcp:// endpoint names its port: one that nobody listens on is chosen here.
  while [ "$TCP_PORT" = 0 ]; do
    port=$((20000 + RANDOM % 12000))
    (: <>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || TCP_PORT=$port
  done
}

# spawn NAME COMMAND…: starts a program with both outputs on a pipe that `expect` reads.
declare -A pids=() pipes=()
spawn() {
  local program=$1 fd
  shift
  mkfifo "$dir/$program.pipe"
  "$@" >"$dir/$program.pipe" 2>&1 3>&- &
  pids[$program]=$!
  exec {fd}<"$dir/$program.pipe"
  pipes[$program]=$fd
  rm "$dir/$program.pipe"
}

# expect NAME PATTERN: reads what the program says up to a line with the pattern, and leaves it in `line`.
expect() {
  local program=$1 pattern=$2
  while IFS= read -r -t 30 line <&"${pipes[$program]}"; do
    printf '%s\n' "$line" >>"$dir/$program.log"
    case $line in *$pattern*) return 0 ;; esac
  done
  printf 'make run: %s is not ready; it said:\n' "$program" >&2
  tail -n 20 "$dir/$program.log" >&2
  exit 1
}

# drain NAME: keeps writing the program's log.
drain() {
  cat <&"${pipes[$1]}" >>"$dir/$1.log" &
  drains+=($!)
}
drains=()

# value KEY: takes the text or number that the JSON object in `line` has under a key.
value() {
  local found
  found=$(grep -o -m 1 "\"$1\":[^,}]*" <<<"$line" | head -n 1) || fail "no $1 in: $line"
  found=${found#*:}
  found=${found#[\"[]}
  found=${found#\"}
  printf '%s' "${found%%\"*}"
}

start_sample() {
  spawn upstream target/debug/examples/sample_upstream 127.0.0.1:0
  expect upstream 127.0.0.1:
  UPSTREAM=http://$(grep -o '127\.0\.0\.1:[0-9]*' <<<"$line" | head -n 1)
  drain upstream
}

start_network() {
  cat >"$dir/network.yml" <<YAML
version: 1
private_ca: $dir/pki
database:
  path: $dir/network.db
ingress:
  listen: 127.0.0.1:$INGRESS_PORT
  names: [localhost, 127.0.0.1]
http:
  listen: 127.0.0.1:$HTTP_PORT
https:
  listen: 127.0.0.1:$HTTPS_PORT
tcp:
  address: 127.0.0.1
  ports: [$TCP_PORT]
admin:
  listen: 127.0.0.1:$ADMIN_PORT
log:
  format: json
YAML
  local network=target/debug/adit-network
  $network ca init --config "$dir/network.yml" >>"$dir/network.log" 2>&1
  line=$($network token create --config "$dir/network.yml" --account quickstart --output json \
    --allow "bind:$name" --allow "bind:tcp:$TCP_PORT")
  token=$(value token)
  spawn network $network serve --config "$dir/network.yml" --ready
  expect network '"ready"'
  ready=$line
  drain network
}

# port_of KEY: takes the port of the first address that the network listens on for KEY.
port_of() {
  line=$ready
  local address
  address=$(value "$1")
  printf '%s' "${address##*:}"
}

start_agent() {
  HTTP_PORT=$(port_of http)
  HTTPS_PORT=$(port_of https)
  INGRESS_PORT=$(port_of ingress)
  ADMIN_PORT=$(port_of admin)
  local authority=${UPSTREAM#*://}
  authority=${authority%%/*}
  (umask 077 && cat >"$dir/agent.yml") <<YAML
version: 1
agent:
  connect_url: localhost:$INGRESS_PORT
  connect_cas: $dir/pki/ca.pem
  authtoken: $token
  log_format: json
endpoints:
  - name: web
    url: http://$name
    upstream:
      url: $UPSTREAM
  - name: secure
    url: https://$name
    upstream:
      url: $UPSTREAM
  - name: raw
    url: tcp://:$TCP_PORT
    upstream:
      url: tcp://$authority
YAML
  spawn agent target/debug/adit start --all --config "$dir/agent.yml"
  expect agent 'endpoint bound'
  expect agent 'endpoint bound'
  expect agent 'endpoint bound'
  drain agent
}

try() {
  local answer
  exec 4<>"/dev/tcp/127.0.0.1/$HTTP_PORT"
  printf 'GET / HTTP/1.1\r\nHost: %s:%s\r\nConnection: close\r\n\r\n' "$name" "$HTTP_PORT" >&4
  answer=$(timeout 30 cat <&4 | tr -d '\r') || fail "no answer came through the tunnel; the logs are in $dir"
  exec 4<&- 4>&-
  say ""
  say "A request through the tunnel, GET http://$name:$HTTP_PORT/ :"
  head -n 12 <<<"$answer" | sed 's/^/    /'
}

announce() {
  if [ -n "$JSON" ]; then
    printf '{"public_url":"http://%s:%s","tcp_addr":"127.0.0.1:%s","connect_url":"localhost:%s","ca":"%s","admin_url":"http://127.0.0.1:%s"}\n' \
      "$name" "$HTTP_PORT" "$TCP_PORT" "$INGRESS_PORT" "$dir/pki/ca.pem" "$ADMIN_PORT" >&3
    return
  fi
  say ""
  say "  http     http://$name:$HTTP_PORT/"
  say "  https    https://$name:$HTTPS_PORT/   (curl --cacert $dir/pki/ca.pem)"
  say "  tcp      127.0.0.1:$TCP_PORT"
  say "  agents   localhost:$INGRESS_PORT"
  say "  admin    http://127.0.0.1:$ADMIN_PORT/metrics, /healthz, /readyz"
  say "  upstream $UPSTREAM"
  say "  files    $dir"
  say ""
  say "Ctrl-C ends it."
}

# The agent first: the network has then nothing to wait for. What was made for this run goes, unless something failed.
stop() {
  local status=$?
  trap '' INT TERM HUP
  local program pid
  for program in agent network upstream; do
    pid=${pids[$program]:-}
    [ -n "$pid" ] && kill "$pid" 2>/dev/null || continue
    timeout 10 tail --pid="$pid" -f /dev/null || kill -9 "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  [ ${#drains[@]} -eq 0 ] || kill "${drains[@]}" 2>/dev/null || true
  case $status in 130 | 143) rm -rf "$dir" ;; esac
}

main

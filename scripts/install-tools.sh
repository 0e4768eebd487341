#!/usr/bin/env bash
# Installs what a goal needs and the machine lacks: install-tools.sh lint|test|fuzz|mutants|semver|bench|instructions|dist|chart
#
# Debian packages by apt-get (as root, or by sudo where it asks no password); everything else under target/.
set -euo pipefail
cd "$(dirname "$0")/.."
goal=${1:-test}
deny_version=0.20.2
fuzz_version=0.13.2
mutants_version=27.1.0
semver_version=0.51.0
sbin=/usr/local/sbin:/usr/sbin:/sbin
export PATH="$PATH:$sbin"

have() { command -v "$1" >/dev/null 2>&1; }

debian_packages() {
  local missing=()
  have git || missing+=(git)
  if [ "$goal" = test ]; then
    have curl || missing+=(curl)
    have openssl || missing+=(openssl)
    have pgrep || missing+=(procps)
    have ncat || missing+=(ncat)
    have pebble && have pebble-challtestsrv || missing+=(pebble)
    have haproxy || missing+=(haproxy)
    have testssl || missing+=(testssl.sh)
    have ip || missing+=(iproute2)
    have chromium || missing+=(chromium)
    have certutil || missing+=(libnss3-tools)
    have minisign || missing+=(minisign)
    have strip || missing+=(binutils)
    have mandoc || missing+=(mandoc)
    have zsh || missing+=(zsh)
    have fish || missing+=(fish)
    have slowhttptest || missing+=(slowhttptest)
    have help2man || missing+=(help2man)
    have adduser || missing+=(adduser)
    have buildah || missing+=(buildah)
    have umoci || missing+=(umoci)
    have crun || missing+=(crun)
    have systemd-analyze && have systemctl || missing+=(systemd)
    have tinyproxy || missing+=(tinyproxy)
    have squid || missing+=(squid-openssl)
    have microsocks || missing+=(microsocks)
    have danted || missing+=(dante-server)
    have ssh || missing+=(openssh-client)
    have sshd || missing+=(openssh-server)
    have psql || missing+=(postgresql-client)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
  fi
  if [ "$goal" = dist ]; then
    have musl-gcc || missing+=(musl-tools)
    have readelf || missing+=(binutils)
    have lintian || missing+=(lintian)
    have buildah || missing+=(buildah)
    have umoci || missing+=(umoci)
    have crun || missing+=(crun)
    have help2man || missing+=(help2man)
    have python3 || missing+=(python3)
  fi
  if [ "$goal" = test ] || [ "$goal" = mutants ] || [ "$goal" = chart ]; then
    have python3 && python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3 python3-venv)
  fi
  if [ "$goal" = test ] || [ "$goal" = instructions ]; then
    have valgrind || missing+=(valgrind)
    have python3 || missing+=(python3)
  fi
  if [ "$goal" = bench ]; then
    have haproxy || missing+=(haproxy)
    have ip || missing+=(iproute2)
    have python3 || missing+=(python3)
    have openssl || missing+=(openssl)
    have nginx || missing+=(nginx)
    have caddy || missing+=(caddy)
    have h2load || missing+=(nghttp2-client)
  fi
  [ ${#missing[@]} -gt 0 ] || return 0
  local sudo=()
  if [ "$(id -u)" != 0 ]; then
    if have sudo && sudo -n true 2>/dev/null; then
      sudo=(sudo -n)
    else
      echo "these packages are missing; install them and run again: ${missing[*]}" >&2
      exit 1
    fi
  fi
  have apt-get || { echo "these programs are missing and apt-get is not here: ${missing[*]}" >&2; exit 1; }
  echo "installing: ${missing[*]}"
  "${sudo[@]}" apt-get update -qq
  "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# cargo_tool NAME VERSION: installs a program by cargo, built without optimisation: it runs for a second.
cargo_tool() {
  local name=$1 version=$2
  if cargo install --list --root target/tools | grep -qxF "$name v$version:"; then
    return 0
  fi
  CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
    CARGO_TARGET_DIR="$PWD/target/tools/build" \
    cargo install --locked --quiet --force --root target/tools "$name@$version"
  rm -rf target/tools/build
}

# rust_target: installs the library of Rust for static programs.
rust_target() {
  local target
  target=$(uname -m)-unknown-linux-musl
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target" ] || rustup --quiet target add "$target"
}

# python_packages FOLDER LIST: installs the packages of LIST, none that has to be built.
python_packages() {
  local venv=$1 wanted=$2
  if [ -x $venv/bin/python ] && cmp -s $wanted $venv/installed.txt; then
    return 0
  fi
  rm -rf $venv
  python3 -m venv $venv
  $venv/bin/pip install --quiet --no-deps --only-binary :all: -r $wanted
  cp $wanted $venv/installed.txt
}

case $goal in
  lint) debian_packages && cargo_tool cargo-deny $deny_version ;;
  test)
    debian_packages && cargo_tool cargo-deny $deny_version && python_packages target/venv tests/e2e/requirements.txt
    # Apart from the others: it wants other versions of what they need as well.
    python_packages target/venv-mitmproxy tests/e2e/mitmproxy.txt
    ;;
  fuzz) cargo_tool cargo-fuzz $fuzz_version ;;
  mutants) debian_packages && cargo_tool cargo-mutants $mutants_version && python_packages target/venv-mutants scripts/mutants.txt ;;
  semver) cargo_tool cargo-semver-checks $semver_version ;;
  bench) debian_packages ;;
  instructions) debian_packages ;;
  dist) debian_packages && rust_target ;;
  chart) debian_packages && python_packages target/venv-chart packaging/helm/requirements.txt ;;
  *) echo "usage: $0 lint|test|fuzz|mutants|semver|bench|instructions|dist|chart" >&2; exit 2 ;;
esac

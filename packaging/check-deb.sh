#!/usr/bin/env bash
# Holds packages to lintian, then installs, starts, removes and purges them in a throw-away copy of this system: check-deb.sh FILE …
#
# As root: the copy is an overlay in a mount namespace of its own, and dpkg is the real one. No systemd runs in it, so
# that the units are enabled and not started.
set -euo pipefail
cd "$(dirname "$0")/.."

inside() {
  local scratch
  scratch=$(mktemp -d)
  mount -t tmpfs none "$scratch"
  mkdir "$scratch"/{upper,work,root,packages}
  cp "$@" "$scratch/packages"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root"
  mkdir -p "$scratch/root/packages"
  mount --bind "$scratch/packages" "$scratch/root/packages"
  mount -t proc proc "$scratch/root/proc"
  mount --bind /dev "$scratch/root/dev"
  mount -t tmpfs none "$scratch/root/run"
  chroot "$scratch/root" /bin/sh -eu -c "$checks"
}

checks=$(cat <<'CHECKS'
export DEBIAN_FRONTEND=noninteractive
fail() { echo "failed: $*" >&2; exit 1; }
for file in /packages/*.deb; do
  name=$(dpkg-deb --field "$file" Package)
  [ ! -e "/usr/bin/$name" ] || dpkg --purge --force-all "$name" >/dev/null 2>&1 || true
  said=$(dpkg -i "$file" 2>&1) || fail "$said"
  case $said in *"is not started: there is no"*) ;; *) fail "not told why it is not started: $said" ;; esac
  "/usr/bin/$name" --version >/dev/null || fail "$name does not run"
  getent passwd "$name" >/dev/null || fail "no user $name"
  test -L "/etc/systemd/system/multi-user.target.wants/$name.service" || fail "$name is not enabled"
  systemd-analyze verify --man=no "/usr/lib/systemd/system/$name.service" || fail "unit of $name"
  mkdir -p "/var/lib/$name" && touch "/var/lib/$name/kept"
  test "$name" = adit && config=adit.yml || config=network.yml
  echo 'version: 1' >"/etc/adit/$config"
  dpkg -i "$file" >/dev/null 2>&1 || fail "again"
  dpkg --remove "$name" >/dev/null || fail "remove"
  test ! -e "/usr/bin/$name" && test -e "/etc/adit/$config" && test -e "/var/lib/$name/kept" || fail "removed too much or too little"
  dpkg --purge "$name" >/dev/null || fail "purge"
  test ! -e "/etc/adit/$config" && test ! -e "/var/lib/$name" || fail "purged too little"
  test ! -L "/etc/systemd/system/multi-user.target.wants/$name.service" || fail "still enabled"
  echo "$(basename "$file"): installed, ran, removed and purged"
done
CHECKS
)

if [ "${1:-}" = --inside ]; then
  shift
  inside "$@"
  exit
fi
[ -n "${NO_LINTIAN:-}" ] || lintian --fail-on error,warning "$@"
unshare --mount --propagation private "$0" --inside "$@"

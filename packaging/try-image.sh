#!/usr/bin/env bash
# Runs what an image holds as its Dockerfile says: from an empty root, as its user, nothing else there. try-image.sh adit|adit-network
#
# As root. Where docker does not answer, this is what can be said of an image without it.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh
package "$1"
context=$PWD/$out/image/$program
# The user and the command of this program's stage.
stage=$(sed -n "/^FROM scratch AS $program\$/,/^FROM/p" "$context/Dockerfile")
user=$(sed -n 's/^USER //p' <<<"$stage")
entry=$(sed -n 's/^ENTRYPOINT \["\(.*\)"\]$/\1/p' <<<"$stage")

inside() {
  mount -t tmpfs none /mnt
  cp -a "$context/rootfs/." /mnt
  # As COPY makes them: of root, but for the state.
  chown -R 0:0 /mnt
  mkdir -p "/mnt/var/lib/$program"
  chown "$user" "/mnt/var/lib/$program"
  mount -o remount,ro /mnt
  run() { chroot --userspec="$user" --groups= /mnt "$entry" "$@"; }
  run --version
  # The configuration is not there, and the program says so as it should.
  local code=0 said
  if [ "$program" = adit ]; then command=start flags=--all; else command=serve flags=; fi
  said=$(run $command $flags --config /etc/adit/none.yml 2>&1) || code=$?
  [ "$code" = 3 ] || { echo "exit code $code, not 3: $said" >&2; exit 1; }
}

if [ "${2:-}" = --inside ]; then
  inside
  exit
fi
unshare --mount --propagation private "$0" "$program" --inside
[ "$program" != adit ] || packaging/try-names.py "$binary"
echo "$program: runs from an empty root, read-only, as $user"

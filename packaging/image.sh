#!/usr/bin/env bash
# Puts together what an image of a program holds, and builds the image, a file that `docker load` and `podman load` take: image.sh adit|adit-network
#
# LIBRARIES="FILE …"  for a program that is not static, as the tests have it: what it loads.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh
package "$1"
context=$out/image/$program
rm -rf "$context"
umask 022
install -D -m 755 "$binary" "$context/rootfs/usr/bin/$program"
install -d -m 755 "$context/rootfs/etc/ssl/certs" "$context/rootfs/etc/adit"
install -d -m 700 "$context/state"
# For `connect_cas: host`, and for what the network asks of others.
install -m 644 /etc/ssl/certs/ca-certificates.crt "$context/rootfs/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/nonexistent:/nonexistent\nnonroot:x:65532:65532:nonroot:/nonexistent:/nonexistent\n' >"$context/rootfs/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$context/rootfs/etc/group"
install -m 644 packaging/Dockerfile "$context/Dockerfile"
for library in ${LIBRARIES:-}; do install -D "$library" "$context/rootfs$library"; done
if ! command -v buildah >/dev/null; then
  echo "no buildah is here: docker build --target $program --tag $program:$version $context"
  exit
fi
# Nothing runs while it is built, so that no daemon is needed.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
store=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs)
"${store[@]}" bud --quiet --isolation chroot --format docker --target "$program" --tag "$program:$version" "$context" >/dev/null
rm -f "$context.tar"
"${store[@]}" push --quiet "$program:$version" "docker-archive:$context.tar:$program:$version"
echo "$context.tar"

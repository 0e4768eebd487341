#!/usr/bin/env bash
# Puts together what an image of a program holds, and builds the image where docker answers: image.sh adit|adit-network
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
if command -v docker >/dev/null && docker version >/dev/null 2>&1; then
  docker build --quiet --target "$program" --tag "$program:$version" "$context"
else
  echo "no docker answers here: docker build --target $program --tag $program:$version $context"
fi

#!/usr/bin/env bash
# Loads an image and runs it as it says: from its root, read-only, as its user, without any right. try-image.sh adit|adit-network
#
# As root. The image is unpacked by umoci and run by crun, one of the runtimes that engines use.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh
package "$1"
image=$(realpath "$out/image/$program.tar")

inside() {
  work=$1
  # On a machine with both versions of control groups crun refuses to run, although it is asked to leave them alone.
  mount -t cgroup2 none /sys/fs/cgroup
  local store=(buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs) id code=0 said
  id=$("${store[@]}" pull --quiet "docker-archive:$image")
  "${store[@]}" push --quiet "$id" "oci:$work/layout:$program"
  umoci --log=error unpack --image "$work/layout:$program" "$work/bundle"
  run --version
  # The configuration is not there, and the program says so as it should.
  if [ "$program" = adit ]; then command="start --all"; else command=serve; fi
  said=$(run $command --config /etc/adit/none.yml 2>&1) || code=$?
  [ "$code" = 3 ] || { echo "exit code $code, not 3: $said" >&2; exit 1; }
}

# run ARGS: runs the entry point of the image with these arguments in the place of its own.
run() {
  python3 - "$work/bundle/config.json" "$@" <<'PY'
import json, sys

path, *arguments = sys.argv[1:]
spec = json.load(open(path))
process = spec["process"]
if process["user"] != {"uid": 65532, "gid": 65532} or not process["noNewPrivileges"]:
    sys.exit(f"the image runs as {process['user']}")
process.update(args=process["args"][:1] + arguments, terminal=False, capabilities={})
spec["root"]["readonly"] = True
spec["mounts"] = [mount for mount in spec["mounts"] if mount["destination"] != "/sys/fs/cgroup"]
spec["linux"].pop("resources", None)
json.dump(spec, open(path, "w"))
PY
  crun --root "$work/crun" --cgroup-manager=disabled run --bundle "$work/bundle" "try-$program-$$"
}

if [ "${2:-}" = --inside ]; then
  inside "$3"
  exit
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unshare --mount --propagation private packaging/try-image.sh "$program" --inside "$work"
[ "$program" != adit ] || [ -n "${NO_NAMES:-}" ] || packaging/try-names.py "$binary"
echo "$program: the image loads and runs from a root that is read-only, as 65532:65532, without rights"

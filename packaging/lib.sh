# What the scripts of this folder share.
# package PROGRAM: sets what belongs to adit or adit-network.
target=${TARGET:-$(uname -m)-unknown-linux-musl}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)
out=${OUT:-target/package}

package() {
  program=$1
  binary=${BINARY:-target/$target/dist/$program}
  case $program in
    adit) unit=adit.service user=adit config=/etc/adit/adit.yml configs="/etc/adit/adit.yml /etc/adit/token /etc/adit/policy.yml" ;;
    adit-network) unit=adit-network.service user=adit-network config=/etc/adit/network.yml configs=/etc/adit/network.yml ;;
    *) echo "adit or adit-network, not $program" >&2; exit 2 ;;
  esac
  [ -x "$binary" ] || { echo "$binary is not there: make dist" >&2; exit 1; }
}

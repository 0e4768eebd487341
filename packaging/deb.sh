#!/usr/bin/env bash
# Makes a Debian package of a program that `make dist` built: deb.sh adit|adit-network
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/lib.sh
package "$1"
# The same sources give the same package.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y Cargo.toml)}
case $target in
  x86_64-*) arch=amd64 ;;
  aarch64-*) arch=arm64 ;;
  *) echo "no name at Debian for $target" >&2; exit 1 ;;
esac
tree=$out/deb/$program
doc=$tree/usr/share/doc/$program
rm -rf "$tree"
umask 022

# filled FILE: prints it with what belongs to this package in its places.
filled() {
  sed -e "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@SIZE@|${size:-0}|; s|@USER@|$user|g; s|@UNIT@|$unit|g" \
    -e "s|@CONFIGS@|$configs|g; s|@CONFIG@|$config|g; s|@PACKAGE@|$program|g" "$1"
}
license_text() {
  sed 's/^$/./; s/^/ /' LICENSE-MIT
}
changes() {
  printf '%s (%s) unstable; urgency=medium\n\n  * See https://github.com/adit-tunnel/adit/blob/main/CHANGELOG.md\n\n -- Adit <adit@adit-tunnel.example>  %s\n' \
    "$program" "$version" "$(date -R -u -d "@$SOURCE_DATE_EPOCH")"
}

install -D -m 755 "$binary" "$tree/usr/bin/$program"
install -D -m 644 "packaging/systemd/$unit" "$tree/usr/lib/systemd/system/$unit"
install -d -m 755 "$tree/etc/adit" "$doc/examples" "$tree/DEBIAN" "$tree/usr/share/lintian/overrides"
case $program in
  adit) install -m 644 packaging/examples/adit.yml packaging/examples/policy.yml "$doc/examples" ;;
  adit-network) install -m 644 packaging/examples/network.yml "$doc/examples" ;;
esac
{ filled packaging/debian/copyright; license_text; } >"$doc/copyright"
changes | gzip -9n >"$doc/changelog.gz"
[ ! -e "$out/$program.cdx.json" ] || gzip -9nc "$out/$program.cdx.json" >"$doc/sbom.cdx.json.gz"
pages=$tree/usr/share/man/man1
install -d "$pages"
if [ "$program" = adit ]; then
  "$binary" man --out "$pages" >/dev/null
  find "$pages" -name '*.1' -exec gzip -9n {} +
  for shell in bash:bash-completion/completions/adit zsh:zsh/vendor-completions/_adit fish:fish/vendor_completions.d/adit.fish; do
    "$binary" completions "${shell%%:*}" | install -D -m 644 /dev/stdin "$tree/usr/share/${shell#*:}"
  done
else
  summary=$(sed -n 's/^Description: //p' "packaging/debian/$program/control")
  help2man --no-info --section 1 --name "$summary" "$tree/usr/bin/$program" | gzip -9n >"$pages/$program.1.gz"
fi
filled packaging/debian/overrides >"$tree/usr/share/lintian/overrides/$program"
size=$(du -k -s --apparent-size "$tree" | cut -f1)
filled "packaging/debian/$program/control" >"$tree/DEBIAN/control"
for script in postinst prerm postrm; do
  filled "packaging/debian/$script" >"$tree/DEBIAN/$script"
  chmod 755 "$tree/DEBIAN/$script"
done
(cd "$tree" && find usr etc -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
file=$out/${program}_${version}_$arch.deb
dpkg-deb --root-owner-group "-Z${COMPRESSION:-xz}" --build "$tree" "$file" >/dev/null
echo "$file"

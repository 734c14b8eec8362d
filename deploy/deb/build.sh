#!/bin/sh
# build.sh TREE VERSION OUTPUT: a Debian package of a staged tree.
set -eu
tree=$1 version=$2 output=$3
here=$(CDPATH='' cd -P -- "$(dirname -- "$0")" && pwd -P)
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
umask 022
chmod 755 "$root"
mkdir -p "$root/DEBIAN" "$root/usr/lib/nymph" "$root/usr/lib/systemd/system" "$root/usr/bin" "$root/usr/share/doc/nymph"
cp -R "$tree" "$root/usr/lib/nymph/package"
chmod -R u=rwX,go=rX "$root/usr"
cp "$tree/deploy/systemd/nymph.service" "$root/usr/lib/systemd/system/"
cp "$tree/LICENSE" "$root/usr/share/doc/nymph/copyright"
ln -s ../lib/nymph/current/bin/nymph "$root/usr/bin/nymph"
for script in postinst prerm postrm; do install -m 755 "$here/$script" "$root/DEBIAN/$script"; done
cat >"$root/DEBIAN/control" <<EOF
Package: nymph
Version: $version
Architecture: $(dpkg --print-architecture)
Maintainer: ${DEB_MAINTAINER:-nymph packagers <nymph@localhost>}
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Depends: libc6 (>= 2.28), mount
Recommends: containerd | containerd.io
Suggests: libfuse2, fuse3
Section: admin
Priority: optional
Description: lazily loaded container images and models
 Mounts container images and models before they are here, as a snapshotter of
 containerd or by hand. Each piece is fetched when it is first read, and checked
 against its digest before a byte of it is served.
EOF
(cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
dpkg-deb --root-owner-group -Z"${DEB_COMPRESSION:-gzip}" --build "$root" "$output" >/dev/null

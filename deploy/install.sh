#!/bin/sh
# Installs the tree that this script lies in (a tarball's, or one that `make install` has staged), or takes it away again.
# Versions stand beside each other, so that one can hand over to the next and take back what it cannot do:
#
#   PREFIX/lib/nymph/versions/BUILD/   the tree
#   PREFIX/lib/nymph/current           link to one of them
#   PREFIX/bin/nymph                   link into it
#   PREFIX/lib/systemd/system/         the unit
set -eu
usage() {
  echo "usage: ${0##*/} [--prefix DIRECTORY] [--destdir DIRECTORY] [--uninstall]" >&2
  exit 2
}

prefix=/usr/local
destdir=
uninstall=
while [ $# -gt 0 ]; do
  case $1 in
  --prefix) prefix=${2:?} && shift 2 ;;
  --destdir) destdir=${2:?} && shift 2 ;;
  --uninstall) uninstall=1 && shift ;;
  *) usage ;;
  esac
done
case $prefix in /*) ;; *) usage ;; esac
home=$destdir$prefix/lib/nymph
unit=$destdir$prefix/lib/systemd/system/nymph.service

if [ -n "$uninstall" ]; then
  if [ -z "$destdir" ] && [ -d /run/systemd/system ] && [ -e "$unit" ]; then
    systemctl disable --now nymph.service || echo "nymph: the service could not be stopped" >&2
  fi
  rm -rf "$home" "$unit"
  rm -f "$destdir$prefix/bin/nymph"
  echo "nymph: removed from $destdir$prefix; /etc/nymph and /var/lib/nymph are left"
  exit 0
fi

self=$(CDPATH='' cd -P -- "$(dirname -- "$0")/.." && pwd -P)
build=$(cat "$self/build-id") || {
  echo "nymph: $self is no built tree: run \`make install\`, or unpack a tarball of \`make dist\`" >&2
  exit 1
}
umask 022
tree=$home/versions/$build
mkdir -p "$home/versions" "$destdir$prefix/bin" "${unit%/*}"
if [ ! -d "$tree" ]; then
  rm -rf "$tree.new"
  cp -R "$self" "$tree.new"
  chmod -R u=rwX,go=rX "$tree.new"
  [ "$(id -u)" -ne 0 ] || chown -R 0:0 "$tree.new"
  mv "$tree.new" "$tree"
fi
ln -s "versions/$build" "$home/current.new"
mv -T "$home/current.new" "$home/current"
ln -sfn ../lib/nymph/current/bin/nymph "$destdir$prefix/bin/nymph"
sed "s|^ExecStart=/usr/bin/nymph|ExecStart=$prefix/bin/nymph|" "$self/deploy/systemd/nymph.service" >"$unit"
echo "nymph: installed $build in $destdir$prefix"
if [ -z "$destdir" ] && [ -d /run/systemd/system ]; then systemctl daemon-reload; fi

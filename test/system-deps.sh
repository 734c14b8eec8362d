#!/bin/sh
# Installs the real programs that tests talk to, where that is possible; says what is missing where it is not.
set -u
missing=
for pair in docker-registry:docker-registry skopeo:skopeo umoci:umoci fsck.erofs:erofs-utils mkfs.ext4:e2fsprogs curl:curl zstd:zstd fio:fio containerd:containerd runc:runc fusermount:fuse3 tmux:tmux systemd-analyze:systemd; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
ldconfig -p 2>/dev/null | grep -q 'libfuse\.so\.2 ' || missing="$missing libfuse2"
# Sets the clock of one process, for the soak.
ls /usr/lib/*/faketime/libfaketimeMT.so.1 >/dev/null 2>&1 || missing="$missing libfaketime"
# A real S3 server, built where there is a Go that can (1.24 or later).
versitygw=v1.8.0
built=node_modules/.cache/go
if command -v go >/dev/null 2>&1 && [ ! -x "$built/versitygw" ]; then
  echo "building versitygw $versitygw"
  mkdir -p "$built"
  GOBIN="$(pwd)/$built" timeout 600 go install "github.com/versity/versitygw/cmd/versitygw@$versitygw" >/dev/null 2>&1 ||
    echo "could not build versitygw; tests that need it are skipped" >&2
fi
[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "not installed:$missing; tests that need them are skipped" >&2
  exit 0
fi
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! { apt-get update && apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
  tail -n 5 "$log" >&2
  echo "could not install$missing; tests that need them are skipped" >&2
fi
rm -f "$log"

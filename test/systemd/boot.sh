#!/bin/sh
# boot.sh DIRECTORY: systemd as the first process of namespaces of its own, in a control group of its own, with the units
# in DIRECTORY/units. Files are this machine's, /run is empty. Ends with what has started it.
set -eu
directory=$1
if [ "${2:-}" = inside ]; then
  umount "$directory/group"
  umount -R /sys/fs/cgroup
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -t tmpfs run /run
  mount --bind "$directory/units" /etc/systemd/system
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test /lib/systemd/systemd --system \
    --unit=test.target --log-target=console --log-level=info --show-status=no
fi
# Namespaces of control groups begin where the process is.
mount --make-rprivate /
mount -t cgroup2 cgroup2 "$directory/group"
group=$directory/group/nymph-test-$$
mkdir "$group"
echo $$ >"$group/cgroup.procs"
# It cannot be removed as long as somebody is in it.
trap '' TERM INT
unshare --cgroup --pid --mount --fork --mount-proc --kill-child sh "$0" "$directory" inside &
echo $! >"$directory/unshare"
cat >/dev/null || true
kill -KILL $! 2>/dev/null || true
wait || true
echo $$ >"$directory/group/cgroup.procs"
n=0
while [ -d "$group" ] && [ $n -lt 100 ]; do
  find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
  n=$((n + 1))
done

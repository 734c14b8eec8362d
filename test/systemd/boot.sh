#!/bin/sh
# boot.sh DIRECTORY [own]: systemd as the first process of namespaces of its own, in a control group of its own, with the units
# in DIRECTORY/units. Files are this machine's; with `own`, changes of them are lost in the end, but not those beside
# DIRECTORY. /run is empty. Ends with what has started it.
set -eu
directory=$1
if [ "${3:-}" = inside ]; then
  umount "$directory/group"
  umount -R /sys/fs/cgroup
  if [ "$2" = own ]; then
    mkdir "$directory/own"
    mount -t tmpfs own "$directory/own"
    mkdir "$directory/own/upper" "$directory/own/work" "$directory/own/root"
    root=$directory/own/root
    mount -t overlay -o "lowerdir=/,upperdir=$directory/own/upper,workdir=$directory/own/work" own "$root"
    for path in /dev /proc /sys "${directory%/*}"; do mount --rbind "$path" "$root$path"; done
    mkdir "$root/old"
    cd "$root"
    pivot_root . old
    umount -l /old
    cd /
  fi
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  mount -t tmpfs run /run
  mount --bind "$directory/units" /etc/systemd/system
  exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin container=test /lib/systemd/systemd --system \
    --unit=test.target --log-target=console --log-level=info --show-status=no
fi
# Namespaces of control groups begin where the process is.
mount --make-rprivate /
mount -t cgroup2 cgroup2 "$directory/group"
cd "$directory/group"
group=nymph-test-$$
mkdir "$group"
echo $$ >"$group/cgroup.procs"
# It cannot be removed as long as somebody is in it.
trap '' TERM INT
(cd / && exec unshare --cgroup --pid --mount --fork --mount-proc --kill-child sh "$0" "$directory" "${2:-}" inside) &
echo $! >"$directory/unshare"
cat >/dev/null || true
# The last process of the namespace would take its mounts away before its descriptor of /dev/fuse, and wait for ever for
# pages that it had to answer itself: connections that were made inside are ended first.
first=$(cat "/proc/$!/task/$!/children" 2>/dev/null || true)
connections() {
  sed -n 's/^[0-9]* [0-9]* 0:\([0-9]*\) .* - fuse .*/\1/p' "$1" 2>/dev/null | sort -u
}
if [ -n "$first" ] && mkdir "$directory/fusectl" && mount -t fusectl fusectl "$directory/fusectl"; then
  before=" $(connections /proc/self/mountinfo | tr '\n' ' ')"
  for number in $(connections "/proc/${first% }/mountinfo"); do
    case $before in *" $number "*) ;; *) echo 1 >"$directory/fusectl/$number/abort" || true ;; esac
  done
  umount "$directory/fusectl"
fi
kill -KILL $! 2>/dev/null || true
wait || true
echo $$ >cgroup.procs
n=0
while [ -d "$group" ] && [ $n -lt 300 ]; do
  find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
  n=$((n + 1))
done

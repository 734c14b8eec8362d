#!/bin/sh
# What the DaemonSet does on a node, from within a privileged pod that shares the node's process ids:
#
#   node.sh install    puts this version beside others, the configuration into its place, starts or upgrades the service, and
#                      has containerd use it. Does nothing where all of that is so already.
#   node.sh remove     takes containerd's configuration back, stops the service and removes it. Cache and configuration stay.
#   node.sh keep       copies pull secrets to the node while the pod runs.
#
# nymph runs on the node and not in the pod: what ends a pod (an upgrade of the DaemonSet, an eviction) must not end reads of
# every lazy container of the node.
set -eu

# The node's root, as process 1 has it. Tests put their own in its place.
: "${NODE_EXEC:=nsenter --target 1 --mount --uts --ipc --net --pid --}"
: "${TREE:=/opt/nymph}"
: "${PREFIX:=/usr/local}"
: "${CONFIG:=/etc/nymph-config/config.toml}"
: "${SECRETS:=/etc/nymph-secrets}"
# What is done to containerd: `restart` (containers run on), `configure`, or `none`.
: "${CONTAINERD:=restart}"
: "${NODE_CONFIG:=/etc/nymph/config.toml}"
: "${NODE_SECRETS:=/node/secrets}"
: "${SECRETS_EVERY:=60}"

on_node() { $NODE_EXEC "$@"; }
say() { echo "nymph: $*"; }

# A file of the node, changed as a whole. 0 if it changed.
put_file() {
  if on_node cmp -s - "$2" <"$1"; then return 1; fi
  on_node sh -ec 'umask 077; mkdir -p "${1%/*}"; cat >"$1.new"; mv -f "$1.new" "$1"' sh "$2" <"$1"
}

install() {
  on_node test -d /run/systemd/system || {
    say "this node is not run by systemd; see docs/kubernetes.md" >&2
    exit 1
  }
  build=$(cat "$TREE/build-id")
  here=$PREFIX/lib/nymph
  if ! on_node test -d "$here/versions/$build" || [ "$(on_node readlink "$here/current")" != "versions/$build" ]; then
    # Of a pod that was ended while it unpacked.
    incoming=$here/incoming
    on_node rm -rf "$incoming"
    on_node mkdir -p "$incoming"
    tar -C "$TREE" -cf - . | on_node tar -C "$incoming" -xf -
    on_node sh "$incoming/deploy/install.sh" --prefix "$PREFIX"
    on_node rm -rf "$incoming"
  fi
  changed=
  if [ -e "$CONFIG" ] && put_file "$CONFIG" "$NODE_CONFIG"; then changed=1; fi

  if ! on_node systemctl is-active --quiet nymph; then
    on_node systemctl enable --now nymph
    say "started $build"
  else
    runs=$(on_node "$PREFIX/bin/nymph" status --json | sed -n 's|.*/versions/\([^"/]*\)".*|\1|p' | head -n 1)
    if [ "$runs" != "$build" ]; then
      # Hands over, or goes back to what ran and fails: then the rollout stops here.
      on_node "$PREFIX/bin/nymph" upgrade
      say "upgraded from ${runs:-an unknown version} to $build"
    elif [ -n "$changed" ]; then
      on_node systemctl restart nymph
      say "restarted with its new configuration"
    fi
  fi

  case $CONTAINERD in
  none) ;;
  configure) on_node "$PREFIX/bin/nymph" setup containerd --cri ;;
  restart)
    # It says what it did; containerd is restarted for a change only, and its containers run on.
    if on_node "$PREFIX/bin/nymph" setup containerd --cri --json | grep -q '"written": *true'; then
      on_node systemctl restart containerd
      say "containerd was configured and restarted"
    fi
    ;;
  *) say "CONTAINERD must be restart, configure or none" >&2 && exit 2 ;;
  esac
}

remove() {
  if [ "$CONTAINERD" != none ] && on_node "$PREFIX/bin/nymph" setup containerd --undo --json | grep -q '"written": *true'; then
    if [ "$CONTAINERD" = restart ]; then on_node systemctl restart containerd; fi
  fi
  on_node sh "$PREFIX/lib/nymph/current/deploy/install.sh" --prefix "$PREFIX" --uninstall
}

# Secrets that the kubelet mounts and renews: each a directory with `.dockerconfigjson`. Those that went are removed.
keep() {
  while :; do
    for secret in "$SECRETS"/*/.dockerconfigjson; do
      [ -e "$secret" ] || continue
      name=$(basename "$(dirname "$secret")")
      mkdir -p "$NODE_SECRETS/$name"
      if ! cmp -s "$secret" "$NODE_SECRETS/$name/.dockerconfigjson"; then
        (umask 077 && cat "$secret" >"$NODE_SECRETS/$name/.new" && mv -f "$NODE_SECRETS/$name/.new" "$NODE_SECRETS/$name/.dockerconfigjson")
        say "copied the pull secret $name"
      fi
    done
    for known in "$NODE_SECRETS"/*/; do
      [ -d "$known" ] || continue
      [ -e "$SECRETS/$(basename "$known")/.dockerconfigjson" ] || rm -rf "$known"
    done
    [ "$SECRETS_EVERY" != once ] || return 0
    # In the background, so that the signal that ends the pod is heard at once.
    sleep "$SECRETS_EVERY" &
    pause=$!
    wait "$pause"
  done
}

pause=
trap '[ -z "$pause" ] || kill "$pause" 2>/dev/null; exit 0' TERM INT
case ${1:-} in
install | remove | keep) "$1" ;;
*)
  echo "usage: node.sh install|remove|keep" >&2
  exit 2
  ;;
esac

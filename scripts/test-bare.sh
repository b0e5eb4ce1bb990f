#!/usr/bin/env bash
# Follows the README on a bare machine: a Debian 12 with nothing but the packages that every Debian has, and a Rust toolchain. Runs
# scripts/demo.sh and scripts/test.sh in it, to the end, and says how long each took. Not part of scripts/test.sh: it takes
# half an hour, and two hours with --without-archive.
#
#   scripts/test-bare.sh [--without-archive] [--keep] [COMMAND…]
#
#   --without-archive   leave ../shared/v8 out, so V8 comes from its release page or from source
#   --keep              leave the machine's root where it is, and say where; --root FOLDER goes on in such a root
#   COMMAND             what to run in the clone instead of the two scripts, for instance: bash
#
# tests/bare/interrupt.py types Ctrl-C into the demonstration in each of its phases, in such a root.
#
# Wants root and debootstrap. The machine has its own files, processes and mounts. It shares the network, because it installs
# packages; how this machine reaches registries (name servers, certificates, settings of apt and cargo) is copied into it.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
# shellcheck source=scripts/debian-mirror.sh
. scripts/debian-mirror.sh
suite=bookworm
archive=yes keep=no root=''
while [ "$#" != 0 ]; do
  case $1 in
    --without-archive) archive=no ;;
    --keep) keep=yes ;;
    --root) root=${2:?--root needs a folder} keep=yes; shift ;;
    --) shift; break ;;
    -*) printf 'test-bare: unknown option %s\n' "$1" >&2; exit 2 ;;
    *) break ;;
  esac
  shift
done
[ "$(id -u)" = 0 ] || { echo "skipped: a bare machine (it needs root): sudo scripts/test-bare.sh"; exit; }
scripts/setup.sh systemd
unshare --mount --pid --uts --ipc --fork true 2>/dev/null || {
  echo "skipped: a bare machine (this machine does not let root make namespaces): run scripts/test-bare.sh on one that does"
  exit
}

say() { printf '\n== %s  %s\n' "$(date +%T)" "$*"; }
finish() {
  local code=$?
  trap - EXIT INT TERM
  if [ "$keep" = no ] && [ -n "$root" ]; then
    rm -rf --one-file-system "$root"
  elif [ -n "$root" ]; then
    printf 'test-bare: the root is kept: %s\n' "$root" >&2
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

copy() { # FILE-OR-FOLDER…   to its own place in the root, where it is there
  local thing
  for thing in "$@"; do
    [ -e "$thing" ] || continue
    mkdir -p "$root$(dirname "$thing")"
    cp -aL "$thing" "$root$(dirname "$thing")/"
  done
}

make_root() {
  say "a Debian $suite, variant minbase, in $root"
  unshare --mount debootstrap --variant=minbase "$suite" "$root" "$(debian_mirror)" >"$root.log" ||
    { tail -n 20 "$root.log" >&2; exit 1; }
  rm -f "$root.log"
  cp -a "$(rustc --print sysroot)" "$root/opt/rust"
  rm -rf "$root/opt/rust/share/doc"
  copy /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt /etc/apt/apt.conf.d/*proxy* \
    /root/.cargo/config.toml
}

clone() {
  rm -rf "$root/root/process-pool" "$root/root/shared"
  git clone --quiet "$repository" "$root/root/process-pool"
  if [ "$archive" = yes ] && [ -d ../shared/v8 ]; then
    mkdir -p "$root/root/shared"
    cp -a ../shared/v8 "$root/root/shared/"
  fi
}

inside() {
  unshare --mount --pid --uts --ipc --fork --kill-child tests/bare/enter.sh "$root" "$@"
}

if [ -z "$root" ]; then
  root=$(mktemp -d /var/tmp/pool-bare-XXXXXX)
  chmod 755 "$root"
  make_root
  clone
elif [ ! -d "$root/root/process-pool" ]; then
  clone
fi
if [ "$#" != 0 ]; then
  inside "$@"
  exit
fi
for script in demo test; do
  say "scripts/$script.sh"
  began=$SECONDS
  inside "scripts/$script.sh" </dev/null
  say "scripts/$script.sh: done after $((SECONDS - began)) s"
done

#!/usr/bin/env bash
# The first process of a bare machine made of namespaces: mounts what a machine has, leaves the host's files behind, and runs a
# command.
#
#   enter.sh ROOT COMMAND…       ROOT: a Debian; it is changed by what the command installs
#
# Called by scripts/test-bare.sh inside `unshare --mount --pid --uts --ipc --fork`. Every mount ends with the namespace.
set -Eeuo pipefail
# shellcheck source=tests/devices.bash
. "$(dirname "${BASH_SOURCE[0]}")/../devices.bash"
root=$1
shift
mount --bind "$root" "$root"
cd "$root"
mount -t proc -o nosuid,nodev,noexec proc proc
# Control groups are the host's, as they are in a privileged container.
mount --rbind /sys sys
mount --make-rslave sys
small_machine_devices
hostname bare
# Not chroot: the kernel makes no user namespace for a process whose root is not its mount namespace's.
mkdir -p mnt
pivot_root . mnt
# The command is not process 1, to which Ctrl-C means nothing.
# shellcheck disable=SC2016 # for the shell inside
exec /usr/sbin/chroot . /usr/bin/env -i HOME=/root TERM=dumb LANG=C.UTF-8 \
  PATH=/opt/rust/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  /bin/bash -c 'umount -l /mnt && cd /root/process-pool && "$@"; exit $?' bare "$@"

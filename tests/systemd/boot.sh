#!/usr/bin/env bash
# The first process of a small machine made of namespaces: mounts what systemd needs, leaves the host's files behind, becomes systemd.
#
#   boot.sh ROOT LAYER PLACE    ROOT: a Debian with systemd, not changed; LAYER: files laid over it; PLACE: an empty folder for mounts
#
# Called by machine.bash inside `unshare --mount --pid --cgroup --uts --ipc --net --fork`. Every mount dies with the namespace.
set -Eeuo pipefail
# shellcheck source=tests/devices.bash
. "$(dirname "${BASH_SOURCE[0]}")/../devices.bash"
root=$1 layer=$2 place=$3

mount -t tmpfs -o mode=755 changes "$place"
mkdir "$place/upper" "$place/work" "$place/root"
if ! mount -t overlay -o "lowerdir=$layer:$root,upperdir=$place/upper,workdir=$place/work" machine "$place/root" 2>"$place/refused"; then
  printf 'no overlay here (%s); the root is copied\n' "$(tail -n 1 "$place/refused")"
  mount --bind "$place/root" "$place/root"
  cp -a "$root/." "$layer/." "$place/root/"
fi
cd "$place/root"

mount -t proc -o nosuid,nodev,noexec proc proc
# The kernel's settings are the host's as well; the network's are this namespace's own.
mount --bind proc/sys proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,ro,nosuid,nodev,noexec proc/sys
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs tmp
small_machine_devices
# What systemd says before there is a journal.
: >dev/console
# What would reach for the host's kernel or for the network's packages.
mkdir -p etc/systemd/system
for unit in sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount dev-hugepages.mount systemd-modules-load.service \
  systemd-sysctl.service systemd-remount-fs.service apt-daily.timer apt-daily-upgrade.timer; do
  ln -sf /dev/null "etc/systemd/system/$unit"
done

# Not chroot: the kernel makes no user namespace for a process whose root is not its mount namespace's.
pivot_root . mnt
# `container` tells systemd to leave the clock, the hardware and the kernel's settings alone.
exec /usr/sbin/chroot . /usr/bin/env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin /bin/sh -c \
  'umount -l /mnt && exec /lib/systemd/systemd --unit=basic.target --log-target=journal-or-kmsg --show-status=no'

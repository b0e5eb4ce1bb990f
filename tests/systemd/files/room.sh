#!/bin/sh
# Runs in the unit's place, as its user, behind all its walls: what the supervisor and a worker need to build walls of their own.
set -eu
group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup)
mkdir "$group/supervisor"
echo $$ >"$group/supervisor/cgroup.procs"
mkdir "$group/worker"
sleep 300 &
echo $! >"$group/worker/cgroup.procs"
echo 1 >"$group/worker/cgroup.kill"
wait $! && exit 1
# The last process is out of the group a moment after it has been waited for.
for _ in 1 2 3 4 5 6 7 8 9 10; do if rmdir "$group/worker" 2>/dev/null; then break; fi; sleep 0.1; done
[ ! -d "$group/worker" ]
echo "control groups: made, filled, killed, removed"
# The one mount call that a worker makes, and not the newer ones that this command would try before it.
export LIBMOUNT_FORCE_MOUNT2=always
unshare --user --map-root-user --mount --pid --net --ipc --uts --cgroup --fork /bin/sh -c \
  'mount -t tmpfs none /mnt && mkdir /mnt/old && cd /mnt && pivot_root . old'
echo "namespaces: user mnt pid net ipc uts cgroup, and a root of its own"
exec perl "${0%.sh}.pl"

# shellcheck shell=bash
# A Debian with a real systemd in namespaces of its own: made once, booted in under a second, gone without a trace. Sourced.
#
#   machine_possible       whether this machine can; else says why not and how to go on, and gives the exit code
#   machine_root           makes the root when there is none, which wants debootstrap; its path in $machine_root
#   machine_boot LAYER     boots it with the files in LAYER laid over it
#   inside COMMAND…        runs a command in it as root, for a minute at most
#   machine_end            ends it and removes what it left; may be called at any time
#
# Nothing in it can reach the host or the network: it has its own processes, mounts, network, users' sockets and control groups.
# shellcheck source=scripts/debian-mirror.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../scripts/debian-mirror.sh"
machine_suite=${MACHINE_SUITE:-bookworm}
# Only what the checks use; each package more is time on a fresh machine.
machine_packages=systemd,systemd-sysv
machine_root='' machine_init='' machine_unshare='' machine_scratch='' machine_cgroup=''

machine_possible() {
  local again='run scripts/test-systemd.sh as root on a Debian machine or in a privileged container' lacks=''
  if [ "$(id -u)" != 0 ]; then
    lacks="to be root" again='sudo scripts/test-systemd.sh'
  elif ! unshare --mount --pid --cgroup --uts --ipc --net --fork true 2>/dev/null; then
    lacks="namespaces, which this machine does not let root make"
  elif ! command -v debootstrap >/dev/null && ! command -v apt-get >/dev/null; then
    lacks="debootstrap, or apt-get to get it"
  elif ! machine_make_cgroup; then
    lacks="control groups of version 2 that can be written"
  else
    return 0
  fi
  skipped systemd systemd "$lacks" "$again"
}

# At the top of the hierarchy, because groups below a group with processes get no controllers.
machine_make_cgroup() {
  local top
  top=$(findmnt --noheadings --first-only --output TARGET --types cgroup2) || return 1
  machine_cgroup=$top/pool-machine-$$
  mkdir "$machine_cgroup" 2>/dev/null || {
    machine_cgroup=''
    return 1
  }
}

machine_root() {
  local cache=${XDG_CACHE_HOME:-$HOME/.cache}/process-pool/systemd log
  machine_root=$cache/$machine_suite-$(tr , - <<<"$machine_packages")
  mkdir -p "$cache"
  # Two runs at once: the second waits and uses what the first made.
  exec 8>"$cache/.lock"
  flock 8
  if [ ! -d "$machine_root" ]; then
    log=$cache/debootstrap.log
    echo "making a Debian root with systemd in $machine_root (once; about a minute; log: $log)"
    machine_debootstrap "$machine_root.part" >"$log" 2>&1 || {
      tail -n 20 "$log" >&2
      echo "failed to make a Debian root; the whole log: $log" >&2
      return 1
    }
    mv "$machine_root.part" "$machine_root"
  fi
  exec 8>&-
}

machine_debootstrap() { # FOLDER
  rm -rf --one-file-system "$1"
  mkdir -p "$1/etc/dpkg/dpkg.cfg.d"
  # A root that a crash of the machine spoils is made anew: dpkg need not wait for the disk, and nobody reads manuals here.
  printf '%s\n' force-unsafe-io path-exclude=/usr/share/{doc,man,locale,info}/'*' >"$1/etc/dpkg/dpkg.cfg.d/quick"
  # In a mount namespace, so that what it mounts does not outlive it.
  timeout -k 10 600 unshare --mount debootstrap --variant=minbase --include="$machine_packages" "$machine_suite" "$1" "$(debian_mirror)" || return
  rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/lib/apt/lists/*
}

machine_boot() { # LAYER
  local layer=$1 state
  machine_scratch=$(mktemp -d "${TMPDIR:-/tmp}/pool-machine-XXXXXX")
  mkdir "$machine_scratch/place"
  (
    echo "$BASHPID" >"$machine_cgroup/cgroup.procs"
    exec timeout -s KILL "${MACHINE_SECONDS:-300}" \
      unshare --mount --pid --cgroup --uts --ipc --net --fork --kill-child \
      "$(dirname "${BASH_SOURCE[0]}")/boot.sh" "$machine_root" "$layer" "$machine_scratch/place" \
      </dev/null >"$machine_scratch/console" 2>&1
  ) &
  machine_unshare=$!
  for _ in $(seq 600); do
    kill -0 "$machine_unshare" 2>/dev/null || break
    # The group's only processes of the first moments are timeout, unshare and what becomes systemd.
    machine_init=$(machine_find_init)
    if [ -n "$machine_init" ]; then
      state=$(inside systemctl is-system-running 2>/dev/null || true)
      case $state in running | degraded) return ;; esac
    fi
    sleep 0.1
  done
  tail -n 30 "$machine_scratch/console" >&2
  echo "failed to boot systemd: it says '${state:-nothing}'" >&2
  return 1
}

# The host's number of the process that is number 1 inside, once it is systemd.
machine_find_init() {
  local pid
  # systemd moves itself to a group of its own.
  for pid in $(cat "$machine_cgroup/init.scope/cgroup.procs" 2>/dev/null); do
    if awk '/^NSpid:/ { exit !($NF == 1 && NF > 2) }' "/proc/$pid/status" 2>/dev/null; then
      echo "$pid"
      return
    fi
  done
}

inside() {
  # Not below this shell's own limits: a command that hangs is ended with all that it holds.
  timeout -s KILL "${INSIDE_SECONDS:-60}" nsenter --target "$machine_init" --mount --pid --cgroup --uts --ipc --net -- \
    /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin LANG=C.UTF-8 "$@"
}

machine_end() {
  if [ -n "$machine_unshare" ]; then
    # --kill-child: the namespaces' first process goes with it, and with that all others.
    [ -z "$machine_init" ] || kill -KILL "$machine_init" 2>/dev/null || true
    kill -KILL "$machine_unshare" 2>/dev/null || true
    wait "$machine_unshare" 2>/dev/null || true
    machine_unshare=''
  fi
  if [ -n "$machine_cgroup" ]; then
    echo 1 >"$machine_cgroup/cgroup.kill" 2>/dev/null || true
    for _ in $(seq 100); do
      find "$machine_cgroup" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.05
    done
    machine_cgroup=''
  fi
  [ -z "$machine_scratch" ] || rm -rf --one-file-system "$machine_scratch"
  machine_scratch=''
}

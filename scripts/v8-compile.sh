#!/usr/bin/env bash
# The part of the V8 build that needs root: compiles the crate `v8` inside a Debian unstable root
# and leaves the archive and its checksum in a folder. scripts/build-v8.sh calls it, with sudo for
# an ordinary user.
#
#   v8-compile.sh --build-root FOLDER --out FOLDER --version VERSION --crate FOLDER --icu FILE
#                 --jobs N --owner UID:GID [--keep]
#
# V8 wants a newer clang and gn than a stable Debian has, so the compiler runs inside the other
# root, while headers and libraries come from this machine. Most of the time is spent on parsing
# headers; precompiled ones cut it to a third. Temporal is left out, because it needs a nightly
# Rust.
#
# Any signal ends it at once: everything runs in a process namespace and a mount namespace of its
# own, so no process and no mount is left. Each phase leaves its result by a rename or writes only
# what changed, so the next run continues where this one stopped.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8 PATH=$PATH:/usr/sbin:/sbin
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/v8-progress.sh
. "$scripts/v8-progress.sh"
# shellcheck source=scripts/debian-mirror.sh
. "$scripts/debian-mirror.sh"
# shellcheck source=scripts/v8-phases.sh
. "$scripts/v8-phases.sh"
arguments=("$@") keep=no inside=no
declare -A option=()
while [ $# -gt 0 ]; do
  case $1 in
    --keep) keep=yes ;;
    --inside) inside=yes ;;
    --build-root | --out | --version | --crate | --icu | --jobs | --owner)
      option[${1#--}]=${2:?"$1 wants a value"}
      shift
      ;;
    *)
      printf 'v8-compile: unknown option %s\n' "$1" >&2
      exit 2
      ;;
  esac
  shift
done
for name in build-root out version crate icu jobs owner; do
  [ -n "${option[$name]:-}" ] || {
    printf 'v8-compile: --%s is missing; scripts/build-v8.sh calls this with all of them\n' "$name" >&2
    exit 2
  }
done
base=${option[build-root]} out=${option[out]} version=${option[version]} jobs=${option[jobs]}
root=$base/root src=$base/root/v8src archive="librusty_v8_release_$(uname -m)-unknown-linux-gnu.a.gz"
log=$out/build.log

die() {
  printf 'v8-compile: %s\n' "$*" >&2
  exit 1
}

# --- the two locks ------------------------------------------------------------------------------

# Takes the lock, saying what it waits for. A lock file may be removed by its last owner, so the
# file that was locked must still be the one that the name leads to.
take_lock() { # DESCRIPTOR FILE WHAT
  local holder said=''
  while :; do
    eval "exec $1<>\"\$2\""
    until flock --nonblock "$1"; do
      holder=$(cat "$2" 2>/dev/null || true)
      say "waiting${said:+ still} for another build that uses $3${holder:+ (process $holder)}"
      said=yes
      flock --timeout 30 "$1" && break
    done
    [ "$(stat -L -c %i "/proc/self/fd/$1")" != "$(stat -c %i "$2" 2>/dev/null)" ] || break
  done
  printf '%s\n' "$$" >"$2"
}

# --- all of it, in namespaces of its own --------------------------------------------------------

phase() { # SHORT-NAME, which stands before the progress, and what is said once
  progress_label=$1
  say "$1: $2"
  printf '\n== %s: %s\n' "$1" "$2" >>"$log"
}

plan() { # what is done already, and the whole
  local name steps
  steps=$(cat "$src/out/.work" 2>/dev/null || echo "${cost[steps]}")
  cost[steps]=$steps
  progress_total=0
  for name in "${!cost[@]}"; do progress_total=$((progress_total + ${cost[$name]})); done
}

begin_compile() {
  local before=$progress_done
  plan
  count_steps rusty_v8
  # Both passes together; what is left of them is known from here on.
  progress_done=$((before + cost[steps] - work_left))
  progress_start=$((progress_start + cost[steps] - work_left))
  say "$steps_left steps of ninja are left"
}

all_phases() {
  plan
  phase "Debian root" "unstable, into $root"
  measured "${cost[root]}" make_root
  mount_inside
  phase compiler "the newest clang of Debian unstable"
  measured "${cost[packages]}" install_packages
  clang=$(cat "$root/.compiler")
  phase source "the crates v8 $version and deno_core_icudata"
  measured "${cost[source]}" copy_source
  phase sysroot "this machine's headers and C library"
  measured "${cost[sysroot]}" copy_sysroot
  phase configuring "gn, for clang $clang"
  measured "${cost[configure]}" configure
  begin_compile
  phase "step 1 of 3" "generated sources, with $jobs jobs (all output: $log)"
  count_steps v8:v8_generated_cc_files
  measured "$work_left" in_root "ninja -C out -j $jobs v8:v8_generated_cc_files"
  phase "step 2 of 3" "precompiled headers"
  measured "${cost[headers]}" precompile_headers
  count_steps rusty_v8
  phase "step 3 of 3" "compiling, $steps_left steps left"
  measured "$work_left" in_root "ninja -C out -j $jobs rusty_v8"
  phase compressing "$archive"
  measured "${cost[compress]}" publish
}

size_of() { du -sh "$base" 2>/dev/null | cut -f 1; }

# The command that removes the tree, for the user who called.
removal() {
  [[ ${option[owner]} == 0:* ]] || printf 'sudo '
  printf 'rm -rf %q' "$base"
}

kept() {
  say "run the same command again to continue; kept for that: $base ($(size_of)), removed by: $(removal)"
}

tidy() {
  if [ "$keep" = yes ]; then
    say "kept: $base ($(size_of)), removed by: $(removal)"
  else
    say "removing the build tree: $base ($(size_of))"
    rm -f "$root/.complete"
    rm -rf --one-file-system "$root" "$base/debs" "$base/root.new" "$base/.lock"
    rmdir "$base" 2>/dev/null || true
    rm -f "$log" "$out/.lock"
  fi
}

stop() { # SIGNAL
  trap '' INT TERM HUP
  # Whoever leads the process namespace takes everything in it along.
  if [ -n "$namespace" ]; then
    kill -KILL "$namespace" 2>/dev/null || true
    wait "$namespace" 2>/dev/null || true
  fi
  rm -f "$out/.$archive.part"
  say "stopped by SIG$1"
  kept
  trap - "$1"
  kill -s "$1" "$$"
}

outside() {
  local code=0
  namespace=''
  unshare --mount --pid --fork --mount-proc true 2>/dev/null ||
    die "root may not mount here, as in most containers, and a chroot needs it: allow it" \
      "(docker run --privileged), or set RUSTY_V8_ARCHIVE to an archive that was built elsewhere"
  [ -d "$out" ] || die "there is no folder $out"
  mkdir -p "$base"
  take_lock 9 "$out/.lock" "the folder $out"
  take_lock 8 "$base/.lock" "the build folder $base"
  if (cd "$out" && sha256sum --check --status "$archive.sha256" 2>/dev/null); then
    say "already there: $out/$archive"
    [ -e "$root" ] || { rm -f "$base/.lock" && rmdir "$base" 2>/dev/null; } || true
    return
  fi
  : >"$log"
  chown "${option[owner]}" "$log"
  for signal in INT TERM HUP; do
    # shellcheck disable=SC2064 # now
    trap "stop $signal" $signal
  done
  setpriv --pdeathsig KILL unshare --mount --pid --fork --kill-child --mount-proc --propagation private \
    bash "${BASH_SOURCE[0]}" "${arguments[@]}" --inside &
  namespace=$!
  wait "$namespace" || code=$?
  namespace=''
  if [ "$code" != 0 ]; then
    rm -f "$out/.$archive.part"
    say "failed; the end of $log:"
    tail -n 20 "$log"
    kept
    return "$code"
  fi
  tidy
  say "done: $out/$archive"
}

if [ "$inside" = yes ]; then all_phases; else outside; fi

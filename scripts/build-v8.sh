#!/usr/bin/env bash
# Builds the static library that the crate `v8` links, from the source inside that crate, with
# Debian's tools only.
#
#   scripts/build-v8.sh [FOLDER]   leaves librusty_v8_release_x86_64-unknown-linux-gnu.a.gz and its
#                                  checksum in FOLDER (default: the user's cache folder, where every
#                                  other script finds it)
#     --check    says what this machine lacks for it, and does nothing
#     --yes      installs missing Debian packages without asking (scripts/setup.sh says when else)
#
#   V8_BUILD_ROOT=/var/tmp/process-pool-v8   the build tree; removed after success
#   V8_BUILD_KEEP=yes                        keeps it
#   JOBS=N                                   compiler jobs (default: what processors and memory allow)
#
# Needs x86_64, Debian 12 or later, cargo, and root for a chroot. An ordinary user is asked for sudo
# for that part alone. The build can be stopped at any moment; the same command continues.
# docs/v8.md says more.
set -Eeuo pipefail
umask 022
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/v8-env.sh
. "$repository/scripts/v8-env.sh"
version=$(v8_version "$repository")
build_root=${V8_BUILD_ROOT:-/var/tmp/process-pool-v8}
# What a build from nothing takes, and the most that one compiler job was seen to take.
disk_gb=4
job_mb=1300
# debootstrap and its like lie where an ordinary user's PATH does not lead.
PATH=$PATH:/usr/sbin:/sbin

say() { printf '%(%T)T  %s\n' -1 "$*"; }
die() {
  printf 'build-v8: %s\n' "$*" >&2
  exit 1
}
elsewhere="set RUSTY_V8_ARCHIVE to an archive that was built elsewhere"

# --- what the machine must have -----------------------------------------------------------------

check_kind() {
  [ "$(uname -sm)" = "Linux x86_64" ] || die "this recipe is for x86_64 Linux, and this is $(uname -sm); $elsewhere"
  command -v apt-get >/dev/null || die "there is no apt-get, and the recipe takes its compiler from Debian; $elsewhere"
  command -v cargo >/dev/null || die "there is no cargo: install Rust first (https://rustup.rs)"
}

check_disk() {
  local place=$build_root free there=0
  while [ ! -d "$place" ]; do place=$(dirname "$place"); done
  free=$(df --output=avail -BM "$place" | tail -n 1 | tr -dc 0-9)
  # What an interrupted build left there counts as free.
  [ ! -d "$build_root" ] || there=$({ du -sm "$build_root" 2>/dev/null || true; } | cut -f 1)
  [ $((free + ${there:-0})) -ge $((disk_gb * 1024)) ] ||
    die "$place has $((free / 1024)) GB free, and $disk_gb are needed; name another place in V8_BUILD_ROOT"
}

# The memory that can be had: what is available, or less where a control group limits it.
available_mb() {
  local mb group limit used
  mb=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
  group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null)
  while [[ $group == /sys/fs/cgroup* ]]; do
    limit=$(cat "$group/memory.max" 2>/dev/null || echo max)
    if [ "$limit" != max ]; then
      # The page cache is given back when memory is wanted.
      used=$(($(cat "$group/memory.current") - $(awk '$1 == "inactive_file" { print $2 }' "$group/memory.stat")))
      limit=$(((limit - used) / 1048576))
      [ "$limit" -ge "$mb" ] || mb=$limit
    fi
    group=${group%/*}
  done
  printf '%d' "$mb"
}

choose_jobs() {
  local mb processors
  processors=$(nproc)
  mb=${V8_BUILD_MEMORY_MB:-$(available_mb)}
  [ "$mb" -ge "$job_mb" ] ||
    die "$mb MB of memory are free, and one compiler job takes up to $job_mb; free some, or $elsewhere"
  jobs=${JOBS:-$processors}
  if [ -z "${JOBS:-}" ] && [ $((mb / job_mb)) -lt "$jobs" ]; then
    jobs=$((mb / job_mb))
    say "compiler jobs: $jobs instead of $processors, because $mb MB of memory are free and a job" \
      "takes up to $job_mb"
  elif [ $((mb / job_mb)) -lt "$jobs" ]; then
    say "warning: JOBS=$jobs may need $((jobs * job_mb)) MB of memory, and $mb are free"
  fi
}

# A folder in /var/tmp can be anybody's. Root must not build in one that a stranger can change.
check_owner() {
  local owner
  [ -e "$build_root" ] || return 0
  owner=$(stat -c %u "$build_root")
  if [ -L "$build_root" ] || { [ "$owner" != 0 ] && [ "$owner" != "$(id -u)" ]; }; then
    die "$build_root belongs to $(stat -c %U "$build_root"), not to root or you; name another place in V8_BUILD_ROOT"
  fi
}

# --- what is handed to the part that needs root --------------------------------------------------

crate_folder() { # CRATE; the folder of the version in Cargo.lock, in cargo's registry or vendored
  cargo metadata --locked --format-version 1 --manifest-path "$repository/Cargo.toml" | awk -v crate="$1" '
    {
      at = index($0, "{\"name\":\"" crate "\",\"version\":")
      if (!at) next
      rest = substr($0, at)
      rest = substr(rest, index(rest, "\"manifest_path\":\"") + 17)
      sub(/\/Cargo.toml".*/, "", rest)
      print rest
      exit
    }'
}

compile() {
  local engine icu file name command as_root=(sudo) keep=()
  say "source: cargo fetches the crates"
  cargo fetch --locked --manifest-path "$repository/Cargo.toml"
  engine=$(crate_folder v8)
  icu=$(crate_folder deno_core_icudata)
  for file in "$engine/BUILD.gn" "$icu/src/icudtl.dat"; do
    [ -f "$file" ] || die "cargo has no source of the crates v8 and deno_core_icudata: no $file"
  done
  [ "${V8_BUILD_KEEP:-no}" != yes ] || keep=(--keep)
  command=("$repository/scripts/v8-compile.sh" --build-root "$build_root" --out "$out" --version "$version"
    --crate "$engine" --icu "$icu/src/icudtl.dat" --jobs "$jobs" --owner "$(id -u):$(id -g)" "${keep[@]}")
  [ "$(id -u)" != 0 ] || exec "${command[@]}"
  # sudo drops them, and the downloads need them.
  for name in http_proxy https_proxy no_proxy; do
    [ -z "${!name:-}" ] || as_root+=("$name=${!name}")
  done
  [ "${#as_root[@]}" = 1 ] || as_root=(sudo env "${as_root[@]:1}")
  say "the compiler runs in a chroot, which needs root. This is the whole command:"
  printf ' '
  printf ' %q' "${as_root[@]}" "${command[@]}"
  printf '\n'
  command -v sudo >/dev/null ||
    die "there is no sudo; run the command above as root, without the word sudo, and then go on here"
  # sudo passes signals on and the rest is done in there, so nothing has to wait for it here.
  exec "${as_root[@]}" "${command[@]}"
}

main() {
  local only_check=no yes=()
  while [[ ${1:-} == -* ]]; do
    case $1 in
      --check) only_check=yes ;;
      --yes) yes=(--yes) ;;
      *) die "unknown option $1; usage: build-v8.sh [--check] [--yes] [FOLDER]" ;;
    esac
    shift
  done
  out=${1:-$(v8_cache_folder "$repository")}
  build_root=$(realpath --canonicalize-missing --no-symlinks "$build_root")
  out=$(realpath --canonicalize-missing "$out")
  if [ "$only_check" = no ] && v8_archive_in "$out"; then
    say "already there: $out/$(v8_archive_name)"
    [ ! -d "$build_root/root" ] || say "a build tree is there as well: $build_root"
    return
  fi
  check_kind
  check_owner
  check_disk
  choose_jobs
  if [ "$only_check" = yes ]; then
    "$repository/scripts/setup.sh" --check v8
    say "this machine can build V8 $version; compiler jobs: $jobs"
    return
  fi
  say "building V8 $version from source, once. On two cores it takes about 45 minutes; it downloads" \
    "140 MB of Debian packages, and needs $disk_gb GB in $build_root. The result is kept in $out"
  "$repository/scripts/setup.sh" "${yes[@]}" v8
  mkdir -p "$out"
  compile
}
main "$@"

#!/usr/bin/env bash
# Builds the static library that the crate `v8` links, from the source inside that crate, with Debian's tools only.
#
#   scripts/build-v8.sh [FOLDER]     leaves librusty_v8_release_x86_64-unknown-linux-gnu.a.gz and its checksum in FOLDER
#                                    (default: the user's cache folder, where every other script finds it)
#   scripts/build-v8.sh --check      says whether this machine can, and does nothing
#
# Needs: root on Debian 12 or later (a chroot), x86_64, cargo, 12 GB of disk under V8_BUILD_ROOT (/var/tmp/process-pool-v8).
# How: the engine wants a newer clang and gn than a stable Debian has, so the compiler runs inside a Debian unstable root, while
# headers and libraries come from this machine. Most of the time is spent on parsing headers; precompiled ones cut it to a third.
# Left out against the archive that the crate's authors publish: Temporal, the one part that needs a nightly Rust.
# A build that was interrupted goes on where it stopped.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/v8-env.sh
. "$repository/scripts/v8-env.sh"
version=$(v8_version "$repository")
archive=$(v8_archive_name)
root=${V8_BUILD_ROOT:-/var/tmp/process-pool-v8}
jobs=${JOBS:-$(nproc)}
clang=23

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }
die() {
  printf 'build-v8: %s\n' "$*" >&2
  exit 1
}

check_machine() {
  local free
  [ "$(uname -sm)" = "Linux x86_64" ] || die "this recipe is for x86_64 Linux; set RUSTY_V8_ARCHIVE to an archive for $(uname -sm)"
  [ "$(id -u)" = 0 ] || die "a chroot needs root: run this script once with sudo and the folder $(v8_cache_folder "$repository"), or set RUSTY_V8_ARCHIVE to an archive"
  command -v apt-get >/dev/null || die "no apt-get: this recipe takes its compiler from Debian; set RUSTY_V8_ARCHIVE to an archive"
  command -v cargo >/dev/null || die "no cargo: install Rust first"
  mkdir -p "$root"
  free=$(df --output=avail -BG "$root" | tail -n 1 | tr -dc 0-9)
  [ "$free" -ge 12 ] || [ -d "$root/v8src/out" ] || die "$root has $free GB free and 12 are needed; name another place in V8_BUILD_ROOT"
}

# A pipe's end: keeps everything in the log and shows one line per percent.
progress() { # LOG
  awk -v log_file="$1" -v shown=-1 '
    { print >> log_file }
    match($0, /^\[[0-9]+\/[0-9]+\]/) {
      split(substr($0, 2, RLENGTH - 2), n, "/")
      percent = int(100 * n[1] / n[2])
      if (percent != shown) {
        shown = percent
        "date +%T" | getline now; close("date +%T")
        printf "%s  [%d/%d] %d %%\n", now, n[1], n[2], percent
        fflush()
      }
    }'
}

inside() { chroot "$root" bash -c "cd /v8src && $*"; }

install_compiler() {
  local mirror
  apt-get install -y -q debootstrap python3 >>"$log" 2>&1 || {
    apt-get update -q >>"$log" 2>&1
    apt-get install -y -q debootstrap python3 >>"$log" 2>&1
  }
  # shellcheck disable=SC2016 # apt's own placeholder
  mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep -E '/debian/?$' | sort -u | awk 'NR == 1' || true)
  : "${mirror:=http://deb.debian.org/debian}"
  if [ ! -f "$root/.compiler-$clang" ]; then
    say "compiler: clang $clang of Debian unstable, into $root"
    debootstrap --variant=minbase \
      --include="python3,ninja-build,generate-ninja,clang-$clang,lld-$clang,llvm-$clang,libclang-rt-$clang-dev" \
      sid "$root" "$mirror" >>"$log" 2>&1
    touch "$root/.compiler-$clang"
  fi
  # gn names the builtins by the target's name, Debian by the system's.
  local runtime="$root/usr/lib/llvm-$clang/lib/clang/$clang/lib"
  mkdir -p "$runtime/x86_64-unknown-linux-gnu"
  ln -sf ../linux/libclang_rt.builtins-x86_64.a "$runtime/x86_64-unknown-linux-gnu/libclang_rt.builtins.a"
}

crate_folder() { # CRATE
  cargo metadata --locked --format-version 1 --manifest-path "$repository/Cargo.toml" | python3 -c '
import json, os, sys
for package in json.load(sys.stdin)["packages"]:
    if package["name"] == sys.argv[1]:
        print(os.path.dirname(package["manifest_path"]))' "$1"
}

copy_source() {
  say "source: the crates v8 $version and deno_core_icudata"
  local engine icu
  cargo fetch --locked --quiet --manifest-path "$repository/Cargo.toml"
  engine=$(crate_folder v8)
  icu=$(crate_folder deno_core_icudata)
  if [ "$(cat "$root/.source" 2>/dev/null)" != "$version" ]; then
    rm -rf "$root/v8src"
    cp -r "$engine" "$root/v8src"
    printf '%s' "$version" >"$root/.source"
  fi
  mkdir -p "$root/v8src/third_party/icu/common"
  cp "$icu/src/icudtl.dat" "$root/v8src/third_party/icu/common/"
}

# The result links on this machine, so it is compiled against this machine's headers and libraries.
copy_sysroot() {
  say "sysroot: this machine's glibc"
  local sys="$root/sysroot" lib=usr/lib/x86_64-linux-gnu
  mkdir -p "$sys/$lib" "$sys/usr/lib/gcc" "$sys/usr/lib64"
  cp -a /usr/include "$sys/usr/"
  cp -a /usr/lib/gcc/x86_64-linux-gnu "$sys/usr/lib/gcc/"
  # Some of these patterns match nothing on some releases.
  (cd "/$lib" && cp -aL ./*crt*.o lib{c,m,mvec,anl,pthread,dl,rt,util,resolv}[.-]* libc_nonshared.a libgcc_s* libstdc++* \
    ld-linux* libatomic* "$sys/$lib/" 2>/dev/null) || true
  ln -sfn usr/lib "$sys/lib"
  ln -sfn usr/lib64 "$sys/lib64"
  # The loader must be a file: the link on the machine is absolute and would lead into the other root.
  cp -L /lib64/ld-linux-x86-64.so.2 "$sys/usr/lib64/"
  ln -sfn /sysroot "$root/v8src/build/linux/debian_bullseye_amd64-sysroot"
}

configure() {
  mkdir -p "$root/v8src/out"
  cat >"$root/v8src/out/args.gn" <<ARGS
is_debug=false
use_custom_libcxx=true
v8_enable_sandbox=false
v8_enable_pointer_compression=false
v8_enable_v8_checks=false
clang_base_path="/usr/lib/llvm-$clang"
clang_version="$clang"
treat_warnings_as_errors=false
v8_monolithic_for_shared_library=true
enable_rust=false
enable_rust_cxx=false
v8_enable_temporal_support=false
use_sysroot=true
use_glib=false
symbol_level=0
line_tables_only=false
clang_use_chrome_plugins=false
ARGS
  inside "gn --script-executable=/usr/bin/python3 gen out" >>"$log"
}

generate_sources() {
  say "step 1 of 3: generated sources"
  inside "ninja -C out -j $jobs v8_generated_cc_files 2>/dev/null || ninja -C out -j $jobs \
    obj/v8/torque_generated_initializers/array-at-tq-csa.o obj/v8/v8_compiler/access-info.o" 2>&1 | progress "$log"
}

precompile() { # NAME TARGET…
  local name=$1 line target
  shift
  line=$(grep -m1 -- "-o obj/v8/$1/" pch/commands |
    sed -E 's# -c [^ ]+ -o [^ ]+##; s#-MMD -MF [^ ]+##; s# -fmodule-name="[^"]*"##; s# -Wlifetime-safety-permissive##')
  inside "cd out && $line -w -x c++-header -c pch/$name.h -o pch/$name.pch"
  for target in "$@"; do
    grep -q include-pch "obj/v8/$target.ninja" ||
      sed -i -E "s#^cflags_cc = (.*)#cflags_cc = \1 -include-pch pch/$name.pch -w#" "obj/v8/$target.ninja"
  done
}

precompile_headers() {
  say "step 2 of 3: precompiled headers"
  cd "$root/v8src/out"
  mkdir -p pch
  grep '^#include' gen/v8/torque-generated/src/builtins/array-slice-tq-csa.cc | grep -v 'tq-csa.h' >pch/tq.h
  printf '#include "src/%s"\n' api/api-inl.h execution/isolate-inl.h heap/heap-inl.h heap/factory-inl.h \
    objects/objects-inl.h handles/handles-inl.h >pch/base.h
  printf '#include "src/%s"\n' execution/isolate-inl.h heap/factory-inl.h objects/objects-inl.h compiler/js-heap-broker.h \
    compiler/js-graph.h compiler/node-properties.h compiler/common-operator.h compiler/js-operator.h \
    compiler/simplified-operator.h >pch/comp.h
  inside "ninja -C out -t commands rusty_v8" >pch/commands
  {
    precompile tq torque_generated_initializers v8_initializers
    precompile base v8_base_without_compiler
    precompile comp v8_compiler
  } >>"$log" 2>&1
}

compile() {
  say "step 3 of 3: compiling, with $jobs jobs (the whole of it: $log)"
  inside "ninja -C out -j $jobs rusty_v8" 2>&1 | progress "$log"
}

# First the checksum's file, then the archive by one rename: who finds the archive finds it whole.
publish() {
  say "compressing"
  gzip -9 -c "$root/v8src/out/obj/librusty_v8.a" >"$out/.$archive.part"
  (cd "$out" && sha256sum ".$archive.part" | sed "s/ \.$archive\.part/ $archive/" >"$archive.sha256")
  sync "$out/.$archive.part"
  mv "$out/.$archive.part" "$out/$archive"
}

case ${1:-} in
  --check)
    check_machine
    say "this machine can build V8 $version"
    exit
    ;;
  -*) die "unknown option $1; usage: build-v8.sh [--check] [FOLDER]" ;;
esac
check_machine
out=${1:-$(v8_cache_folder "$repository")}
mkdir -p "$out"
out=$(realpath "$out")
log=$out/build.log
exec 9>"$out/.lock"
flock --nonblock 9 || {
  say "another build is at work for $out; waiting for it"
  flock 9
}
if v8_archive_in "$out"; then
  say "already there: $out/$archive"
  exit
fi
say "building V8 $version from source. This takes about an hour on two cores, once; the result is kept in $out"
trap 'say "failed at line $LINENO; the end of $log:" >&2; tail -n 20 "$log" >&2' ERR
: >"$log"
install_compiler
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
trap 'umount "$root/proc" 2>/dev/null || true' EXIT
copy_source
copy_sysroot
configure
generate_sources
precompile_headers
compile
publish
say "done: $out/$archive"

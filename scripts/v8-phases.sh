# shellcheck shell=bash
# shellcheck disable=SC2154 # v8-compile.sh sets the folders, the options and the version
#
# The phases of the V8 build, each of which continues what an interrupted run of it began: it leaves
# its result by a rename, or writes only what changed. Sourced by v8-compile.sh, which says in which
# order they run. They run as root, in a process and a mount namespace of their own.

# V8 15.2 uses flags and C++ that older ones do not have.
oldest_clang=23

in_root() { chroot "$root" bash -c "cd /v8src && $*"; }

# Replaces a file only when its text differs, because a new time would make ninja build all that
# depends on it again.
write_changed() { # FILE, text on standard input
  cat >"$1.new"
  if cmp --silent "$1.new" "$1"; then rm "$1.new"; else mv "$1.new" "$1"; fi
}

# --- the compiler -------------------------------------------------------------------------------

# The root is made under another name: what is interrupted is removed and made anew from the
# packages that were downloaded already.
make_root() {
  local mirror include=() kind=${container:-}
  [ ! -e "$root/.complete" ] || return 0
  # What is here without that mark is what a removal left that was interrupted.
  rm -rf --one-file-system "$root" "$base/root.new"
  mirror=$(debian_mirror)
  [[ $mirror != https:* ]] || include=(--include=ca-certificates)
  mkdir -p "$base/root.new" "$base/debs"
  # Where device files cannot be made, debootstrap binds those of this machine when it takes the
  # place for an lxc container.
  if ! mknod "$base/root.new/null" c 1 3 2>/dev/null || ! : >"$base/root.new/null"; then kind=lxc; fi
  rm -f "$base/root.new/null"
  echo "debootstrap of sid from $mirror"
  container=$kind debootstrap --variant=minbase --cache-dir="$base/debs" "${include[@]}" \
    sid "$base/root.new" "$mirror"
  apt-config dump 2>/dev/null | grep -iE '^Acquire::(https?::)?Proxy' \
    >"$base/root.new/etc/apt/apt.conf.d/90host-proxy" || true
  touch "$base/root.new/.complete"
  mv -T "$base/root.new" "$root"
}

mount_inside() {
  local device
  mount -t proc proc "$root/proc"
  mount --bind "$base/debs" "$root/var/cache/apt/archives"
  [ ! -c "$root/dev/null" ] || return 0
  for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
}

# Like debootstrap, apt takes an index whose date has passed here: a mirror may lag behind, and the
# signature is checked all the same.
in_apt() {
  chroot "$root" env DEBIAN_FRONTEND=noninteractive LC_ALL=C apt-get -q -o APT::Sandbox::User=root \
    -o Acquire::Check-Valid-Until=false -o Dpkg::Options::=--force-unsafe-io \
    -o Dpkg::Use-Pty=0 -o APT::Keep-Downloaded-Packages=true "$@"
}

compiler_packages() { # VERSION
  printf '%s\n' python3 ninja-build generate-ninja "clang-$1" "lld-$1" "llvm-$1" "libclang-rt-$1-dev"
}

# Debian unstable drops old versions: the newest that can be installed is taken.
choose_compiler() {
  local offered
  offered=$(chroot "$root" apt-cache pkgnames clang- | sed -n 's/^clang-\([0-9]*\)$/\1/p' | sort -rn)
  for clang in $offered; do
    [ "$clang" -ge "$oldest_clang" ] || break
    # shellcheck disable=SC2046 # one word each
    ! in_apt install --simulate --no-install-recommends $(compiler_packages "$clang") >/dev/null 2>&1 ||
      return 0
  done
  die "Debian unstable offers no clang from $oldest_clang on that can be installed (it has:" \
    "$(xargs <<<"$offered")); set RUSTY_V8_ARCHIVE to an archive that was built elsewhere"
}

install_packages() {
  if [ ! -s "$root/.compiler" ]; then
    # An installation that was interrupted is completed first.
    chroot "$root" dpkg --configure -a
    in_apt update
    in_apt install --fix-broken -y
    choose_compiler
    echo "clang $clang"
    # shellcheck disable=SC2046 # one word each
    in_apt install -y --no-install-recommends -o APT::Status-Fd=1 $(compiler_packages "$clang")
    # gn names the builtins by the target's name, Debian by the system's.
    local runtime="$root/usr/lib/llvm-$clang/lib/clang/$clang/lib"
    mkdir -p "$runtime/x86_64-unknown-linux-gnu"
    ln -sf ../linux/libclang_rt.builtins-x86_64.a \
      "$runtime/x86_64-unknown-linux-gnu/libclang_rt.builtins.a"
    echo "$clang" >"$root/.compiler.new"
    mv "$root/.compiler.new" "$root/.compiler"
  fi
}

# --- the source ---------------------------------------------------------------------------------

copy_source() {
  [ "$(cat "$src/.version" 2>/dev/null)" != "$version" ] || return 0
  rm -rf "$src" "$src.new"
  cp -r "${option[crate]}" "$src.new"
  mkdir -p "$src.new/third_party/icu/common"
  cp "${option[icu]}" "$src.new/third_party/icu/common/icudtl.dat"
  ln -sfn /sysroot "$src.new/build/linux/debian_bullseye_amd64-sysroot"
  printf '%s' "$version" >"$src.new/.version"
  mv -T "$src.new" "$src"
}

# The result links on this machine, so it is compiled against this machine's headers and libraries.
copy_sysroot() {
  local sys="$root/sysroot.new" lib=usr/lib/x86_64-linux-gnu mark
  mark=$(find /usr/include /usr/lib/gcc/x86_64-linux-gnu "/$lib"/libc.so.6 -printf '%p %s %T@\n' |
    sort | sha256sum)
  [ "$(cat "$root/sysroot/.mark" 2>/dev/null)" != "$mark" ] || return 0
  rm -rf "$sys"
  mkdir -p "$sys/$lib" "$sys/usr/lib/gcc" "$sys/usr/lib64"
  cp -a /usr/include "$sys/usr/"
  cp -a /usr/lib/gcc/x86_64-linux-gnu "$sys/usr/lib/gcc/"
  # Some of these patterns match nothing on some releases.
  (cd "/$lib" && cp -aL ./*crt*.o lib{c,m,mvec,anl,pthread,dl,rt,util,resolv}[.-]* libc_nonshared.a \
    libgcc_s* libstdc++* ld-linux* libatomic* "$sys/$lib/" 2>/dev/null) || true
  ln -sfn usr/lib "$sys/lib"
  ln -sfn usr/lib64 "$sys/lib64"
  # The loader must be a file: the link on the machine is absolute and would lead into the other root.
  cp -L /lib64/ld-linux-x86-64.so.2 "$sys/usr/lib64/"
  printf '%s' "$mark" >"$sys/.mark"
  rm -rf "$root/sysroot"
  mv -T "$sys" "$root/sysroot"
}

# --- gn and ninja -------------------------------------------------------------------------------

build_arguments() {
  cat <<ARGS
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
}

# Which targets are compiled with which precompiled header.
targets_of() { # HEADER
  case $1 in
    tq) echo torque_generated_initializers v8_initializers ;;
    base) echo v8_base_without_compiler ;;
    comp) echo v8_compiler ;;
  esac
}

# Done once for a compiler, a C library and these arguments: gn rewrites every file, and with it
# the flags that are added here.
configure() {
  local key header target
  key=$({
    build_arguments
    chroot "$root" "/usr/lib/llvm-$clang/bin/clang" --version
    cat "$root/sysroot/.mark" "$scripts/v8-flags.py"
  } | sha256sum)
  [ "$(cat "$src/out/.key" 2>/dev/null)" != "$key" ] || return 0
  rm -rf "$src/out"
  mkdir -p "$src/out/pch"
  build_arguments >"$src/out/args.gn"
  in_root "gn --script-executable=/usr/bin/python3 gen out"
  for header in tq base comp; do
    for target in $(targets_of $header); do
      sed -i -E "s#^cflags_cc = (.*)#cflags_cc = \1 -include-pch pch/$header.pch -w#" \
        "$src/out/obj/v8/$target.ninja"
    done
  done
  cp "$scripts/v8-flags.py" "$src/out/v8-flags.py"
  in_root "cd out && python3 v8-flags.py rusty_v8"
  in_root "ninja -C out -t commands rusty_v8" >"$src/out/pch/commands"
  add_steps < <(in_root "ninja -C out -n rusty_v8")
  printf '%s\n' "$work_left" >"$src/out/.work"
  printf '%s' "$key" >"$src/out/.key"
}

count_steps() { # TARGET
  add_steps < <(in_root "ninja -C out -n $1" 2>/dev/null)
}

headers_of() { # HEADER
  case $1 in
    tq)
      grep '^#include' "$src/out/gen/v8/torque-generated/src/builtins/array-slice-tq-csa.cc" |
        grep -v 'tq-csa.h'
      ;;
    base)
      printf '#include "src/%s"\n' api/api-inl.h execution/isolate-inl.h heap/heap-inl.h \
        heap/factory-inl.h objects/objects-inl.h handles/handles-inl.h
      ;;
    comp)
      printf '#include "src/%s"\n' execution/isolate-inl.h heap/factory-inl.h objects/objects-inl.h \
        compiler/js-heap-broker.h compiler/js-graph.h compiler/node-properties.h \
        compiler/common-operator.h compiler/js-operator.h compiler/simplified-operator.h
      ;;
  esac
}

precompiled() { # HEADER COMMAND
  local pch=$src/out/pch/$1
  [ -s "$pch.pch" ] && [ "$(cat "$pch.key" 2>/dev/null)" = "$2" ] || return 1
  # Every file that is in it must still be there and be older.
  in_root "cd out && newer=\$(find \$(sed 's/^[^:]*://; s/\\\\\$//' pch/$1.d) -newer pch/$1.pch) &&
    [ -z \"\$newer\" ]"
}

# A precompiled header is made again only when its text, its command or a header in it changed.
precompile() { # HEADER
  local target command pch=$src/out/pch
  read -r target _ < <(targets_of "$1")
  command=$(grep -m1 -- "-o obj/v8/$target/" "$pch/commands" | sed -E 's# -c [^ ]+ -o [^ ]+##
    s#-MMD -MF [^ ]+##; s# -fmodule-name="[^"]*"##; s# -include-pch [^ ]+ -w##')
  headers_of "$1" | write_changed "$pch/$1.h"
  command+=" -w -MD -MF pch/$1.d -x c++-header -c pch/$1.h -o pch/$1.pch"
  ! precompiled "$1" "$command" || return 0
  rm -f "$pch/$1.key"
  in_root "cd out && $command"
  printf '%s' "$command" >"$pch/$1.key"
}

precompile_headers() {
  local name done=0
  for name in tq base comp; do
    precompile "$name"
    done=$((done + 1))
    echo "done $((100 * done / 3))"
  done
}

# First the checksum's file, then the archive by one rename: who finds the archive finds it whole.
publish() {
  local library=$src/out/obj/librusty_v8.a size position packer
  size=$(stat -c %s "$library")
  gzip -9 -n -c <"$library" >"$out/.$archive.part" &
  packer=$!
  while sleep 1 && [ -d "/proc/$packer" ]; do
    position=$(awk '$1 == "pos:" { print $2 }' "/proc/$packer/fdinfo/0" 2>/dev/null || true)
    echo "done $((100 * ${position:-0} / size))"
  done
  wait "$packer"
  (cd "$out" && sha256sum ".$archive.part" | sed "s/ \.$archive\.part/ $archive/" >"$archive.sha256")
  chown "${option[owner]}" "$out/.$archive.part" "$out/$archive.sha256"
  sync "$out/.$archive.part"
  mv "$out/.$archive.part" "$out/$archive"
}

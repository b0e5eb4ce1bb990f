#!/usr/bin/env bash
# Tests of v8-env.sh and build-v8.sh: which archive is chosen, and that a build says what it does, publishes whole files and caches
# them. Nothing is downloaded or compiled: curl, chroot, debootstrap and their like are replaced by scripts that answer as told.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0
# shellcheck source=scripts/v8-env.sh
. "$repository/scripts/v8-env.sh"

check() { # NAME EXPECTED ACTUAL
  if [ "$2" = "$3" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED %s\n  expected: %s\n  found:    %s\n' "$1" "$2" "$3"
  fi
}

stub() { # NAME BODY
  mkdir -p "$scratch/bin"
  printf '#!/bin/bash\n%s\n' "$2" >"$scratch/bin/$1"
  chmod +x "$scratch/bin/$1"
}

# A copy of what the scripts read of the repository, so that "beside it" is ours to fill.
fresh_place() {
  rm -rf "$scratch/place" "$scratch/calls"
  mkdir -p "$scratch/place/repo/scripts" "$scratch/place/home"
  cp "$repository/scripts/v8-env.sh" "$repository/scripts/build-v8.sh" "$scratch/place/repo/scripts/"
  cp "$repository/Cargo.lock" "$scratch/place/repo/"
}

put_archive() { # FOLDER
  mkdir -p "$1"
  printf 'archive' >"$1/$(v8_archive_name)"
}

# Prints what is chosen: the value of RUSTY_V8_ARCHIVE, or "download", or "refused".
choose() { # [NAME=VALUE…]
  # shellcheck disable=SC2016 # for the inner shell
  env -u RUSTY_V8_ARCHIVE -u RUSTY_V8_MIRROR -u XDG_CACHE_HOME -u CARGO_TARGET_DIR \
    PATH="$scratch/bin:$PATH" HOME="$scratch/place/home" V8_BUILD="$scratch/bin/fake-build" "$@" bash -c '
    cd /; . "$1/scripts/v8-env.sh"
    v8_choose "$1" 2>"$1/said" || { echo refused; exit; }
    echo "${RUSTY_V8_ARCHIVE-download}"' choose "$scratch/place/repo"
}

cache() {
  printf '%s/place/home/.cache/process-pool/v8/%s' "$scratch" "$(v8_version "$repository")"
}

answers() { stub curl "echo curl >>$scratch/calls; exit $1"; }
stub fake-build "echo build >>$scratch/calls; mkdir -p \"\$1\"; printf built >\"\$1/$(v8_archive_name)\""

fresh_place; answers 0
check "the release page is used when nothing is at hand" download "$(choose)"
check "it was asked once" curl "$(cat "$scratch/calls")"

fresh_place; answers 7
check "without archive and page the project builds its own" "$(cache)" "$(choose)"
check "the page was asked before" "curl build" "$(xargs <"$scratch/calls")"
check "and the next time it is there" "$(cache)" "$(choose)"
check "without asking or building again" "curl build" "$(xargs <"$scratch/calls")"

fresh_place; answers 0; put_archive "$scratch/place/shared/v8"
check "the folder beside the repository is used when the archive lies there" "$scratch/place/shared/v8" "$(choose)"
put_archive "$scratch/place/mine"
check "a folder that is named goes before it" "$scratch/place/mine" "$(choose RUSTY_V8_ARCHIVE="$scratch/place/mine")"
check "a relative one becomes absolute" "$scratch/place/mine" "$(choose RUSTY_V8_ARCHIVE="${scratch#/}/place/mine")"
check "an empty one counts as not set" "$scratch/place/shared/v8" "$(choose RUSTY_V8_ARCHIVE=)"
check "one that does not exist is refused" refused "$(choose RUSTY_V8_ARCHIVE=/nowhere/at/all)"
check "by its name" 1 "$(grep -c /nowhere/at/all "$scratch/place/repo/said")"
check "nothing of this asked the network" absent "$([ -e "$scratch/calls" ] && echo called || echo absent)"

fresh_place; answers 0; put_archive "$(cache)"
(cd "$(cache)" && sha256sum "$(v8_archive_name)" >"$(v8_archive_name).sha256")
check "a cached archive goes before the network" "$(cache)" "$(choose)"
printf 'x' >>"$(cache)/$(v8_archive_name)"
check "one that does not match its checksum is left alone" download "$(choose)"

fresh_place; answers 7; mkdir -p "$scratch/place/repo/target/release/gn_out/obj"
touch "$scratch/place/repo/target/release/gn_out/obj/librusty_v8.sum"
check "what was downloaded before needs no network" download "$(choose)"

fresh_place; stub fake-build 'exit 1'; answers 7
check "a build that fails is a failure" refused "$(choose)"

# The build itself, with a compiler that is none.
if [ "$(uname -sm)" = "Linux x86_64" ] && [ "$(id -u)" = 0 ]; then
  fresh_place
  for tool in apt-get debootstrap mountpoint mount umount cp; do stub "$tool" "exit 0"; done
  stub cargo "[ \"\$1\" = metadata ] && echo '{\"packages\":[]}'; exit 0"
  # shellcheck disable=SC2016 # for the script that is written
  stub chroot 'out=$1/v8src/out; mkdir -p "$out/gen/v8/torque-generated/src/builtins" "$out/obj/v8"
    echo "#include \"a.h\"" >"$out/gen/v8/torque-generated/src/builtins/array-slice-tq-csa.cc"
    for t in torque_generated_initializers v8_initializers v8_base_without_compiler v8_compiler; do
      echo "cflags_cc = -O2" >"$out/obj/v8/$t.ninja"; done
    case $4 in
      *commands*) for t in torque_generated_initializers v8_base_without_compiler v8_compiler; do
        echo "clang -c a.cc -o obj/v8/$t/a.o"; done ;;
      *rusty_v8*) echo "[1/200] CXX a.o"; echo "[2/200] CXX b.o"; echo "[200/200] AR"; echo lib >"$out/obj/librusty_v8.a" ;;
    esac'
  stub cp "mkdir -p $scratch/root/v8src/build/linux"
  build() {
    PATH="$scratch/bin:$PATH" HOME="$scratch/place/home" V8_BUILD_ROOT="$scratch/root" "$scratch/place/repo/scripts/build-v8.sh" "$@" 2>&1
  }
  said=$(build "$scratch/out" || true)
  check "it says how long it takes" 1 "$(grep -c 'about an hour on two cores' <<<"$said")"
  check "it shows its progress, once a percent" 3 "$(grep -c '/200\] [0-9]* %' <<<"$said")"
  check "it says where the result is" 1 "$(grep -c "done: $scratch/out/$(v8_archive_name)" <<<"$said")"
  check "the result is the library, compressed" lib "$(zcat "$scratch/out/$(v8_archive_name)" || true)"
  check "its checksum lies beside it" OK "$(cd "$scratch/out" && sha256sum --check "$(v8_archive_name).sha256" | awk '{print $2}')"
  check "nothing half-written is left" 0 "$(find "$scratch/out" -name '*.part' | wc -l)"
  check "a second run finds it" 1 "$(build "$scratch/out" | grep -c 'already there')"
  stub chroot 'echo "clang: no"; exit 1'
  said=$(build "$scratch/other" || true)
  check "a failure shows the log's end" 1 "$(grep -c 'clang: no' <<<"$said")"
  check "and leaves no archive" 0 "$(find "$scratch/other" -name '*.gz' | wc -l)"
fi
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]

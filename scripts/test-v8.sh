#!/usr/bin/env bash
# Tests of v8-env.sh and build-v8.sh: which archive is chosen, what a build asks for before it
# starts, and how it reaches root. scripts/test-v8-compile.sh tests the build itself. Nothing is
# downloaded or compiled: curl, cargo, sudo and their like are replaced by scripts that answer as
# told.
# shellcheck disable=SC2016 # the bodies of stubs are for their own shells
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/v8-env.sh
. "$repository/scripts/v8-env.sh"
# shellcheck source=scripts/v8-stubs.sh
. "$repository/scripts/v8-stubs.sh"

put_archive() { # FOLDER
  mkdir -p "$1"
  printf 'archive' >"$1/$(v8_archive_name)"
}

# Prints what is chosen: the value of RUSTY_V8_ARCHIVE, or "download", or "refused".
choose() { # [NAME=VALUE…]
  # shellcheck disable=SC2016 # for the inner shell
  env -u RUSTY_V8_ARCHIVE -u RUSTY_V8_ARCHIVE_SHA256 -u RUSTY_V8_MIRROR -u XDG_CACHE_HOME \
    -u CARGO_TARGET_DIR PATH="$scratch/bin:$PATH" HOME="$scratch/place/home" \
    V8_BUILD="$scratch/bin/fake-build" "$@" bash -c '
    cd /; . "$1/scripts/v8-env.sh"
    v8_choose "$1" 2>"$1/said" || { echo refused; exit; }
    echo "${RUSTY_V8_ARCHIVE-download}"' choose "$scratch/place/repo"
}
said() { grep -c -- "$1" "$scratch/place/repo/said" || true; }
called() { if [ -e "$scratch/calls" ]; then xargs <"$scratch/calls"; else echo nothing; fi; }

cache=$scratch/place/home/.cache/process-pool/v8/$(v8_version "$repository")
answers() { stub curl "echo curl >>$scratch/calls; [ $1 = 0 ] || echo 'curl: ($1) no route' >&2; exit $1"; }
fake_build() { stub fake-build "echo build >>$scratch/calls; mkdir -p \"\$1\"; printf built >\"\$1/$(v8_archive_name)\""; }

# --- which archive is chosen --------------------------------------------------------------------
fake_build
fresh_place; answers 0
check "the release page is used when nothing is at hand" download "$(choose)"
check "it was asked once" curl "$(called)"

fresh_place; answers 7
check "without archive and page the project builds its own" "$cache" "$(choose)"
check "saying why the page was of no use" 1 "$(said 'does not answer (curl: (7) no route)')"
check "the page was asked before" "curl build" "$(called)"
check "and the next time it is there" "$cache" "$(choose)"
check "without asking or building again" "curl build" "$(called)"

fresh_place; answers 0; put_archive "$scratch/place/shared/v8"
check "the folder beside the repository is used when the archive lies there" "$scratch/place/shared/v8" "$(choose)"
put_archive "$scratch/place/mine"
check "a folder that is named goes before it" "$scratch/place/mine" "$(choose RUSTY_V8_ARCHIVE="$scratch/place/mine")"
check "a relative one becomes absolute" "$scratch/place/mine" "$(choose RUSTY_V8_ARCHIVE="${scratch#/}/place/mine")"
check "a file can be named" "$scratch/place/mine/$(v8_archive_name)" \
  "$(choose RUSTY_V8_ARCHIVE="$scratch/place/mine/$(v8_archive_name)")"
check "an empty one counts as not set" "$scratch/place/shared/v8" "$(choose RUSTY_V8_ARCHIVE=)"
check "one that does not exist is refused" refused "$(choose RUSTY_V8_ARCHIVE=/nowhere/at/all)"
check "by its name" 1 "$(said /nowhere/at/all)"
mkdir "$scratch/place/empty"
check "a folder without the archive is refused" refused "$(choose RUSTY_V8_ARCHIVE="$scratch/place/empty")"
check "with the name of the file that is missing" 1 "$(said "holds no $(v8_archive_name)")"
check "nothing of this asked the network" nothing "$(called)"

fresh_place; answers 0; put_archive "$cache"
(cd "$cache" && sha256sum "$(v8_archive_name)" >"$(v8_archive_name).sha256")
check "a cached archive goes before the network" "$cache" "$(choose)"
printf 'x' >>"$cache/$(v8_archive_name)"
check "one that does not match its checksum is left alone" download "$(choose)"
check "and refused where it is named" refused "$(choose RUSTY_V8_ARCHIVE="$cache")"

fresh_place; answers 7; mkdir -p "$scratch/place/repo/target/release/gn_out/obj"
touch "$scratch/place/repo/target/release/gn_out/obj/librusty_v8.sum"
check "what was downloaded before needs no network" download "$(choose)"

fresh_place; stub fake-build 'exit 1'; answers 7
check "a build that fails is a failure" refused "$(choose)"
fake_build

# --- the packager's checksum --------------------------------------------------------------------
fresh_place; answers 0; put_archive "$scratch/place/shared/v8"; put_archive "$scratch/place/mine"
right=$(printf archive | sha256sum | cut -d ' ' -f 1) wrong=$(printf other | sha256sum | cut -d ' ' -f 1)
check "a named archive that matches its pin is used" "$scratch/place/mine" \
  "$(choose RUSTY_V8_ARCHIVE="$scratch/place/mine" RUSTY_V8_ARCHIVE_SHA256="${right^^}")"
check "one that does not is refused" refused \
  "$(choose RUSTY_V8_ARCHIVE="$scratch/place/mine" RUSTY_V8_ARCHIVE_SHA256="$wrong")"
check "with both checksums" 1 "$(said "has the SHA-256 $right, and RUSTY_V8_ARCHIVE_SHA256 wants $wrong")"
check "one that was only found is passed over" download "$(choose RUSTY_V8_ARCHIVE_SHA256="$wrong")"
check "a pin that is no checksum is refused" refused "$(choose RUSTY_V8_ARCHIVE_SHA256=abc)"
answers 7
check "no build is tried for a pin, which it cannot match" refused "$(choose RUSTY_V8_ARCHIVE_SHA256="$wrong")"
check "and nothing was built" 0 "$(grep -c build "$scratch/calls" || true)"

# --- a machine without curl ---------------------------------------------------------------------
# A PATH with what every Debian has, and nothing that could ask a web server.
mkdir -p "$scratch/basics"
for tool in bash env awk sha256sum cut realpath uname cat mkdir dirname grep; do
  ln -sf "$(command -v "$tool")" "$scratch/basics/$tool"
done
bare() { choose PATH="$scratch/basics"; }
fresh_place
check "a missing curl is not taken for a page that does not answer" refused "$(bare)"
check "it says what to install" 1 "$(said 'there is no curl: apt-get install curl')"
check "and builds nothing" nothing "$(called)"
put_archive "$cache"
check "nobody misses curl where an archive is at hand" "$cache" "$(bare)"
fresh_place
stub python3 'exit 0'
ln -sf "$scratch/bin/python3" "$scratch/basics/python3"
check "python3 does as well, as for the crate itself" download "$(bare)"
stub python3 'echo "python3: no route" >&2; exit 1'
check "and can say that nobody answers" "$cache" "$(bare)"
rm "$scratch/bin/python3"

# --- before a build -----------------------------------------------------------------------------
# build-v8.sh sees a machine of these stubs: who it is, what is installed, what is free.
machine() { # USER-ID
  fresh_place
  rm -rf "${scratch:?}/bin" "$scratch/crates"
  mkdir -p "$scratch/crates/v8" "$scratch/crates/icu/src"
  touch "$scratch/crates/v8/BUILD.gn" "$scratch/crates/icu/src/icudtl.dat"
  stub uname 'if [ "$1" = -m ]; then echo x86_64; else echo Linux x86_64; fi'
  stub id "echo $1"
  stub nproc 'echo 8'
  stub df 'echo Avail; echo 90000M'
  stub sudo "echo \"sudo \$*\" >>$scratch/calls"
  stub apt-get ''
  stub cargo "[ \"\$1\" != metadata ] || echo '{\"packages\":[{\"name\":\"a\",\"version\":\"1\",\"dependencies\":[{\"name\":\"v8\",\"source\":null}],\"manifest_path\":\"/a/Cargo.toml\"},{\"name\":\"v8\",\"version\":\"1\",\"manifest_path\":\"$scratch/crates/v8/Cargo.toml\"},{\"name\":\"deno_core_icudata\",\"version\":\"1\",\"manifest_path\":\"$scratch/crates/icu/Cargo.toml\"}]}'"
  local name
  for name in setup v8-compile; do
    printf '#!/bin/bash\necho "%s $*" >>%q\n' "$name" "$scratch/calls" >"$scratch/place/repo/scripts/$name.sh"
    chmod +x "$scratch/place/repo/scripts/$name.sh"
  done
}
build() { # [NAME=VALUE…] [ARGUMENT…]
  local settings=()
  while [[ ${1:-} == *=* ]]; do settings+=("$1"); shift; done
  env -u CI -u JOBS -u V8_BUILD_KEEP -u http_proxy -u https_proxy -u no_proxy -u XDG_CACHE_HOME PATH="$scratch/bin:$PATH" HOME="$scratch/place/home" \
    V8_BUILD_ROOT="$scratch/place/tree" V8_BUILD_MEMORY_MB=30000 "${settings[@]}" \
    "$scratch/place/repo/scripts/build-v8.sh" "$@" </dev/null 2>&1 || echo "exit code $?"
}
has() { grep -c -- "$1" <<<"$2" || true; }

machine 0
text=$(build "$scratch/out")
check "a build says how long it takes" 1 "$(has 'takes about 45 minutes' "$text")"
check "and what it needs of the disk" 1 "$(has 'needs 4 GB in' "$text")"
check "root needs no sudo, and the whole is handed on" \
  "setup v8 v8-compile --build-root $scratch/place/tree --out $scratch/out --version $(v8_version "$repository") --crate $scratch/crates/v8 --icu $scratch/crates/icu/src/icudtl.dat --jobs 8 --owner 0:0" \
  "$(called)"
machine 0
build V8_BUILD_KEEP=yes "$scratch/out" >/dev/null
check "a tree that is to be kept is kept" 1 "$(grep -c -- ' --keep$' "$scratch/calls")"

machine 1000
text=$(build "$scratch/out")
check "an ordinary user is asked for sudo, for that part alone" "sudo $scratch/place/repo/scripts/v8-compile.sh" \
  "$(tail -n 1 "$scratch/calls" | cut -d ' ' -f 1-2)"
check "the whole command is printed before" 1 "$(has "^  sudo $scratch/place/repo/scripts/v8-compile.sh --build-root .* --owner 1000:1000" "$text")"
check "the result is to be the user's" 1 "$(grep -c -- '--owner 1000:1000' "$scratch/calls")"
machine 1000
build http_proxy=http://proxy.example:3128 "$scratch/out" >/dev/null
check "the proxy is handed on" 1 "$(grep -c '^sudo env http_proxy=http://proxy.example:3128 /' "$scratch/calls")"
# A PATH of links to all programs but sudo.
rm "$scratch/bin/sudo"
mkdir "$scratch/links"
find /usr/bin /bin/ -maxdepth 1 ! -name sudo -exec ln -sf -t "$scratch/links" {} +
check "without sudo it says what to do as root" 1 \
  "$(has 'there is no sudo; run the command above as root' "$(build PATH="$scratch/bin:$scratch/links" "$scratch/out")")"

machine 0
build --yes "$scratch/out" >/dev/null
check "missing packages are left to setup.sh, before anything is built" "setup --yes v8" "$(head -n 1 "$scratch/calls")"
machine 0; echo 'exit 1' >>"$scratch/place/repo/scripts/setup.sh"
check "when they cannot be had nothing is built" "exit code 1" "$(build "$scratch/out" | tail -n 1)"
check "and nothing is fetched" "setup v8" "$(called)"

machine 0; stub df 'echo Avail; echo 3000M'
check "a disk that is too small is refused before anything is done" 1 "$(has 'has 2 GB free, and 4 are needed' "$(build "$scratch/out")")"
check "and nothing is started" nothing "$(called)"
machine 0
text=$(build V8_BUILD_MEMORY_MB=3000 "$scratch/out")
check "little memory means fewer jobs, and it says so" 1 "$(has 'compiler jobs: 2 instead of 8' "$text")"
check "which the build gets" 1 "$(grep -c -- '--jobs 2 ' "$scratch/calls")"
check "an explicit number stands, with a warning" 1 "$(has 'warning: JOBS=4' "$(build V8_BUILD_MEMORY_MB=3000 JOBS=4 "$scratch/out")")"
machine 0
check "too little for one job is refused" 1 "$(has 'one compiler job takes up to' "$(build V8_BUILD_MEMORY_MB=700 "$scratch/out")")"
check "before anything is started" nothing "$(called)"
machine 0
check "--check says that all is well" 1 "$(has 'can build V8 .*; compiler jobs: 8' "$(build --check)")"
check "and only looks" "setup --check v8" "$(called)"
machine 1000; mkdir "$scratch/place/tree"; stub stat 'if [ "$2" = %u ]; then echo 33; else echo www-data; fi'
check "root does not build in a stranger's folder" 1 "$(has 'belongs to www-data' "$(build "$scratch/out")")"
machine 0; put_archive "$scratch/there"
check "an archive that is there is not built again" 1 "$(has 'already there' "$(build "$scratch/there")")"

# --- the build itself ---------------------------------------------------------------------------
"$repository/scripts/test-v8-compile.sh" >"$scratch/compile.txt" 2>&1 || true
sed '$d' "$scratch/compile.txt"
read -r more_passed _ more_failed _ < <(grep -xE '[0-9]+ passed, [0-9]+ failed' "$scratch/compile.txt" || echo none)
if [ "$more_passed" = none ]; then
  check "test-v8-compile.sh comes to its end" "N passed, N failed" "$(tail -n 1 "$scratch/compile.txt")"
else
  passed=$((passed + more_passed)) failed=$((failed + more_failed))
fi
verdict

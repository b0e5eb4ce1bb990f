#!/usr/bin/env bash
# Finds out which programs this machine lacks, and installs the Debian packages that bring them.
#
#   scripts/setup.sh [--yes | --check] [GROUP…]
#
#   GROUP     what is going to be run: build, demo, test, systemd, v8 or ci; all but v8 and ci when none is named
#   --yes     install without asking
#   --check   install nothing; exit with 1 when something is missing
#
# It installs at once with --yes, with CI set, or as root without a terminal; on a terminal it asks first; otherwise it prints the
# apt-get line and exits with 1. It uses sudo when it does not run as root. demo.sh, test.sh and .ci/run call it first.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# debootstrap lies where an ordinary user's PATH does not lead.
PATH=$PATH:/usr/sbin:/sbin

# What is needed, the package that brings it on Debian 12, and the groups that need it. A name with a slash is a file, any other
# a program. This is the only list of its kind.
needed() {
  cat <<'TABLE'
cc                                    gcc              build v8
/usr/include/stdio.h                  libc6-dev        build v8
curl                                  curl             build demo
/etc/ssl/certs/ca-certificates.crt    ca-certificates  build
jq                                    jq               demo test systemd ci
python3                               python3          demo test
debootstrap                           debootstrap      systemd v8
c++                                   g++              ci
valgrind                              valgrind         ci
shellcheck                            shellcheck       ci
TABLE
}

die() { printf 'setup: %s\n' "$*" >&2; exit 1; }
have() {
  case $1 in
    */*) [ -e "$1" ] ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

# Fills missing_things and missing_packages.
find_missing() {
  local thing package groups group
  missing_things=() missing_packages=()
  while read -r thing package groups; do
    for group in $groups; do
      [[ " ${wanted[*]} " == *" $group "* ]] || continue
      have "$thing" || { missing_things+=("$thing (package $package)"); missing_packages+=("$package"); }
      break
    done
  done < <(needed)
}

# A toolchain is never installed here: how it comes to the machine is the user's choice.
check_rust() {
  local least found
  least=$(awk -F'"' '/^rust-version/ { print $2 }' "$repository/Cargo.toml")
  if ! command -v cargo >/dev/null; then
    [ ! -x "$HOME/.cargo/bin/cargo" ] || die "cargo is in $HOME/.cargo/bin, which is not in PATH; run: . $HOME/.cargo/env"
    die "Rust $least or later is missing; https://rustup.rs installs it for one user"
  fi
  found=$(rustc --version | awk '{ print $2 }')
  [ "$(printf '%s\n' "$least" "$found" | sort --version-sort | head -n 1)" = "$least" ] ||
    die "Rust $found is too old, $least or later is needed; run: rustup update"
}

may_install() {
  local answer
  [ "$mode" != check ] || return 1
  [ "$mode" != yes ] && [ -z "${CI:-}" ] || return 0
  if [ -t 0 ] && [ -t 2 ]; then
    read -r -p 'setup: install them now? [Y/n] ' answer
    case $answer in '' | [Yy] | [Yy][Ee][Ss]) return 0 ;; *) return 1 ;; esac
  fi
  [ "$(id -u)" = 0 ]
}

mode=ask wanted=()
for argument in "$@"; do
  case $argument in
    --yes | --check) mode=${argument#--} ;;
    build | demo | test | systemd | v8 | ci) wanted+=("$argument") ;;
    *) printf 'setup: %s is no option and no group\nusage: scripts/setup.sh [--yes | --check] [GROUP…]\n' "$argument" >&2; exit 2 ;;
  esac
done
[ "${#wanted[@]}" != 0 ] || wanted=(build demo test systemd)
# What most of the work is for: without it no package is of use.
[[ " ${wanted[*]} " != *" build "* ]] || check_rust

find_missing
[ "${#missing_packages[@]}" != 0 ] || exit 0
as_root=() noninteractive=(env DEBIAN_FRONTEND=noninteractive)
[ "$(id -u)" = 0 ] || as_root=(sudo)
# The commands are used by their names below.
# shellcheck disable=SC2034
repair=("${as_root[@]}" "${noninteractive[@]}" dpkg --configure -a)
# shellcheck disable=SC2034
update=("${as_root[@]}" apt-get update)
install=("${as_root[@]}" "${noninteractive[@]}" apt-get install -y --no-install-recommends)
commands=(update install)
# An installation that was interrupted, here or elsewhere, has to be finished before apt does anything else.
if [ -n "$(dpkg --audit 2>/dev/null)" ] || [ -n "$(ls "${DPKG_ADMINDIR:-/var/lib/dpkg}/updates" 2>/dev/null)" ]; then
  commands=(repair update install)
  install+=(--fix-broken)
fi
install+=("${missing_packages[@]}")
{
  printf 'setup: this machine lacks %d things that are needed:\n' "${#missing_things[@]}"
  printf '  %s\n' "${missing_things[@]}"
} >&2
command -v apt-get >/dev/null || die "there is no apt-get here; install these programs by this system's own means"
line=''
for command in "${commands[@]}"; do
  declare -n words=$command
  line+="${line:+ && }${words[*]}"
done
printf 'setup: the command that installs them:\n  %s\n' "$line" >&2
may_install || die "nothing was installed; run the command above, or this script with --yes"
trap 'die "interrupted; run the same command again, it continues"' INT TERM
for command in "${commands[@]}"; do
  declare -n words=$command
  # What dpkg cannot finish yet, for want of other packages, the installation finishes.
  "${words[@]}" >&2 || [ "$command" = repair ] || die "failed to install the packages: ${words[*]}"
done
find_missing
[ "${#missing_things[@]}" = 0 ] || die "still missing after the installation: ${missing_things[*]}"

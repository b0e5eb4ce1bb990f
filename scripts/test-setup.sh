#!/usr/bin/env bash
# Tests of setup.sh and of what demo.sh says when a step fails. Nothing is installed: the scripts see a folder of programs of the
# test's own, in which apt-get and sudo write down how they were called.
#
# The last line counts: "N passed, N failed".
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/stubs.sh
. "$repository/scripts/stubs.sh"
said='' code=0
bin=$scratch/bin

check_says() { # NAME PHRASE
  case $said in
    *"$2"*) passed=$((passed + 1)) ;;
    *)
      failed=$((failed + 1))
      printf 'FAILED %s\n  expected to read: %s\n  found: %s\n' "$1" "$2" "$said"
      ;;
  esac
}

# A machine that has everything, seen by an ordinary user.
fresh_machine() {
  local program
  rm -rf "$bin" "$scratch/calls"
  mkdir -p "$bin"
  for program in bash env awk sort head cat dirname ls; do ln -s "$(command -v "$program")" "$bin/$program"; done
  for program in cc curl jq python3 debootstrap; do stub "$program" 'exit 0'; done
  stub cargo 'exit 0'
  stub rustc 'echo "rustc 1.95.0 (59807616e 2026-04-14)"'
  stub id 'echo 1000'
  stub dpkg "[ \"\$1\" = --audit ] || echo \"dpkg \$*\" >>$scratch/calls"
  mkdir -p "$scratch/dpkg/updates"
  rm -f "$scratch/dpkg/updates/0001"
  # It brings each program that a package of this list is named after.
  stub apt-get "echo \"apt-get \$* \${DEBIAN_FRONTEND:-}\" >>$scratch/calls
    [ \"\$1\" = install ] || exit 0
    for package; do case \$package in jq | python3) printf '#!/bin/bash\n' >$bin/\$package; chmod +x $bin/\$package ;; esac; done"
  stub chmod 'exec /bin/chmod "$@"'
  stub sudo "echo \"sudo \$*\" >>$scratch/calls; exec \"\$@\""
}

# Runs setup.sh there, without a terminal. Leaves what it said in $said and its exit code in $code.
setup() { # [NAME=VALUE…] [ARGUMENT…]
  local settings=()
  while [[ ${1:-} == *=* ]]; do settings+=("$1"); shift; done
  code=0
  said=$(env -i PATH="$bin" HOME="$scratch" DPKG_ADMINDIR="$scratch/dpkg" ${settings[@]+"${settings[@]}"} "$BASH" "$repository/scripts/setup.sh" "$@" 2>&1 </dev/null) || code=$?
}
# The same on a terminal whose user types ANSWER.
setup_on_terminal() { # ANSWER
  code=0
  said=$(printf '%s\n' "$1" | script --quiet --return --command \
    "env -i PATH=$bin HOME=$scratch $BASH $repository/scripts/setup.sh" "$scratch/typescript") || code=$?
}
calls() { [ ! -e "$scratch/calls" ] || grep -c "$1" "$scratch/calls" || true; }

fresh_machine
setup
check "where nothing is missing it is silent" "" "$said"
check "and succeeds" 0 "$code"

fresh_machine; rm "$bin/jq" "$bin/python3"
setup
check "an ordinary user without a terminal is not asked and nothing is installed" "1 " "$code $(calls .)"
check_says "all that is missing is named" "jq (package jq)"
check_says "with its package" "python3 (package python3)"
check_says "and the one line that installs it, with sudo" \
  "sudo apt-get update && sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends jq python3"
setup build
check "a group that needs none of it succeeds" "0 " "$code $said"
setup --check
check "--check fails and installs nothing" "1 " "$code $(calls .)"
setup CI=true --check
check "also with CI" "1 " "$code $(calls .)"
setup CI=true
check "with CI it installs through sudo" "0 1" "$code $(calls 'sudo env .*install')"
check "without recommended packages, asking nothing" 1 \
  "$(calls '^apt-get install -y --no-install-recommends jq python3 noninteractive')"

fresh_machine; rm "$bin/jq"; touch "$scratch/dpkg/updates/0001"
setup --yes
check "an installation that was interrupted is finished first" "0 1" \
  "$code $(calls '^dpkg --configure -a')"
check "and what it broke is mended" 1 "$(calls '^apt-get install -y --no-install-recommends --fix-broken jq')"
fresh_machine; rm "$bin/jq"
setup --yes
check "so it does with --yes" "0 1" "$code $(calls 'sudo env .*install')"
fresh_machine; rm "$bin/jq"; stub id 'echo 0'
setup
check "root without a terminal installs, without sudo" "0 1 0" "$code $(calls '^apt-get install') $(calls sudo)"
fresh_machine; rm "$bin/jq"; stub apt-get 'exit 0'
setup --yes
check "what is still missing after the installation is a failure" 1 "$code"
check_says "that names it" "still missing after the installation: jq (package jq)"
fresh_machine; rm "$bin/jq"; stub apt-get 'exit 100'
setup --yes
check "a failed installation is a failure" 1 "$code"
check_says "that names the command" "failed to install the packages: sudo apt-get update"
fresh_machine; rm "$bin/jq" "$bin/apt-get"
setup --yes
check "where there is no apt-get it stops" 1 "$code"
check_says "and says so" "there is no apt-get here"
fresh_machine; rm "$bin/cargo"
setup
check "without Rust it stops" 1 "$code"
check_says "and says where Rust comes from" "rustup.rs"
fresh_machine; stub rustc 'echo "rustc 1.63.0"'
setup
check_says "a Rust that is too old is named" "Rust 1.63.0 is too old"
setup --cheque
check "an unknown option is refused" 2 "$code"
check_says "by its name" "--cheque is no option"

if command -v script >/dev/null; then
  fresh_machine; rm "$bin/jq"
  setup_on_terminal n
  check "on a terminal a no installs nothing" "1 " "$code $(calls .)"
  check_says "after the question" "install them now?"
  setup_on_terminal ''
  check "and an empty answer is a yes" "0 1" "$code $(calls 'sudo env .*install')"
else
  skip "setup.sh on a terminal: it needs script (apt-get install bsdutils)"
fi

# A demonstration whose supervisor ends at its start, and one that does not answer.
failing_demo() { # BODY-OF-THE-SUPERVISOR
  mkdir -p "$scratch/target/release"
  printf '#!/bin/bash\n%s\n' "$1" >"$scratch/target/release/pool-supervisor"
  printf '#!/bin/bash\nexit 125\n' >"$scratch/target/release/poolctl"
  chmod +x "$scratch/target/release"/*
  code=0
  said=$(CARGO_TARGET_DIR=$scratch/target DEMO_BUILD=no DEMO_NPM=no "$repository/scripts/demo.sh" 2>&1 </dev/null) || code=$?
}
if "$repository/scripts/setup.sh" --check demo 2>/dev/null; then
  failing_demo 'echo "failed to bind" >&2; exit 1'
  check "a demonstration that fails is a failure" 1 "$code"
  check_says "that names the step" 'failed in the step "The supervisor"'
  check_says "and the reason" "the supervisor ended at its start"
  check_says "and shows the log" "failed to bind"
  failing_demo 'exit 1'
  case $said in
    *"the end of what"*) check "a log that says nothing is not shown" "no log" "$said" ;;
    *) check "a log that says nothing is not shown" 1 "$code" ;;
  esac
else
  skip "what a failing demonstration says: it needs more programs (scripts/setup.sh demo)"
fi
verdict

# shellcheck shell=bash
# What the tests of the scripts share: a scratch folder, programs that are replaced, and the count.
# Sourced.
scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
passed=0 failed=0

check() { # NAME EXPECTED ACTUAL
  if [ "$2" = "$3" ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'FAILED %s\n  expected: %s\n  found:    %s\n' "$1" "$2" "$3"
  fi
}

skip() { printf 'skipped: %s\n' "$*"; }

stub() { # NAME BODY
  mkdir -p "$scratch/bin"
  # It may be a link to the real program.
  rm -f "$scratch/bin/$1"
  printf '#!/bin/bash\n%s\n' "$2" >"$scratch/bin/$1"
  chmod +x "$scratch/bin/$1"
}

verdict() {
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
}

# shellcheck shell=bash
# shellcheck disable=SC2154 # the test sets `repository`
# What the tests of the V8 scripts share: a scratch folder, programs that are replaced, a copy of
# the scripts, and the count. Sourced.
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
  printf '#!/bin/bash\n%s\n' "$2" >"$scratch/bin/$1"
  chmod +x "$scratch/bin/$1"
}

# A copy of what the scripts read of the repository, so that "beside it" is ours to fill.
fresh_place() {
  rm -rf "$scratch/place" "$scratch/calls"
  mkdir -p "$scratch/place/repo/scripts" "$scratch/place/home"
  cp "$repository"/scripts/{v8-env,v8-progress,v8-phases,build-v8,v8-compile}.sh "$repository/scripts/v8-flags.py" \
    "$scratch/place/repo/scripts/"
  cp "$repository/Cargo.lock" "$scratch/place/repo/"
}

verdict() {
  printf '%d passed, %d failed\n' "$passed" "$failed"
  [ "$failed" = 0 ]
}

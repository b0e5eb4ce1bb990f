#!/usr/bin/env bash
# Every test: the scripts', each package's own, the promises to users on real processes, the systemd unit, and the stress runs.
#
#   scripts/test.sh              STRESS_SECONDS=30 for each stress run, 0 for none; TEST_THREADS=4 pools at once
#
# The last line counts: "N passed, N failed". What this machine cannot test says "skipped: …", which is not counted; the end of
# the output repeats these lines.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
seconds=${STRESS_SECONDS:-30} threads=${TEST_THREADS:-4}
scripts/setup.sh build test systemd
results=$(mktemp) skipped=$(mktemp) output=$(mktemp)
trap 'rm -f "$results" "$skipped" "$output"' EXIT
failed=0
section() { printf '\n== %s  (%s s so far)\n' "$*" "$SECONDS"; }
# Runs a command, shows what it says, and keeps the lines that count and those about what was skipped. All of it is read before
# this returns: a filter in the background could lose the last lines. A script that was skipped as a whole ends with 77.
counted() {
  local code=0
  "$@" 2>&1 | tee "$output" || code=$?
  [ "$code" = 0 ] || [ "$code" = 77 ] || failed=1
  grep -aE '^(test result: |[0-9]+ passed, [0-9]+ failed)' "$output" >>"$results" || true
  grep -aoE '^skipped( in [^ ]+)?: .*' "$output" >>"$skipped" || true
}

section "the scripts"
counted scripts/test-setup.sh
counted scripts/test-v8.sh
counted python3 benches/test_report.py
counted python3 protocol/test_golden.py
section "building the programs"
scripts/plan.sh
scripts/build.sh
section "building the tests"
# Dependencies with their debug assertions; what the process tests run is the release build above.
scripts/cargo.sh test --workspace --no-run --quiet
section "each package's own tests"
# All of them, also when one has failed: the sum at the end is of all.
counted scripts/cargo.sh test --workspace --exclude pool-tests --quiet --no-fail-fast
section "promises to users, on real processes"
counted scripts/cargo.sh test --package pool-tests --quiet --no-fail-fast -- --test-threads="$threads"
section "npm packages, in a pool"
counted scripts/test-packages.sh
section "the unit, under a systemd of its own"
counted scripts/test-systemd.sh
# A stress run says what it saw, and its exit code is its verdict.
stress() { # SCRIPT
  local code=0
  "$1" "${STRESS_SEED:-1}" "$seconds" || code=$?
  case $code in
    0) echo "1 passed, 0 failed" ;;
    77) return 77 ;;
    *) echo "0 passed, 1 failed"; return 1 ;;
  esac
}
if [ "$seconds" != 0 ]; then
  for script in tests/stress/*.sh; do
    section "stress: $(basename "$script" .sh), $seconds s"
    counted stress "$script"
  done
fi
section "all tests"
sort -u "$skipped"
# Cargo counts a test that was skipped among those that passed.
awk -v trouble="$failed" '
  /^skipped: [^ ]+::[^ ]+: / { passed -= 1 }
  /^test result: / { passed += $4; failed += $6 }
  /^[0-9]+ passed, / { passed += $1; failed += $3 }
  END {
    if (trouble && !failed) failed = 1  # a test program that did not get as far as counting
    printf "%d passed, %d failed\n", passed, failed
    exit failed != 0
  }' "$results" "$skipped"

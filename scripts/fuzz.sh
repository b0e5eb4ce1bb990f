#!/usr/bin/env bash
# Fuzzes what strangers can send: frames, sessions, tasks, configurations, URLs, commands. Stable Rust, a C++ compiler, no V8.
#
#   scripts/fuzz.sh [SECONDS [TARGET…]]     60 for each target; FUZZ_SEED=1, FUZZ_JOBS= as many at once as there are CPUs
#
# The exit code is the verdict. A finding lies where it is said, and is replayed by giving it to the program that is said too.
# The last line counts: "N passed, N failed".
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
seconds=${1:-60} seed=${FUZZ_SEED:-1} jobs=${FUZZ_JOBS:-$(nproc)}
shift $(($# > 0))
case $seconds$seed$jobs in
  *[!0-9]*) printf 'fuzz.sh: SECONDS, FUZZ_SEED and FUZZ_JOBS are numbers\n' >&2; exit 2 ;;
esac
targets=("$@")
if [ "${#targets[@]}" = 0 ]; then
  for program in fuzz/src/bin/fuzz_*.rs; do
    program=${program##*/fuzz_}
    targets+=("${program%.rs}")
  done
fi

# Coverage by LLVM's own pass, which stable Rust gives access to: a counter for every edge, and what comparisons compare, so that
# the engine finds the way through them. No sanitizer: those need a nightly compiler, and there is hardly any unsafe code here.
flags="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares"
# With a target named, the flags are not for build scripts and macros, and other builds keep what they have.
host=$(rustc -vV | awk '/^host: / { print $2 }')
RUSTFLAGS=$(xargs <<<"$flags") cargo build --package pool-fuzz --features engine --bins --profile fuzz --target "$host"
folder=${CARGO_TARGET_DIR:-$repository/target}/$host/fuzz
work=$folder/work

# One target to its end. Memory, the time of one input and the whole are bounded by the engine, and again from outside.
fuzz() { # TARGET
  local name=$1 log=$work/$1/log status=0
  mkdir -p "$work/$name/corpus" "$work/$name/findings"
  # What an earlier run found comes first: it is a finding again until it is mended.
  local known=("$work/$name/findings" "fuzz/corpus/$name")
  [ ! -d "fuzz/regressions/$name" ] || known+=("fuzz/regressions/$name")
  touch "$work/$name/begun"
  timeout --kill-after=10 $((seconds + 120)) "$folder/fuzz_$name" -max_total_time="$seconds" -seed="$seed" -timeout=10 \
    -rss_limit_mb=1024 -max_len=4096 -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$work/$name/findings/" \
    "$work/$name/corpus" "${known[@]}" >"$log" 2>&1 </dev/null || status=$?
  local runs edges
  runs=$(awk '/^stat::number_of_executed_units:/ { print $2 }' "$log")
  edges=$(awk '/inline 8-bit counters\):/ { sub(/^.*\(/, ""); print $1; exit }' "$log")
  # The engine's last word: "#N DONE cov: N ft: N corp: N/NKb …"
  local reached
  reached=$(awk '/ cov: / { for (i = 1; i < NF; i++) if ($i ~ /^(cov|ft|corp):$/) at[$i] = $(i + 1) }
    END { sub(/\/.*/, "", at["corp:"]); printf "%s edges, %s features, %s inputs kept", at["cov:"], at["ft:"], at["corp:"] }' "$log")
  if [ "$status" = 0 ] && [ "${runs:-0}" -gt 0 ] && [ "${edges:-0}" -gt 0 ]; then
    printf '%-8s seed %s, %s s: %s executions, %s (of %s edges in the program)\n' "$name" "$seed" "$seconds" "$runs" "$reached" "$edges"
    return 0
  fi
  printf '%-8s seed %s: FAILED with exit code %s after %s executions; the end of %s:\n' "$name" "$seed" "$status" "${runs:-no}" "$log"
  grep -aE 'panicked at|^SUMMARY|^==[0-9]+== ERROR' -A 3 "$log" | head -n 20 || true
  tail -n 12 "$log"
  local found
  for found in "$work/$name/findings"/*; do
    [ "$found" -ot "$work/$name/begun" ] || [ ! -f "$found" ] || printf '  %s\n    replay it: %s %s\n    keep it:   cp %s fuzz/regressions/%s/\n' \
      "$found" "$folder/fuzz_$name" "$found" "$found" "$name"
  done
  return 1
}

passed=0 failed=0 running=0
finish_one() {
  if wait -n; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  running=$((running - 1))
}
for name in "${targets[@]}"; do
  [ -x "$folder/fuzz_$name" ] || { printf 'fuzz.sh: there is no target %s\n' "$name" >&2; exit 2; }
  [ "$running" -lt "$jobs" ] || finish_one
  fuzz "$name" &
  running=$((running + 1))
done
while [ "$running" -gt 0 ]; do finish_one; done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]

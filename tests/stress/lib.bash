# shellcheck shell=bash
# What the stress scripts share: a pool in a temporary folder that is ended whatever happens, and a verdict. Sourced.
#
# The exit code is the verdict; 77 is that this machine lacks something, and nothing was tried.
#
# Everything is on this machine: Unix sockets, and loopback where HTTP is wanted. Only processes that were started here are signalled.
set -Eeuo pipefail
seed=${1:-1} seconds=${2:-30}
case $seed$seconds in *[!0-9]*) printf 'usage: %s [SEED [SECONDS]]\n' "$0" >&2; exit 2 ;; esac
RANDOM=$seed
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/skip.bash
. "$repository/tests/skip.bash"
bin=${POOL_BIN_DIR:-${CARGO_TARGET_DIR:-$repository/target}/release}
name=$(basename "$0" .sh)
needs "stress::$name" jq jq
for program in pool-supervisor pool-worker poolctl; do
  [ -x "$bin/$program" ] || { printf '%s: %s is not built; run scripts/build.sh\n' "$name" "$bin/$program" >&2; exit 2; }
done
bin=$(cd "$bin" && pwd)
poolctl=$bin/poolctl
scratch=$(mktemp -d "/tmp/pool-$name-XXXXXX")
supervisor=''
jobs_to_end=()

finish() {
  local code=$? job
  trap - EXIT
  for job in ${jobs_to_end[@]+"${jobs_to_end[@]}"}; do kill -KILL "$job" 2>/dev/null || true; done
  [ -z "$supervisor" ] || kill -KILL "$supervisor" 2>/dev/null || true
  if [ "$code" != 0 ]; then
    printf '%s: FAILED with seed %s (run again: %s %s %s); the end of the log:\n' "$name" "$seed" "$0" "$seed" "$seconds" >&2
    tail -n 30 "$scratch/log" >&2 2>/dev/null || true
  fi
  rm -rf "$scratch"
  exit "$code"
}
trap finish EXIT
fail() { printf '%s: %s\n' "$name" "$*" >&2; exit 1; }

start_pool() { # CONFIG-JSON
  printf '%s' "$1" >"$scratch/config.json"
  export POOL_SOCKET=$scratch/run/pool.sock STATE_DIRECTORY=$scratch/state CACHE_DIRECTORY=$scratch/cache
  "$bin/pool-supervisor" --config "$scratch/config.json" 2>"$scratch/log" &
  supervisor=$!
  for _ in $(seq 400); do
    "$poolctl" status >/dev/null 2>&1 && return
    kill -0 "$supervisor" 2>/dev/null || fail "the supervisor ended at its start"
    sleep 0.05
  done
  fail "the supervisor does not answer"
}

stop_pool() {
  local code=0
  kill -TERM "$supervisor"
  wait "$supervisor" || code=$?
  supervisor=''
  [ "$code" = 0 ] || fail "the supervisor exited with $code"
}

status() { "$poolctl" status --json | jq "$1"; }
descriptors() { find "/proc/$supervisor/fd" -mindepth 1 2>/dev/null | wc -l; }
resident_kib() { awk '/^VmRSS/ {print $2}' "/proc/$supervisor/status"; }
# Waits until a jq test of the status holds.
until_status() { # TEST
  for _ in $(seq 600); do
    [ "$(status "$1")" = true ] && return
    sleep 0.05
  done
  fail "waited in vain for: $1; $("$poolctl" status --json)"
}
out_of_time() { [ "$SECONDS" -ge "$seconds" ]; }

#!/usr/bin/env bash
# Workers are started and ended by the hundred, by recycling, timeouts, cancels and kills, and programs run; the supervisor must hold as
# many descriptors, children and threads after it as before.
#
#   fd_leak.sh [SEED [SECONDS]]       the exit code is the verdict
# shellcheck source=tests/stress/lib.bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

start_pool '{"pool": {"minWorkers": 2, "maxWorkers": 2, "autoScale": false, "maxTasksPerWorker": 5, "workerIdleTimeout": 200},
  "http": {"listen": "off"}, "log": {"level": "error"}, "shell": {"allow": [{"program": "/bin/echo", "args": "[a-z]+"}]}}'

churn() { # one round of everything that starts and ends processes
  local pid
  {
    for _ in $(seq 40); do printf '{"type":"execute-code","code":"1","maxAttempts":5,"retry":{"initialDelay":1}}\n'; done
    printf '{"type":"execute-code","code":"for(;;);","timeout":20,"maxAttempts":1}\n'
    printf '{"type":"shell-command","program":"/bin/echo","args":["x"]}\n'
  } | "$poolctl" submit >/dev/null 2>&1 || [ $? = 1 ] || fail "poolctl submit broke off"
  timeout --signal=INT 0.3 "$poolctl" run code 'for(;;);' >/dev/null 2>&1 || true
  pid=$("$poolctl" workers --json | jq 'first(.[].pid) // empty')
  if [ -n "$pid" ] && [ "$(awk '/^PPid/ {print $2}' "/proc/$pid/status" 2>/dev/null)" = "$supervisor" ]; then
    kill -KILL "$pid" 2>/dev/null || true
  fi
}
settle() { until_status '.tasks.running == 0 and .tasks.queued == 0 and .workers.spawning == 0 and .workers.total == 2'; sleep 1; }
children() { pgrep --parent "$supervisor" | wc -l; }
threads() { find "/proc/$supervisor/task" -mindepth 1 -maxdepth 1 | wc -l; }

churn; churn; settle
before="$(descriptors) descriptors, $(children) children, $(threads) threads"
low=$(descriptors) kids=$(children) strands=$(threads)
rounds=0
until out_of_time; do churn; rounds=$((rounds + 1)); done
settle
after="$(descriptors) descriptors, $(children) children, $(threads) threads"
# One of our own connections may be on its way out.
[ "$(descriptors)" -le $((low + 2)) ] || fail "before: $before; after $rounds rounds: $after"
[ "$(children)" -le "$kids" ] || fail "before: $before; after $rounds rounds: $after"
[ "$(threads)" -le "$strands" ] || fail "before: $before; after $rounds rounds: $after"
ended=$("$poolctl" workers --dead --json | jq length)
started=$("$poolctl" workers --json | jq --raw-output '[.[].workerId | split(".")[1] | tonumber] | add')
stop_pool
printf '%s: seed %s, %d s: %d rounds, %d workers started (%d deaths kept); before: %s; after: %s\n' \
  "$name" "$seed" "$SECONDS" "$rounds" "$started" "$ended" "$before" "$after"

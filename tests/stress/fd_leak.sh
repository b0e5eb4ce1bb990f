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
# Of each of its threads.
children() { cat "/proc/$supervisor/task"/*/children | wc -w; }
threads() { find "/proc/$supervisor/task" -mindepth 1 -maxdepth 1 | wc -l; }
held() { echo "$(descriptors) descriptors, $(children) children, $(threads) threads"; }

# Prints what is held once nothing has changed for a second: a worker that goes and its successor may both be there.
settled() {
  local seen='' now
  for _ in $(seq 60); do
    until_status '.tasks.running == 0 and .tasks.queued == 0 and .workers.spawning == 0 and .workers.total == 2'
    now=$(held)
    [ "$now" != "$seen" ] || break
    seen=$now
    sleep 1
  done
  echo "$now"
}

# What leaks stays, and what is on its way out goes. One of our own connections may be on its way out.
is_as_before() { [ "$(descriptors)" -le $((low + 2)) ] && [ "$(children)" -le "$kids" ] && [ "$(threads)" -le "$strands" ]; }

churn; churn
before=$(settled)
read -r low _ kids _ strands _ <<<"$before"
rounds=0
# The time may be over before the first round on a busy machine, and what ran no round shows nothing.
until out_of_time && [ "$rounds" -ge 3 ]; do churn; rounds=$((rounds + 1)); done
after=$(settled)
for _ in $(seq 100); do ! is_as_before || break; sleep 0.2; done
is_as_before || fail "before: $before; after $rounds rounds: $after; now: $(held)"
ended=$("$poolctl" workers --dead --json | jq length)
started=$("$poolctl" workers --json | jq --raw-output '[.[].workerId | split(".")[1] | tonumber] | add')
stop_pool
printf '%s: seed %s, %d s: %d rounds, %d workers started (%d deaths kept); before: %s; after: %s\n' \
  "$name" "$seed" "$SECONDS" "$rounds" "$started" "$ended" "$before" "$after"

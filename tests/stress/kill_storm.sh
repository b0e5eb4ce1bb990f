#!/usr/bin/env bash
# A random worker is killed every 50 ms under load. No task may be lost and none may end twice.
#
#   kill_storm.sh [SEED [SECONDS]]       the exit code is the verdict
# shellcheck source=tests/stress/lib.bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

start_pool '{"pool": {"minWorkers": 4, "maxWorkers": 4}, "http": {"listen": "off"}, "log": {"level": "error"}}'

# A task takes 0 to 20 ms and may be tried as often as it takes: the deaths all come from outside.
feed() {
  local n=0
  until [ -e "$scratch/over" ]; do
    for _ in $(seq 40); do
      n=$((n + 1))
      printf '{"type":"execute-code","code":"await new Promise(r => setTimeout(r, %d)); return %d","tag":"%d","maxAttempts":1000,"retry":{"initialDelay":1,"maxDelay":50}}\n' \
        $((RANDOM % 20)) "$n" "$n"
    done
    # About as fast as four workers that keep dying can go.
    sleep 0.1
  done
  printf '%d' "$n" >"$scratch/submitted"
}

feed | "$poolctl" submit --window 2000 >"$scratch/outcomes" &
client=$!
jobs_to_end+=("$client")
kills=0
# On a busy machine it takes longer until enough of them were.
until out_of_time && [ "$kills" -gt $((seconds * 5)) ]; do
  [ "$SECONDS" -lt $((seconds + 300)) ] || fail "only $kills workers were killed in $SECONDS s"
  # The supervisor starts all workers from one thread. Nothing is forked here but `sleep`, so that the pace holds.
  read -ra workers <"/proc/$supervisor/task/$supervisor/children" || true
  if [ "${#workers[@]}" != 0 ]; then
    kill -KILL "${workers[RANDOM % ${#workers[@]}]}" 2>/dev/null && kills=$((kills + 1))
  fi
  sleep 0.05
done
touch "$scratch/over"
wait "$client" || fail "poolctl submit exited with $?"
jobs_to_end=()
submitted=$(cat "$scratch/submitted")
ended=$(wc -l <"$scratch/outcomes")
different=$(jq --raw-output .tag "$scratch/outcomes" | sort -u | wc -l)
wrong=$(jq --compact-output 'select(.status != "succeeded" or (.result | tostring) != .tag)' "$scratch/outcomes" | head -n 3)
retried=$(jq 'select(.attempts > 1) | 1' "$scratch/outcomes" | wc -l)
[ "$ended" = "$submitted" ] || fail "$submitted tasks went in and $ended outcomes came out"
[ "$different" = "$submitted" ] || fail "$submitted tasks went in and $different different ones came out"
[ -z "$wrong" ] || fail "not every task gave its own result: $wrong"
[ "$retried" -gt 0 ] || fail "no task was ever tried again: the storm did not hit"
until_status '.tasks.running == 0 and .tasks.queued == 0'
[ "$(status ".tasks.completed")" = "$submitted" ] || fail "the pool counts $(status .tasks.completed) and not $submitted"
until_status '.workers.available == 4'
stop_pool
printf '%s: seed %s, %d s: %d workers killed, %d tasks in and out once each, %d of them tried again\n' \
  "$name" "$seed" "$SECONDS" "$kills" "$submitted" "$retried"

#!/usr/bin/env bash
# Ten thousand mixed tasks (at least; more while there is time): good ones, failing ones, hanging ones, hungry ones, programs and
# requests. Every one must end as it should, and the supervisor's memory must not grow with their number.
#
#   soak.sh [SEED [SECONDS]]       the exit code is the verdict
# shellcheck source=tests/stress/lib.bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

start_pool '{"pool": {"minWorkers": 2, "maxWorkers": 4, "resultTtl": "1s"}, "http": {"listen": "off"}, "log": {"level": "error"},
  "limits": {"memoryBytes": "64MiB"}, "shell": {"allow": [{"program": "/bin/echo", "args": "[a-z0-9]+"}]}, "projects": {"p1": {"limit": 1}, "p2": {"weight": 5}}}'

# The tag says how the task must end.
batch() { # SIZE SEED
  awk -v size="$1" -v seed="$2" 'BEGIN {
    srand(seed)
    for (i = 0; i < size; i++) {
      kind = rand() * 1000; project = "p" int(rand() * 4); priority = int(rand() * 11)
      common = sprintf("\"projectId\":\"%s\",\"priority\":%d,\"maxAttempts\":1", project, priority)
      if (kind < 500)      printf "{\"type\":\"execute-function\",\"fn\":\"(a, b) => a + b\",\"args\":[%d,1],\"tag\":\"ok\",%s}\n", i, common
      else if (kind < 750) printf "{\"type\":\"execute-code\",\"code\":\"return [%d].map(x => x * 2)[0]\",\"tag\":\"ok\",%s}\n", i, common
      else if (kind < 850) printf "{\"type\":\"execute-code\",\"code\":\"await new Promise(r => setTimeout(r, 2)); return 1\",\"tag\":\"ok\",%s}\n", common
      else if (kind < 950) printf "{\"type\":\"execute-code\",\"code\":\"throw new Error(%d)\",\"tag\":\"JS_EXCEPTION\",%s}\n", i, common
      else if (kind < 975) printf "{\"type\":\"execute-code\",\"code\":\"new Map()\",\"tag\":\"RESULT_NOT_SERIALIZABLE\",%s}\n", common
      else if (kind < 985) printf "{\"type\":\"shell-command\",\"program\":\"/bin/echo\",\"args\":[\"n%d\"],\"tag\":\"ok\",%s}\n", i, common
      else if (kind < 993) printf "{\"type\":\"http-request\",\"url\":\"http://127.0.0.1:1/\",\"tag\":\"URL_DENIED\",%s}\n", common
      else if (kind < 996) printf "{\"type\":\"shell-command\",\"program\":\"/bin/rm\",\"tag\":\"COMMAND_DENIED\",%s}\n", common
      else if (kind < 998) printf "{\"type\":\"execute-code\",\"code\":\"for(;;);\",\"timeout\":50,\"tag\":\"TIMEOUT\",%s}\n", common
      else                 printf "{\"type\":\"execute-code\",\"code\":\"const a = []; for (;;) a.push(new Array(1000).fill(a.length))\",\"tag\":\"MEMORY_LIMIT\",%s}\n", common
    }
  }'
}

total=0 rounds=0 first_kib=0
while [ "$total" -lt 10000 ] || ! out_of_time; do
  rounds=$((rounds + 1))
  batch 2500 $((seed * 1000 + rounds)) >"$scratch/tasks"
  # 1: some tasks of the mix fail, as they should.
  "$poolctl" submit "$scratch/tasks" --window 256 >"$scratch/outcomes" 2>/dev/null || [ $? = 1 ] || fail "poolctl submit broke off"
  ended=$(wc -l <"$scratch/outcomes")
  [ "$ended" = 2500 ] || fail "2500 tasks went in and $ended outcomes came out"
  wrong=$(jq --compact-output 'select((if .status == "succeeded" then "ok" else .error.code end) != .tag) | {tag, status, error}' "$scratch/outcomes")
  [ -z "$wrong" ] || fail "not as they should end: $(head -n 3 <<<"$wrong")"
  total=$((total + 2500))
  [ "$rounds" != 2 ] || first_kib=$(resident_kib)
  # Whatever happens, the whole is bounded.
  [ "$SECONDS" -lt $((seconds + 300)) ] || fail "10,000 tasks took over $((seconds + 300)) s"
done
until_status '.tasks.running == 0 and .tasks.queued == 0'
last_kib=$(resident_kib)
[ "$last_kib" -lt $((first_kib * 3 / 2 + 30000)) ] || fail "the supervisor grew from $first_kib to $last_kib KiB"
[ "$(status .tasks.total)" = "$total" ] || fail "the pool counts $(status .tasks.total) and not $total"
stop_pool
printf '%s: seed %s, %d s: %d mixed tasks, each ended as it should; the supervisor holds %d KiB (%d after 5000 tasks)\n' \
  "$name" "$seed" "$SECONDS" "$total" "$last_kib" "$first_kib"

#!/usr/bin/env bash
# Builds the pool and shows it at work: starts a supervisor on a temporary socket, runs each of the five kinds of task on something
# real, prints every outcome with its receipt, then the pool's status, and stops it cleanly. Leaves nothing behind.
#
#   scripts/demo.sh            DEMO_BUILD=no uses what is built already;
#                              DEMO_NPM=no takes the package of examples/ also where npm is installed
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
scripts/setup.sh build demo
if [ "${DEMO_BUILD:-yes}" != no ]; then
  scripts/plan.sh
  scripts/build.sh
fi
bin=${CARGO_TARGET_DIR:-target}/release
bin=$(cd "$bin" && pwd)
poolctl=$bin/poolctl

scratch=$(mktemp -d /tmp/pool-demo-XXXXXX)
supervisor='' server='' step='the preparations' failed_command=''
bold='' dim='' plain=''
if [ -t 1 ]; then bold=$'\033[1m' dim=$'\033[2m' plain=$'\033[0m'; fi
title() {
  step=$*
  printf '\n%s== %s%s\n' "$bold" "$*" "$plain"
}
# Says what failed, and what the programs that had a part in it wrote. A log that says nothing is not shown.
explain() { # EXIT-CODE
  local log
  printf '\ndemo: failed in the step "%s" (exit code %d)%s\n' "$step" "$1" "${failed_command:+: $failed_command}" >&2
  for log in supervisor server npm; do
    [ -s "$scratch/$log.log" ] || continue
    printf 'demo: the end of what %s wrote:\n' "$log" >&2
    tail -n 40 "$scratch/$log.log" | sed 's/^/  /' >&2
  done
}
trap 'failed_command=$BASH_COMMAND' ERR
finish() {
  local code=$?
  trap - EXIT
  [ "$code" = 0 ] || explain "$code"
  for process in $supervisor $server; do
    kill -KILL "$process" 2>/dev/null || true
    wait "$process" 2>/dev/null || true
  done
  rm -rf "$scratch"
  exit "$code"
}
trap finish EXIT
# What a command is (whatever becomes of its output), and what it printed.
exec 3>&1
show() {
  local word
  printf >&3 '%s$ poolctl' "$dim"
  for word in "$@"; do
    # As a person would write it.
    case $word in
      *[!A-Za-z0-9._:/=+-]*) printf >&3 " '%s'" "$word" ;;
      *) printf >&3 ' %s' "$word" ;;
    esac
  done
  printf >&3 '%s\n' "$plain"
  "$poolctl" "$@"
}
# Runs one task; checks its result.
run() { # EXPECTED-JQ-TEST ARGUMENT…
  local expected=$1 outcome
  shift
  # After the kind, not at the end: what follows a program is the program's.
  outcome=$(show run "$1" --json "${@:2}" 2>&1) || {
    printf '%s\n' "$outcome"
    return 1
  }
  printf '%s\n' "$outcome"
  tail -n 1 <<<"$outcome" | jq --exit-status "$expected" >/dev/null || {
    printf 'demo: the outcome is not what it should be: %s\n' "$expected" >&2
    return 1
  }
}

mkdir -p "$scratch/tasks/node_modules"
npm_brings_semver() {
  [ "${DEMO_NPM:-yes}" != no ] && command -v npm >/dev/null || return 1
  (cd "$scratch/tasks" && npm install --silent --no-audit --no-fund --prefix . semver@7) >"$scratch/npm.log" 2>&1 && return
  echo "npm is here, but it could not install semver: $(tail -n 1 "$scratch/npm.log")"
  return 1
}
title "A package for tasks to use"
if npm_brings_semver; then
  echo "semver, from the npm registry, in $scratch/tasks/node_modules"
  import="import semver from 'semver'; const newestIn = semver.maxSatisfying;"
else
  echo "plain-versions, from examples/ (with npm, this would be semver from the npm registry)"
  rm -f "$scratch/npm.log"
  cp -R examples/plain-versions "$scratch/tasks/node_modules/"
  import="import { newest as newestIn } from 'plain-versions';"
fi
cat >"$scratch/tasks/releases.mjs" <<MODULE
$import
export const newest = (versions, range) => newestIn(versions, range);
MODULE

title "A server to talk to"
cat >"$scratch/server.py" <<'SERVER'
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        body = json.dumps({"sum": sum(asked["numbers"]), "agent": self.headers.get("User-Agent")}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
open(sys.argv[1], "w").write(f"127.0.0.1:{server.server_port}\n")
server.serve_forever()
SERVER
python3 "$scratch/server.py" "$scratch/address" 2>"$scratch/server.log" &
server=$!
for _ in $(seq 200); do [ -s "$scratch/address" ] && break; sleep 0.05; done
[ -s "$scratch/address" ] || { echo "demo: the server did not say within 10 s where it listens" >&2; exit 1; }
address=$(cat "$scratch/address")
echo "listens on $address"

title "The supervisor"
cat >"$scratch/config.json" <<CONFIG
{
  "daemon": {"worker": {"minProcesses": 1, "maxProcesses": 4, "autoScale": true, "maxTasksPerWorker": 100}},
  "projects": {"my-project": {"limit": 5}},
  "js": {"moduleRoots": ["$scratch/tasks"]},
  "shell": {"allow": [{"program": "/usr/bin/wc", "args": "-l|-c|[A-Za-z0-9._/][A-Za-z0-9._/-]*"}], "cwd": "$repository"},
  "http": {"listen": "127.0.0.1:0", "allow": ["$address"]}
}
CONFIG
export POOL_SOCKET=$scratch/run/pool.sock STATE_DIRECTORY=$scratch/state CACHE_DIRECTORY=$scratch/cache
"$bin/pool-supervisor" --config "$scratch/config.json" 2>"$scratch/supervisor.log" &
supervisor=$!
for _ in $(seq 200); do
  "$poolctl" status >/dev/null 2>&1 && break
  kill -0 "$supervisor" 2>/dev/null || { echo "demo: the supervisor ended at its start" >&2; exit 1; }
  sleep 0.05
done
"$poolctl" status >/dev/null || { echo "demo: the supervisor did not answer within 10 s" >&2; exit 1; }
echo "process $supervisor, socket $POOL_SOCKET"

title "1. execute-code"
run '.result == "Hello from worker"' code 'return "Hello from worker";' --project my-project --priority 5 --timeout 30000
title "2. execute-function"
run '.result == 42' function '(a, b) => a + b' 40 2
title "3. execute-module: releases.mjs, which imports that package"
run '.result == "1.9.2"' module releases.mjs --method newest '["1.2.3","1.9.2","2.0.0","1.10.0-beta.1"]' '^1.0.0'
title "4. http-request: an exchange with the server above"
run '.result.status == 200 and .result.data.sum == 6' http "http://$address/sum" -X POST -H 'Content-Type: application/json' --data '{"numbers":[1,2,3]}'
title "5. shell-command: a program over a file"
lines=$(wc -l <README.md)
run ".result.exitCode == 0 and (.result.stdout | startswith(\"$lines \"))" shell -- /usr/bin/wc -l README.md

title "A thousand tasks, 64 in flight"
seq 1000 | jq --compact-output '{type: "execute-function", fn: "n => n * n", args: [.]}' >"$scratch/tasks.ndjson"
show submit "$scratch/tasks.ndjson" --window 64 >"$scratch/outcomes.ndjson"
jq --slurp '"\(map(select(.status == "succeeded")) | length) succeeded, sum of squares \(map(.result // 0) | add)"' --raw-output "$scratch/outcomes.ndjson"

title "The pool"
show status
show workers
show projects

title "The same over HTTP"
api=$("$poolctl" status --json | jq --raw-output .http)
curl --silent --show-error --fail --header "X-API-Key: $(cat "$scratch/run/api.key")" "http://${api#http://}/api/process-pool/stats" | jq --compact-output .

title "A clean end"
workers=$("$poolctl" workers --json | jq '.[].pid')
show shutdown
code=0
wait "$supervisor" || code=$?
supervisor=''
[ "$code" = 0 ] || { echo "demo: the supervisor exited with $code" >&2; exit 1; }
for worker in $workers; do
  if kill -0 "$worker" 2>/dev/null && grep -q pool-worker "/proc/$worker/cmdline" 2>/dev/null; then
    echo "demo: worker $worker is still there" >&2
    exit 1
  fi
done
echo "exit code 0, no process left"

# shellcheck shell=bash
# What must hold for the pool under its systemd unit. Sourced by scripts/test-systemd.sh; `machine.bash` has booted the machine.
#
# Each check is a function that fails by its first failing command; `check` runs it on its own and goes on. They build on each
# other's state only so far that the unit runs before and after each.
#
# One that returns 77 could not be tried here, has said so by `skipped`, and counts as nothing.
passed=0 failed=0
unit=process-pool.service
# The most that the unit's rating may be, in systemd's tenths of 100.
most_exposure=25

run_checks() {
  check "the unit has no mistakes" unit_is_valid
  check "the example configuration is valid" example_is_valid
  check "systemd rates the unit OK, at most $((most_exposure / 10)).$((most_exposure % 10))" exposure_is_low
  check "every weakness that is left has a reason in deploy/README.md" reasons_are_written
  check "the unit leaves the pool room for walls of its own" leaves_room
  check "it starts, and says itself when it is ready" starts
  check "every process is the service's user, without privileges" runs_unprivileged
  check "it runs code" runs_code
  check "it runs a function" runs_function
  check "it runs a module of a module root" runs_module
  check "it makes an HTTP request" runs_request
  check "it runs a program" runs_program
  check "a program can change nothing of the system" reaches_nothing
  check "workers have every layer that strict isolation promises" confines_workers
  check "poolctl doctor finds that all of it bites" doctor_agrees
  check "each worker has a control group, and the supervisor its own" groups_workers
  check "a worker's control group has limits" limits_groups
  check "a program's whole tree is in its worker's control group" groups_trees
  check "a worker's control group can be killed, and the pool goes on" kills_group
  check "a program's hidden child ends with its task" ends_hidden_child
  check "root may command the pool, another user may not" refuses_others
  check "systemctl reload applies a configuration" reloads
  check "systemctl reload refuses a bad one and goes on" refuses_bad_reload
  check "systemctl restart leaves a working pool" restarts
  check "a supervisor that hangs is restarted by the watchdog" survives_hang
  check "a supervisor that is killed is restarted, and nothing is left of the first" survives_kill
  check "systemctl stop drains and leaves no process" stops
}

# Runs a check with errexit, which a condition would switch off.
check() { # NAME COMMAND…
  local name=$1 code=0 said=$machine_scratch/said before=$EPOCHREALTIME
  shift
  set +e
  (
    set -Eeuo pipefail
    trap '[ $? = 77 ] || echo "failed at line $LINENO: $BASH_COMMAND"' ERR
    "$@"
  ) >"$said" 2>&1
  code=$?
  set -e
  if [ "$code" = 0 ]; then
    passed=$((passed + 1))
    printf 'ok      %s (%d ms)\n' "$name" $(((${EPOCHREALTIME/./} - ${before/./}) / 1000))
    sed 's/^/          /' "$said"
    return
  fi
  if [ "$code" = 77 ]; then
    cat "$said"
    return
  fi
  failed=$((failed + 1))
  printf 'FAILED  %s\n' "$name"
  sed 's/^/          /' "$said"
  inside journalctl --no-pager --quiet --output=short-precise --lines=20 --unit="$unit" | sed 's/^/          | /' || true
}

# Polls; the deadline is far beyond what a busy machine needs.
until_true() { # COMMAND…
  local until=$((SECONDS + 60))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$until" ] || {
      echo "waited in vain for: $*"
      return 1
    }
    sleep 0.05
  done
}

poolctl() { inside POOL_SOCKET=/run/process-pool/pool.sock poolctl "$@"; }
# As the service's own user: what a script of the service would do.
as_service() { inside runuser -u process-pool -- /usr/bin/env POOL_SOCKET=/run/process-pool/pool.sock poolctl "$@"; }
status() { poolctl status --json | jq --raw-output "$1"; }
status_is() { [ "$(status "$1")" = true ]; }
property() { inside systemctl show --property="$1" --value "$unit"; }

# The unit's processes by the host's numbers: a control group's file names them as its reader sees them.
processes() {
  local group=$machine_cgroup/system.slice/$unit
  [ ! -d "$group" ] || find "$group" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}
# By the command line: a program's short name is that of the descriptor it was started from.
processes_of() { # WORDS
  local pid
  for pid in $(processes); do
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qF -- "$1"; then echo "$pid"; fi
  done
}
all_gone() { # PID…
  local pid
  for pid in "$@"; do [ ! -e "/proc/$pid" ] || return 1; done
}
field() { awk -v name="$2:" '$1 == name { $1 = ""; print substr($0, 2) }' "/proc/$1/status"; }

unit_is_valid() {
  local said
  said=$(inside systemd-analyze verify "$unit" 2>&1)
  [ -z "$said" ] || { echo "$said"; return 1; }
}

example_is_valid() {
  inside pool-supervisor --check-config --config /etc/process-pool/config.example.toml >/dev/null
}

exposure_is_low() {
  local last
  last=$(inside systemd-analyze security --no-pager --threshold="$most_exposure" "$unit" | tail -n 1)
  echo "$last"
  [[ $last == *" OK "* ]]
  # The README gives the figure.
  grep -qF "exposure $(grep -oE '[0-9]+\.[0-9]+' <<<"$last") " deploy/README.md
}

# The README's table has a row "| `NAME` | EXPOSURE | reason |" for each weakness, and for nothing else.
reasons_are_written() {
  local rated=$machine_scratch/rated written=$machine_scratch/written
  inside systemd-analyze security --json=short "$unit" |
    jq --raw-output '.[] | select(.set == false and .exposure != null) | "\(.exposure)  \(.name)"' | sort --reverse >"$rated"
  [ -s "$rated" ]
  # Markdown wants a bar inside a table's cell escaped.
  sed -nE 's/^\| `([^`]+)` \| ([0-9.]+) \| (.{10,}) \|$/\2  \1\t\3/p' deploy/README.md | sed 's/\\|/|/g' | sort --reverse >"$written"
  diff --unified=0 --label "as systemd rates it" "$rated" --label "as the README says" <(cut -f 1 "$written")
  sed 's/\t/: /' "$written"
}

leaves_room() {
  inside systemctl start room.service || { inside journalctl --no-pager --output=cat --unit=room.service; return 1; }
  inside journalctl --no-pager --quiet --output=cat --unit=room.service SYSLOG_IDENTIFIER=sh
}

starts() {
  inside systemctl enable --quiet --now "$unit"
  [ "$(property Type) $(property ActiveState) $(property SubState)" = "notify active running" ]
  # Ready means that it answers at once.
  status_is '.state == "running" and .workers.available >= 1'
}

runs_unprivileged() {
  local pid uid
  uid=$(inside id -u process-pool)
  [ -n "$(processes_of pool-supervisor)" ]
  [ -n "$(processes_of pool-worker)" ]
  for pid in $(processes); do
    [ "$(field "$pid" Uid | xargs)" = "$uid $uid $uid $uid" ]
    [ "$(field "$pid" NoNewPrivs)" = 1 ]
    [ "$(field "$pid" Seccomp)" = 2 ]
    [ "$(field "$pid" CapEff)" = 0000000000000000 ]
  done
  echo "$(processes | wc -l) processes of user $uid"
}

runs_code() { [ "$(as_service run code 'return 40 + 2')" = 42 ]; }
runs_function() { [ "$(as_service run function '(a, b) => a + b' 40 2)" = 42 ]; }
runs_module() { [ "$(as_service run module /srv/tasks/statistics.mjs --method mean '[1, 2, 3]')" = 2 ]; }
# By a name, so that the resolver works too.
runs_request() { [ "$(as_service run http http://localhost:8080/ | jq --compact-output .data)" = '{"greeting":"hello"}' ]; }
runs_program() { as_service run shell -- /usr/bin/wc -c /etc/process-pool/config.toml | jq --exit-status '.exitCode == 0 and (.stdout | endswith("config.toml\n"))' >/dev/null; }

reaches_nothing() {
  local said
  said=$(as_service run shell -- /usr/bin/sh /srv/tasks/reach.sh | jq --raw-output .stdout)
  echo "$said"
  [ "$said" = "nothing else" ]
}

# The pool has started with isolation "strict", which it does not where a layer is missing; this shows that it says so too.
confines_workers() {
  local lane
  status_is '.isolation.level == "strict"'
  for lane in js io; do
    echo "$lane: $(status ".isolation.lanes.$lane.on | join(\" \")")"
    echo "$lane lacks: $(status ".isolation.lanes.$lane.missing | to_entries | map(\"\(.key) (\(.value))\") | join(\"; \")")"
  done
  status_is '["no-new-privs", "not-dumpable", "capabilities", "landlock", "seccomp"] as $both
    | ($both - .isolation.lanes.io.on) + ($both - .isolation.lanes.js.on) == []'
  status_is '(["user", "pid", "mount", "network", "ipc"] | map(. + "-namespace")) - .isolation.lanes.js.on == []'
}

# Attacks each layer and limit. The unit's own walls must not be what stops it: then the worker's might be missing unseen.
doctor_agrees() {
  local said=$machine_scratch/doctor
  as_service doctor >"$said" || {
    cat "$said"
    return 1
  }
  echo "$(grep -c ' bites *$' "$said") attacks were stopped"
}

group_of_unit() { echo "$machine_cgroup/system.slice/$unit"; }
worker_ids() { poolctl workers --json | jq --raw-output '.[] | select(.state != "spawning") | .workerId'; }

groups_workers() {
  local group worker
  group=$(group_of_unit)
  [ -z "$(cat "$group/cgroup.procs")" ]
  [ "$(cat "$group/supervisor/cgroup.procs")" = "$(processes_of pool-supervisor)" ]
  [ -n "$(worker_ids)" ]
  for worker in $(worker_ids); do
    grep -q pool-worker "/proc/$(head -n 1 "$group/$worker/cgroup.procs")/cmdline"
  done
}

limits_groups() {
  local group worker controller
  group=$(group_of_unit)
  worker=$(worker_ids | head -n 1)
  for controller in memory pids; do
    if ! grep -qw "$controller" "$group/cgroup.controllers"; then
      skipped systemd::limits_groups cgroup-v2-memory "the controller $controller in control groups of version 2" \
        "boot the kernel without the old hierarchy: systemd.unified_cgroup_hierarchy=1"
    fi
    [ "$(cat "$group/$worker/$controller.max")" != max ]
  done
}

groups_trees() {
  local task group
  task=$(start_program /usr/bin/perl /srv/tasks/tree.pl)
  until_true two_of tree.pl
  group=$(grep -l -x -F -f <(processes_of tree.pl) "$(group_of_unit)"/*/cgroup.procs)
  [ "$(wc -l <<<"$group")" = 1 ]
  grep -q pool-worker "/proc/$(head -n 1 "$group")/cmdline"
  as_service cancel "$task" >/dev/null
  until_true none_of tree.pl
}
none_of() { [ -z "$(processes_of "$1")" ]; }

kills_group() {
  local group worker inside_it
  worker=$(worker_ids | head -n 1)
  group=$(group_of_unit)/$worker
  inside_it=$(cat "$group/cgroup.procs")
  [ -n "$inside_it" ]
  echo 1 >"$group/cgroup.kill"
  # shellcheck disable=SC2086 # numbers
  until_true all_gone $inside_it
  until_true test ! -d "$group"
  poolctl workers --dead --json | jq --exit-status --arg worker "$worker" 'any(.[]; .workerId == $worker)' >/dev/null
  runs_code
}

ends_hidden_child() {
  local task children
  task=$(start_program /usr/bin/perl /srv/tasks/hide.pl)
  until_true two_of hide.pl
  children=$(processes_of hide.pl)
  as_service cancel "$task" >/dev/null
  # shellcheck disable=SC2086 # numbers
  until_true all_gone $children
}

# Submits a program and prints the task's id.
start_program() { # PROGRAM ARGUMENT…
  jq --null-input --compact-output --args '{type: "shell-command", program: $ARGS.positional[0], args: $ARGS.positional[1:]}' "$@" |
    as_service submit --no-wait -
}
two_of() { [ "$(processes_of "$1" | wc -l)" = 2 ]; }

refuses_others() {
  local code=0
  [ "$(poolctl status --json | jq .state)" = '"running"' ]
  inside runuser -u nobody -- /usr/local/bin/poolctl --socket /run/process-pool/pool.sock status || code=$?
  [ "$code" = 125 ]
}

change_config() { inside sed --in-place "$1" /etc/process-pool/config.toml; }

reloads() {
  status_is '.maxWorkers == 4'
  change_config 's/^maxWorkers = 4$/maxWorkers = 3/'
  inside systemctl reload "$unit"
  until_true status_is '.maxWorkers == 3'
}

refuses_bad_reload() {
  local pid
  pid=$(property MainPID)
  change_config 's/^maxWorkers = /maxxWorkers = /'
  if inside systemctl reload "$unit"; then return 1; fi
  change_config 's/^maxxWorkers = /maxWorkers = /'
  [ "$(property MainPID)" = "$pid" ]
  status_is '.state == "running" and .maxWorkers == 3'
  runs_code
}

restarts() {
  local before
  before=$(processes)
  inside systemctl restart "$unit"
  # shellcheck disable=SC2086 # numbers
  all_gone $before
  runs_code
}

# Whether systemd has started the unit anew after a failure, and it runs.
restarted() { [ "$(property NRestarts)" -gt "$1" ] && [ "$(property ActiveState)" = active ]; }

survives_hang() {
  local before count
  inside mkdir -p "/run/systemd/system/$unit.d"
  # The same mechanism, with a patience that a test can wait for.
  inside sh -c "printf '[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n' >/run/systemd/system/$unit.d/patience.conf"
  inside systemctl daemon-reload
  inside systemctl restart "$unit"
  count=$(property NRestarts)
  before=$(processes)
  kill -STOP "$(processes_of pool-supervisor)"
  until_true restarted "$count"
  # shellcheck disable=SC2086 # numbers
  all_gone $before
  inside journalctl --no-pager --quiet --output=cat --unit="$unit" | grep 'Watchdog timeout'
  inside rm -r "/run/systemd/system/$unit.d"
  inside systemctl daemon-reload
  inside systemctl restart "$unit"
  runs_code
}

survives_kill() {
  local before count
  count=$(property NRestarts)
  start_program /usr/bin/perl /srv/tasks/tree.pl >/dev/null
  until_true two_of tree.pl
  before=$(processes)
  kill -KILL "$(processes_of pool-supervisor)"
  until_true restarted "$count"
  # shellcheck disable=SC2086 # numbers
  all_gone $before
  [ -z "$(processes_of tree.pl)" ]
  runs_code
}

stops() {
  local before said=$machine_scratch/drained client
  as_service run code 'await new Promise((done) => setTimeout(done, 1500)); return "finished"' >"$said" &
  client=$!
  until_true status_is '.tasks.running == 1'
  before=$(processes)
  inside systemctl stop "$unit"
  wait "$client"
  [ "$(cat "$said")" = finished ]
  [ "$(property ActiveState) $(property Result)" = "inactive success" ]
  [ -z "$(processes)" ]
  # shellcheck disable=SC2086 # numbers
  all_gone $before
}

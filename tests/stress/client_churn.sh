#!/usr/bin/env bash
# Clients come and go: some finish, some are killed in the middle, some only connect, some send nonsense. The pool serves on, tasks of
# clients that were waiting end with them, and nothing of them is left.
#
#   client_churn.sh [SEED [SECONDS]]       the exit code is the verdict
# shellcheck source=tests/stress/lib.bash
. "$(dirname "${BASH_SOURCE[0]}")/lib.bash"

needs "stress::$name" perl perl-base
# Two of three workers may be held by tasks that never end, so that the others are served on.
start_pool '{"pool": {"minWorkers": 2, "maxWorkers": 3}, "projects": {"endless": {"limit": 2}}, "http": {"listen": "off"}, "log": {"level": "error"}}'
"$poolctl" run code 1 >/dev/null
until_status '.tasks.running == 0'
sleep 0.3
low=$(descriptors)

connect() { # BYTES: opens the socket, writes, and leaves
  # In Perl, which is part of every Debian. The supervisor may hang up before all is written.
  perl -MSocket -e '
    alarm 20;
    socket(my $socket, PF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
    connect($socket, pack_sockaddr_un($ARGV[0])) or die "connect: $!";
    $SIG{PIPE} = "IGNORE";
    syswrite $socket, pack("H*", $ARGV[1]);' "$POOL_SOCKET" "$1" || fail "the supervisor does not listen"
}

# More than any client lives to see the end of.
for _ in $(seq 3000); do echo '{"type":"execute-code","code":"1"}'; done >"$scratch/tasks"
good=0 killed=0 nonsense=0
# On a busy machine it takes longer until enough has happened.
until out_of_time && [ "$good" -ge 5 ] && [ "$killed" -ge 5 ]; do
  [ "$SECONDS" -lt $((seconds + 300)) ] || fail "too little happens: $good finished, $killed killed in $SECONDS s"
  group=()
  for _ in 1 2 3 4; do
    case $((RANDOM % 5)) in
      0 | 1)
        [ "$("$poolctl" run function '(a, b) => a + b' "$good" 1)" = $((good + 1)) ] || fail "a client got a wrong answer"
        good=$((good + 1))
        ;;
      2)
        "$poolctl" run code 'await new Promise(r => setTimeout(r, 1000000))' --project endless >/dev/null 2>&1 &
        group+=($!)
        ;;
      3)
        "$poolctl" submit "$scratch/tasks" --window 500 >/dev/null 2>&1 &
        group+=($!)
        ;;
      4)
        connect "$(printf '%04x%04x%08x' "$RANDOM" "$RANDOM" "$RANDOM")$(printf '%08x' "$RANDOM" "$RANDOM")"
        nonsense=$((nonsense + 1))
        ;;
    esac
  done
  sleep 0.0$((RANDOM % 9 + 1))
  for client in ${group[@]+"${group[@]}"}; do
    kill -KILL "$client" 2>/dev/null || true
    wait "$client" 2>/dev/null || true
    killed=$((killed + 1))
  done
done
# Tasks of `run` went with their clients; those of `submit` go on to their end.
until_status '.tasks.running == 0 and .tasks.queued == 0'
[ "$("$poolctl" run code '6 * 7')" = 42 ] || fail "the pool does not serve any more"
sleep 1
workers=$(status .workers.total)
# A worker costs three: its socket, its pidfd and its standard error.
[ "$(descriptors)" -le $((low + 4 * workers + 2)) ] || fail "$low descriptors before, $(descriptors) after, with $workers workers"
high=$(descriptors)
stop_pool
printf '%s: seed %s, %d s: %d clients finished, %d killed in the middle, %d sent nonsense; %d descriptors before, %d after\n' \
  "$name" "$seed" "$SECONDS" "$good" "$killed" "$nonsense" "$low" "$high"

#!/usr/bin/env bash
# Tests of v8-compile.sh, the part of the V8 build that needs root, and of its progress. chroot,
# debootstrap and what they would run are replaced by scripts; locks, signals, files and, for root,
# namespaces are real. scripts/test-v8.sh runs this too.
# shellcheck disable=SC2016 # the bodies of stubs are for their own shells
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/v8-env.sh
. "$repository/scripts/v8-env.sh"
# shellcheck source=scripts/v8-stubs.sh
. "$repository/scripts/v8-stubs.sh"
has() { grep -c -- "$1" <<<"$2" || true; }

# What stands for the other root: it answers for apt, gn, ninja and clang, and counts what it did.
# ninja has 200 steps; a file `slow` makes it hang at the second.
write_chroot() {
  cat >"$scratch/bin/chroot" <<'CHROOT'
#!/bin/bash
root=$1 out=$1/v8src/out
shift
echo "$*" >>"$root/../commands"
case $* in
  *"apt-cache pkgnames"*) cat "$root/../offered" ;;
  *--simulate*) [ ! -e "$root/../broken" ] || ! grep -q -- "clang-$(cat "$root/../broken")" <<<"$*" ;;
  *apt-get*install*clang*) mkdir -p "$root/usr/lib/llvm-$(sed 's/.* clang-\([0-9]*\) .*/\1/' <<<"$*")"
    echo "dlstatus:1:50.0:half"; echo "pmstatus:clang:100.0:all" ;;
  *"gn --script"*) mkdir -p "$out/gen/v8/torque-generated/src/builtins" "$out/obj/v8"
    for t in torque_generated_initializers v8_initializers v8_base_without_compiler v8_compiler; do
      echo "cflags_cc = -O2" >"$out/obj/v8/$t.ninja"
    done ;;
  *"-t commands"*) for t in torque_generated_initializers v8_base_without_compiler v8_compiler; do
    echo "clang -c a.cc -o obj/v8/$t/a.o"; done ;;
  *"ninja -C out -n"*) for i in $(seq 200); do echo "[$i/200] CXX obj/a$i.o"; done ;;
  *generated_cc*) echo '#include "a.h"' >"$out/gen/v8/torque-generated/src/builtins/array-slice-tq-csa.cc" ;;
  *"x c++-header"*) pch=$(sed 's/.* -o //' <<<"$*"); echo header >"$out/$pch"; echo "$pch: " >"$out/${pch%.pch}.d" ;;
  *"find "*) ;; # every header is older
  *"ninja -C out -j"*rusty_v8*) echo "[1/200] CXX obj/a1.o"; [ ! -e "$root/../slow" ] || exec -a "$root-sleeps" sleep 300
    for i in $(seq 2 200); do echo "[$i/200] CXX obj/a$i.o"; done; echo lib >"$out/obj/librusty_v8.a" ;;
  *clang*--version*) echo "clang of $(cat "$root/.compiler")" ;;
esac
CHROOT
  chmod +x "$scratch/bin/chroot"
}

# A machine on which everything is a stub but files, locks and signals.
fresh_machine() {
  fresh_place
  rm -rf "${scratch:?}/bin" "$scratch/tree" "$scratch/out" "$scratch/crate"
  mkdir -p "$scratch/crate/build/linux" "$scratch/tree" "$scratch/bin" "$scratch/out"
  echo icu >"$scratch/icudtl.dat"
  write_chroot
  printf 'clang-22\nclang-23\nclang-format\n' >"$scratch/tree/offered"
  stub debootstrap "target=\${@: -2:1}; [ -z \"\$(ls \$target)\" ] || { echo 'not empty'; exit 1; }
    mkdir -p \$target/etc/apt/apt.conf.d \$target/proc \$target/dev \$target/usr/lib \$target/var/cache/apt/archives
    [ ! -e $scratch/tree/slow-root ] || { echo half >\$target/half; exec -a \$target-sleeps sleep 300; }
    echo 'I: Base system installed successfully.'"
  # The namespaces are tested at the end, where this is root.
  stub unshare "while [[ \$1 == --* ]]; do [ \$1 != --propagation ] || shift; shift; done; exec \"\$@\""
  for tool in mount mknod chown apt-config; do stub "$tool" 'exit 0'; done
  stub apt-get 'echo http://mirror.example/debian/'
  # The C library of this machine takes seconds to copy and is not what is tested.
  stub cp "for last; do :; done; case \"\$*\" in *sysroot.new*) mkdir -p \$last ;; *) exec $(command -v cp) \"\$@\" ;; esac"
}

# The command, for one that must run in the background under its own process id.
command_line() {
  line=(env PATH="$scratch/bin:$PATH" "$scratch/place/repo/scripts/v8-compile.sh"
    --build-root "$scratch/tree" --out "$scratch/out" --version 1.2.3 --crate "$scratch/crate"
    --icu "$scratch/icudtl.dat" --jobs 2 --owner "$(id -u):$(id -g)" "$@")
}
compile() { # [ARGUMENT…]
  local line
  command_line "$@"
  "${line[@]}" 2>&1 </dev/null
}
until_file() { # FILE PATTERN; waits until it stands there
  local try
  for try in $(seq 300); do
    ! grep -qs -- "$2" "$1" || return 0
    sleep 0.1
  done
  echo "waited $try times for $2 in $1"
  return 1
}

archive=$(v8_archive_name)
# --- a build from nothing -----------------------------------------------------------------------
fresh_machine
text=$(compile --keep || true)
check "it says where the result is" 1 "$(has "done: $scratch/out/$archive" "$text")"
check "the result is the library, compressed" lib "$(zcat "$scratch/out/$archive" || true)"
check "its checksum lies beside it" OK "$(cd "$scratch/out" && sha256sum --check "$archive.sha256" | awk '{print $2}')"
check "nothing half-written is left" 0 "$(find "$scratch/out" -name '*.part' | wc -l)"
check "what is kept is named, with its size and how to remove it" 1 \
  "$(has "kept: $scratch/tree ([0-9.]*[KMG]), removed by: rm -rf $scratch/tree" "$text")"
check "the newest clang was taken" 23 "$(cat "$scratch/tree/root/.compiler")"
check "each overall figure is at least the one before" sorted \
  "$(grep -oE '[0-9]+ %' <<<"$text" | sort -nc 2>&1 && echo sorted)"
check "and the time left is said" yes "$(grep -q 'min left' <<<"$text" && echo yes)"
check "a second build finds the first one's" 1 "$(has 'already there' "$(compile)")"

# --- nothing is written again -------------------------------------------------------------------
times() {
  find "$scratch/tree/root" -type f ! -path '*/dev/*' ! -path '*/gen/*' ! -name librusty_v8.a -printf '%p %T@\n' |
    sort
}
before=$(times)
rm "$scratch/out/$archive" "$scratch/tree/commands"
sleep 1.1
compile --keep >/dev/null
after=$(times)
check "a build that continues rewrites no file that ninja looks at" "$before" "$after"
check "gn is not run again" 0 "$(grep -c 'gn --script' "$scratch/tree/commands" || true)"
check "nor is a header compiled again" 0 "$(grep -c 'c++-header' "$scratch/tree/commands" || true)"
check "nor a package installed" 0 "$(grep -c 'apt-get' "$scratch/tree/commands" || true)"
rm "$scratch/out/$archive"; echo 24 >"$scratch/tree/root/.compiler"; mkdir -p "$scratch/tree/root/usr/lib/llvm-24"
compile --keep >/dev/null
check "another compiler means that all is compiled anew" 1 "$(grep -c 'gn --script' "$scratch/tree/commands")"

# --- what stays behind --------------------------------------------------------------------------
rm "$scratch/out/$archive"; echo mine >"$scratch/tree/mine"
text=$(compile)
check "neither the log nor the lock is left beside the archive" "$archive $archive.sha256" "$(find "$scratch/out" -type f -printf '%f\n' | sort | xargs)"
check "the tree is removed after success, saying so" 1 "$(has "removing the build tree: $scratch/tree" "$text")"
check "but nothing that the build did not make" "commands mine offered" \
  "$(cd "$scratch/tree" && find . -mindepth 1 -printf '%P\n' | sort | xargs)"

# --- the compiler's version ---------------------------------------------------------------------
fresh_machine
printf 'clang-22\nclang-23\nclang-24\nclang-25\n' >"$scratch/tree/offered"
echo 25 >"$scratch/tree/broken"
compile --keep >/dev/null
check "the newest that can be installed is taken" 24 "$(cat "$scratch/tree/root/.compiler")"
fresh_machine
printf 'clang-21\nclang-22\n' >"$scratch/tree/offered"
text=$(compile || true)
check "what is too old is not" 1 "$(has 'offers no clang from 23 on that can be installed (it has: 22 21)' "$text")"
check "a failure shows the log's end and how to go on" 1 "$(has 'run the same command again to continue; kept for that: ' "$text")"
check "and leaves no archive" 0 "$(find "$scratch/out" -name '*.gz' | wc -l)"

# --- locks --------------------------------------------------------------------------------------
fresh_machine
for place in tree out; do
  exec 7<>"$scratch/$place/.lock"
  flock 7; echo 4711 >"$scratch/$place/.lock"
  command_line --keep
  # A file of its own: the one of the turn before would be read until the background has emptied it.
  waits=$scratch/waits-$place.txt
  "${line[@]}" >"$waits" 2>&1 </dev/null 7<&- & waiter=$!
  until_file "$waits" waiting || true
  check "a second build waits for the one in $place, saying so" 1 \
    "$(grep -c "waiting for another build that uses .*$scratch/$place (process 4711)" "$waits")"
  exec 7<&-
  wait "$waiter" || true
  check "and goes on when that one has ended" 1 "$(grep -c 'done: ' "$waits")"
  rm -f "$scratch/out/$archive"
done

# --- stopped at any moment ----------------------------------------------------------------------
# Runs the command on a terminal of its own, types Ctrl-C when FILE holds PATTERN, and prints what
# was said after it and how the command ended.
cat >"$scratch/press.py" <<'PRESS'
import os, pty, signal, sys, time
path, pattern, command = sys.argv[1], sys.argv[2], sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execvp(command[0], command)
end = time.time() + 60
while time.time() < end:
    if os.path.exists(path) and pattern in open(path).read():
        break
    time.sleep(0.1)
else:
    print(pattern, "never came")
os.write(terminal, b"\x03")
said = b""
try:
    while data := os.read(terminal, 4096):
        said += data
except OSError:
    pass
status = os.waitpid(pid, 0)[1]
print(said.split(b"^C")[-1].decode())
print("ended by", signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else status)
PRESS
# Processes of the build that are still there.
remaining() {
  local file words
  for file in /proc/[0-9]*/cmdline; do
    { mapfile -d '' -t words <"$file"; } 2>/dev/null || continue
    case "${words[*]}" in
      "$scratch/tree"*-sleeps* | *"v8-compile.sh --build-root $scratch"*) echo "${file%/cmdline}" ;;
    esac
  done
}
mounts() { grep -c "$scratch" /proc/mounts || true; }
# The kernel ends what a namespace held by and by.
until_gone() {
  local try
  for try in $(seq 100); do
    [ -n "$(remaining)" ] || [ "$(mounts)" != 0 ] || return 0
    sleep 0.1
  done
  echo "waited $try times for processes and mounts to go"
}
stop_by() { # SIGNAL FILE PATTERN; leaves what was said in said.txt
  local line
  command_line --keep
  if [ "$1" = INT ]; then
    python3 "$scratch/press.py" "$2" "$3" "${line[@]}" >"$scratch/said.txt" 2>&1
    return
  fi
  "${line[@]}" >"$scratch/said.txt" 2>&1 </dev/null & stopped=$!
  until_file "$2" "$3" >>"$scratch/said.txt" || true
  kill -s "$1" "$stopped"
  wait "$stopped" 2>/dev/null || true
}
signals=(TERM KILL)
if command -v python3 >/dev/null; then
  signals+=(INT)
else
  skip "Ctrl-C on a terminal during a V8 build (apt-get install python3)"
fi
if [ "$(id -u)" != 0 ] || ! unshare --mount --pid --fork --mount-proc true 2>/dev/null; then
  skip "stopping a V8 build (wants root that may mount)"
  signals=()
fi
for signal in "${signals[@]}"; do
  fresh_machine
  rm "$scratch/bin/unshare" "$scratch/bin/mount"
  touch "$scratch/tree/slow-root" "$scratch/tree/slow"
  stop_by "$signal" "$scratch/tree/root.new/half" half
  [ "$signal" = KILL ] ||
    check "stopped by $signal in debootstrap it says how to go on" 1 \
      "$(grep -A1 "stopped by SIG$signal" "$scratch/said.txt" | grep -c "the same command again to continue; kept for that: $scratch/tree")"
  [ "$signal" != INT ] || check "and ends as one that Ctrl-C ended" 1 "$(grep -c 'ended by SIGINT' "$scratch/said.txt")"
  until_gone
  check "no process is left after $signal" "" "$(remaining)"
  check "and no mount" 0 "$(mounts)"
  rm "$scratch/tree/slow-root"
  stop_by "$signal" "$scratch/out/build.log" 'CXX obj/a1.o'
  check "the half root is made anew, and the next run comes to the compiler" 1 "$(grep -c 'CXX obj/a1.o' "$scratch/out/build.log")"
  until_gone
  check "no process is left after $signal in ninja" "" "$(remaining)"
  check "and no mount of the root's /proc" 0 "$(mounts)"
  rm "$scratch/tree/slow"
  check "the run after $signal ends" 1 "$(has 'done: ' "$(compile)")"
  check "with the whole archive" lib "$(zcat "$scratch/out/$archive" || true)"
done

# --- flags of a newer clang ---------------------------------------------------------------------
# This compiler knows neither -fnew nor, as a pair, -mllvm -x; the linker does not know --fast.
if command -v python3 >/dev/null; then
  mkdir -p "$scratch/flags/obj" "$scratch/bin"
  stub clang++ 'case " $* " in
    *" -fnew=3 "*) echo "clang++: error: unknown argument: '"'-fnew=3'"'" >&2; exit 1 ;;
    *" -mllvm -x=1 "*) echo "clang (LLVM option parsing): Unknown command line argument '"'-x=1'"'.  Try: --help" >&2; exit 1 ;;
    *" -Wl,--fast "*) echo "ld.lld: error: unknown argument '"'--fast'"'" >&2; exit 1 ;;
  esac'
  stub ninja "sed -n 's/^cflags = //p' obj/a.ninja | sed 's#^#$scratch/bin/clang++ #; s#\$# -c a.cc -o a.o#'
    sed -n 's/^ldflags = //p' obj/a.ninja | sed 's#^#$scratch/bin/clang++ #; s#\$# -o a b.o#'"
  printf 'cflags = -O2 -fnew=3 -Xclang -mllvm -Xclang -x=1 -mllvm -x=1 -g0\nldflags = -pthread -Wl,--fast -Wl,-z,now\n' \
    >"$scratch/flags/obj/a.ninja"
  text=$(cd "$scratch/flags" && PATH="$scratch/bin:$PATH" python3 "$repository/scripts/v8-flags.py" all)
  check "flags that the compiler does not know are taken out, and no other" \
    "cflags = -O2 -g0 ldflags = -pthread -Wl,-z,now" "$(xargs <"$scratch/flags/obj/a.ninja")"
  check "saying so" 3 "$(has 'this compiler does not know' "$text")"
else
  skip "flags that a compiler does not know (apt-get install python3)"
fi

# --- progress -----------------------------------------------------------------------------------
log=$scratch/log jobs=2
# shellcheck source=scripts/v8-progress.sh
. "$repository/scripts/v8-progress.sh"
progress_silence=1 progress_total=1000 progress_label=step
quiet() { sleep 6; }
lines=$(measured 100 quiet | wc -l)
check "a command that says nothing is no reason to be silent" yes "$([ "$lines" -ge 3 ] && echo yes || echo "$lines lines")"
ninja_of() { for n in 1 2 3; do echo "[$n/3] CXX obj/a.o"; sleep 1.2; done; }
text=$(measured 300 ninja_of)
check "ninja's steps are shown" yes "$(grep -q '3/3 CXX a.o' <<<"$text" && echo yes || echo "$text")"
check "and kept in the log" 3 "$(grep -c 'CXX obj/a.o' "$log")"
add_steps < <(printf '[%d/10] CXX obj/a.o\n' {1..10})
check "the steps that are left are counted" 10 "$steps_left"
progress_start=0 progress_began=$((SECONDS - 500))
time_left 500
check "the time left follows the speed so far" "9 min left" "$estimate"
verdict

# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # v8-compile.sh shares these variables
# Shows how far the build of V8 is: one overall figure and the time left. Sourced by v8-compile.sh.
#
# All work is counted in seconds of a reference machine with two cores. `cost` says what each phase
# takes there, and `step_cost` what one step of ninja takes, so both ninja passes add up to one
# figure. The time left is the work left, scaled by the speed of this run so far.
#
# On a terminal one line is rewritten every second. Elsewhere a line appears for each percent, and
# at least every 15 seconds, so a log is never silent.

declare -A cost=([root]=45 [packages]=60 [source]=5 [sysroot]=3 [configure]=8
  [steps]=2400 [headers]=60 [compress]=40)
progress_total=0 # seconds of work in the whole build
progress_start=0 # seconds of work that were done before this run
progress_done=0  # seconds of work that are done now
progress_label=''
progress_began=$SECONDS
progress_silence=15 # seconds; the longest time without a line where there is no terminal

say() {
  [ ! -t 1 ] || printf '\r\033[K'
  printf '%(%T)T  %s\n' -1 "$*"
}

# The cost of one step, in hundredths of a second of the reference machine, left in `step`.
step_cost() { # DESCRIPTION PATH
  case $1 in
    CXX | CC | ASM) ;;
    ACTION | LINK) step=100 && return ;;
    *) step=10 && return ;;
  esac
  case $2 in
    obj/v8/v8_base_without_compiler/*) step=95 ;;
    obj/v8/v8_compiler/*) step=140 ;;
    obj/v8/torque_generated_initializers/* | obj/v8/v8_initializers/*) step=160 ;;
    obj/v8/torque_base/* | obj/v8/mksnapshot/*) step=200 ;;
    obj/v8/cppgc_base/*) step=130 ;;
    obj/third_party/abseil-cpp/*) step=50 ;;
    obj/v8/torque_generated_definitions/*) step=40 ;;
    obj/third_party/icu/*) step=25 ;;
    obj/buildtools/*) step=10 ;;
    *) step=60 ;;
  esac
}

# Adds up the steps that `ninja -n` lists on standard input; leaves the seconds and their number in
# `work_left` and `steps_left`.
add_steps() {
  local counter description path
  local -i sum=0
  steps_left=0
  while read -r counter description path _; do
    [[ $counter == \[*/* ]] || continue
    step_cost "$description" "$path"
    sum+=$step
    steps_left=$((steps_left + 1))
  done
  work_left=$((sum / 100))
}

# Leaves the estimate in `estimate`.
time_left() { # SECONDS-DONE
  # Two minutes at the reference machine's speed count as if they had been measured, because the
  # first minutes alone would mislead.
  local -i worked=$(($1 - progress_start)) took=$((SECONDS - progress_began)) left
  left=$(((progress_total - $1) * (took + 240 / jobs) / (worked + 120)))
  estimate="$(((left + 59) / 60)) min left"
}

show_progress() { # SECONDS-DONE DETAIL
  local -i percent=0
  [ "$progress_total" = 0 ] || percent=$((100 * $1 / progress_total))
  [ "$percent" -lt 100 ] || percent=99
  time_left "$1"
  local text
  printf -v text '%3d %%, %s  %s%s' "$percent" "$estimate" "$progress_label" "${2:+: $2}"
  if [ -t 1 ]; then
    printf '\r\033[K%s' "${text:0:columns - 1}"
  else
    printf '%(%T)T  %s\n' -1 "$text"
  fi
}

# Takes what one line of output says about the progress; sets `worked` and `detail` of meter.
take_line() { # LINE EXPECTED-SECONDS
  local word rest path
  case $1 in
    \[*/*\]*) # ninja
      read -r word rest path _ <<<"$1"
      step_cost "$rest" "$path"
      hundredths+=$step
      worked=$((hundredths / 100))
      word=${word#\[}
      detail="${word%\]} $rest ${path##*/}"
      ;;
    I:*) # debootstrap, which prints about 395 such lines
      count+=1
      worked=$(($2 * count / 395))
      detail=${1#I: }
      ;;
    dlstatus:* | pmstatus:*) # apt: first the downloads, then the installation
      IFS=: read -r word rest path detail <<<"$1"
      path=${path%%.*}
      [[ $path =~ ^[0-9]+$ ]] || return 0
      [ "$word" = dlstatus ] || path=$((path + 100))
      worked=$(($2 * path / 200))
      ;;
    done\ *) # a command of ours: percent
      worked=$(($2 * ${1#done } / 100))
      ;;
  esac
  [ "$worked" -le "$2" ] || worked=$2
}

# Reads what a command prints, keeps it in the log, and shows the progress that it reports.
meter() { # EXPECTED-SECONDS
  # The commands before it in the pipe end first; what they say at their end must still be read.
  trap '' INT TERM
  local part line='' detail=''
  local -i shown=-1 last=-99 percent worked=0 count=0 hundredths=0 status
  columns=$(tput cols 2>/dev/null || echo 80)
  while :; do
    status=0
    IFS= read -r -t 1 part || status=$?
    line+=$part
    if [ "$status" = 0 ]; then
      [[ $line == [dp][lm]status:* || $line == done\ * ]] || printf '%s\n' "$line" >>"$log"
      take_line "$line" "$1"
      line=''
    elif [ "$status" -le 128 ]; then
      break
    fi
    percent=$((100 * (progress_done + worked) / progress_total))
    if [ -t 1 ]; then
      [ "$SECONDS" != "$last" ] || continue
    elif [ $((SECONDS - last)) -lt $((progress_silence / 5)) ]; then
      continue
    elif [ $((SECONDS - last)) -lt "$progress_silence" ] && [ "$percent" = "$shown" ]; then
      continue
    fi
    shown=$percent last=$SECONDS
    show_progress $((progress_done + worked)) "$detail"
  done
  if [ -n "$line" ]; then printf '%s\n' "$line" >>"$log"; fi
}

# Runs a command as one part of the work. What was done by an earlier run takes no time now and
# says nothing about the speed of this one.
measured() { # EXPECTED-SECONDS COMMAND…
  local expected=$1 began=$SECONDS
  shift
  "$@" 2>&1 </dev/null | meter "$expected"
  progress_done=$((progress_done + expected))
  [ $((10 * (SECONDS - began))) -ge "$expected" ] || progress_start=$((progress_start + expected))
}

# shellcheck shell=bash
# What a test script says that cannot be run on this machine, in the words of tests/src/skip.rs.
# Sourced.
#
# `POOL_TESTS_REQUIRE=all` demands every need, and `POOL_TESTS_REQUIRE=jq,systemd` these ones: then
# the script fails.

# Whether the environment demands the need.
is_demanded() { # NEED
  case ,${POOL_TESTS_REQUIRE:-}, in
    *,all,* | *,"$1",*) return 0 ;;
    *) return 1 ;;
  esac
}

# Says the line, and the exit code that the script should end with: 77, or 1 where the need is
# demanded.
skipped() { # TEST NEED WHAT REMEDY
  printf 'skipped: %s: needs %s (%s)\n' "$1" "$3" "$4"
  is_demanded "$2" || return 77
  printf '%s: POOL_TESTS_REQUIRE demands %s\n' "$1" "$2" >&2
  return 1
}

# Ends the script where a program is missing.
needs() { # TEST PROGRAM PACKAGE
  local code=0
  command -v "$2" >/dev/null || skipped "$1" "$2" "the program $2" "apt-get install $3" || code=$?
  [ "$code" = 0 ] || exit "$code"
}

# shellcheck shell=bash
# shellcheck disable=SC2154 # the test sets `repository`
# What the tests of the V8 scripts share, besides stubs.sh: a copy of the scripts. Sourced.
# shellcheck source=scripts/stubs.sh
. "$repository/scripts/stubs.sh"

# A copy of what the scripts read of the repository, so that "beside it" is ours to fill.
fresh_place() {
  rm -rf "$scratch/place" "$scratch/calls"
  mkdir -p "$scratch/place/repo/scripts" "$scratch/place/home"
  cp "$repository"/scripts/{debian-mirror,v8-env,v8-progress,v8-phases,build-v8,v8-compile}.sh "$repository/scripts/v8-flags.py" \
    "$scratch/place/repo/scripts/"
  cp "$repository/Cargo.lock" "$scratch/place/repo/"
}

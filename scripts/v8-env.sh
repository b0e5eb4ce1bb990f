# shellcheck shell=bash
# Decides where the static V8 library comes from. Sourced, never run.
#
#   1. named     RUSTY_V8_ARCHIVE, when it is set: a file, or a folder that holds the archive
#   2. beside    ../shared/v8 beside the repository, when the archive lies there
#   3. cache     the user's cache folder, where 5 puts what it builds
#   4. download  the crate's release page, when it answers; the crate `v8` downloads by itself
#   5. build     from the crate's source: scripts/build-v8.sh, about 45 minutes on two cores
#
# v8_find looks and leaves the source in `v8_from`; v8_choose also builds when it has to, and leaves
# RUSTY_V8_ARCHIVE set, or unset for a download. RUSTY_V8_ARCHIVE_SHA256 pins the archive: no source
# is used that does not match it. docs/v8.md is the whole story.
#
# What was chosen before is chosen again: a changed RUSTY_V8_ARCHIVE makes cargo build the crate and
# all that uses it anew.

# The version is read from Cargo.lock, so it is named once.
v8_version() { # REPOSITORY
  awk '/^name = "v8"$/ { found = 1 }
    found && /^version = / { gsub(/"/, "", $3); print $3; exit }' "$1/Cargo.lock"
}

# The name that the crate's build script looks for.
v8_archive_name() {
  printf 'librusty_v8_release_%s-unknown-linux-gnu.a.gz' "$(uname -m)"
}

v8_cache_folder() { # REPOSITORY
  printf '%s/process-pool/v8/%s' "${XDG_CACHE_HOME:-$HOME/.cache}" "$(v8_version "$1")"
}

v8_says() { printf 'v8: %s\n' "$*" >&2; }

# Whether the archive is what its maker and the packager say: the checksum beside it, and
# RUSTY_V8_ARCHIVE_SHA256. A half-written archive would only fail at the link, far from here.
v8_matches() { # FILE
  local sum pinned=${RUSTY_V8_ARCHIVE_SHA256:-} beside=''
  [ ! -f "$1.sha256" ] || beside=$(awk '{ print $1; exit }' "$1.sha256")
  [ -n "$pinned$beside" ] || return 0
  sum=$(sha256sum "$1" | cut -d ' ' -f 1)
  if [ -n "$beside" ] && [ "$sum" != "${beside,,}" ]; then
    v8_says "$1 does not match the checksum in $1.sha256; it is not used (remove it to get it anew)"
    return 1
  fi
  if [ -n "$pinned" ] && [ "$sum" != "${pinned,,}" ]; then
    v8_says "$1 has the SHA-256 $sum, and RUSTY_V8_ARCHIVE_SHA256 wants $pinned; it is not used"
    return 1
  fi
}

v8_archive_in() { # FOLDER
  [ -s "$1/$(v8_archive_name)" ] && v8_matches "$1/$(v8_archive_name)"
}

# Asks for the archive on the release page. 0: it is there. 1: no answer, and `v8_answer` says why.
# 2: nothing on this machine can ask.
v8_release_answers() { # REPOSITORY
  local url
  url=https://github.com/denoland/rusty_v8/releases/download/v$(v8_version "$1")/$(v8_archive_name)
  v8_answer=''
  # These two are what the crate itself downloads with.
  if command -v curl >/dev/null; then
    v8_answer=$(curl --head --location --silent --show-error --fail --connect-timeout 5 \
      --max-time 15 --output /dev/null "$url" 2>&1)
  elif command -v python3 >/dev/null; then
    v8_answer=$(python3 -c 'import sys, urllib.request
try:
    urllib.request.urlopen(urllib.request.Request(sys.argv[1], method="HEAD"), timeout=15)
except OSError as error:
    sys.exit(f"python3: {error}")' "$url" 2>&1)
  else
    return 2
  fi || return 1
}

# Whether the crate's own download was done before, for some build of this target folder.
v8_downloaded_before() { # REPOSITORY
  local sum
  for sum in "${CARGO_TARGET_DIR:-$1/target}"/{release,debug}/gn_out/obj/librusty_v8.sum; do
    [ -f "$sum" ] && return 0
  done
  return 1
}

# RUSTY_V8_ARCHIVE as the user set it: made absolute, because the crate takes a relative one from
# its own folder, and looked into, because the crate would say less.
v8_check_named() {
  local file
  case $RUSTY_V8_ARCHIVE in
    http:* | https:*) return ;;
  esac
  [ -e "$RUSTY_V8_ARCHIVE" ] || {
    v8_says "RUSTY_V8_ARCHIVE names $RUSTY_V8_ARCHIVE, which does not exist"
    return 1
  }
  RUSTY_V8_ARCHIVE=$(realpath "$RUSTY_V8_ARCHIVE")
  export RUSTY_V8_ARCHIVE
  file=$RUSTY_V8_ARCHIVE
  if [ -d "$file" ]; then
    file=$RUSTY_V8_ARCHIVE/$(v8_archive_name)
    # The crate takes one that is not compressed as well.
    [ -f "$file" ] || file=${file%.gz}
    [ -f "$file" ] || {
      v8_says "RUSTY_V8_ARCHIVE names the folder $RUSTY_V8_ARCHIVE, which holds no $(v8_archive_name)"
      return 1
    }
  fi
  v8_matches "$file"
}

# Sets `v8_from`, and RUSTY_V8_ARCHIVE where an archive is at hand. Fails, saying why, when what
# the user asked for cannot be had.
v8_find() { # REPOSITORY
  local repository=$1 folder asked=0
  v8_from=''
  if [[ -n ${RUSTY_V8_ARCHIVE_SHA256:-} && ! $RUSTY_V8_ARCHIVE_SHA256 =~ ^[0-9A-Fa-f]{64}$ ]]; then
    v8_says "RUSTY_V8_ARCHIVE_SHA256 must be 64 hexadecimal digits, and it is '$RUSTY_V8_ARCHIVE_SHA256'"
    return 1
  fi
  if [ -n "${RUSTY_V8_ARCHIVE:-}" ]; then
    v8_from=named
    v8_check_named
    return
  fi
  # An empty value would be taken for a file's name.
  unset RUSTY_V8_ARCHIVE
  for v8_from in beside cache; do
    folder=$repository/../shared/v8
    [ "$v8_from" = beside ] || folder=$(v8_cache_folder "$repository")
    if v8_archive_in "$folder"; then
      RUSTY_V8_ARCHIVE=$(realpath "$folder")
      export RUSTY_V8_ARCHIVE
      return
    fi
  done
  v8_from=download
  [ -z "${RUSTY_V8_MIRROR:-}" ] || return 0
  ! v8_downloaded_before "$repository" || return 0
  v8_release_answers "$repository" || asked=$?
  case $asked in
    0) return ;;
    2)
      v8_says "the V8 library is downloaded with curl, and there is no curl: apt-get install curl" \
        "(or set RUSTY_V8_ARCHIVE to an archive)"
      return 1
      ;;
  esac
  v8_says "no archive at hand, and the release page does not answer (${v8_answer:-no reason given})"
  if [ -n "${RUSTY_V8_ARCHIVE_SHA256:-}" ]; then
    v8_says "a build from source is not tried, because it cannot match RUSTY_V8_ARCHIVE_SHA256"
    return 1
  fi
  v8_from=build
}

v8_choose() { # REPOSITORY
  local cache
  v8_find "$1" || return 1
  [ "$v8_from" = build ] || return 0
  cache=$(v8_cache_folder "$1")
  "${V8_BUILD:-$1/scripts/build-v8.sh}" "$cache" >&2 || return 1
  export RUSTY_V8_ARCHIVE=$cache
}

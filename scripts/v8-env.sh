# shellcheck shell=bash
# Decides where the static V8 library comes from. Sourced, never run; leaves RUSTY_V8_ARCHIVE set, or unset when the crate `v8`
# can download it by itself.
#
#   1. RUSTY_V8_ARCHIVE, when it is set: a folder or a file, made absolute (the crate takes a relative one from its own folder)
#   2. ../shared/v8 beside the repository, when the archive lies there
#   3. the user's cache, where 5 puts what it builds
#   4. the crate's release page, when it answers
#   5. a build from the crate's source: scripts/build-v8.sh, about an hour on two cores
#
# What was chosen before is chosen again: a changed RUSTY_V8_ARCHIVE makes cargo build the crate and all that uses it anew.

# What the crate's build script looks for. The version is read from Cargo.lock, so that it is named once.
v8_version() {
  awk '/^name = "v8"$/ { found = 1 } found && /^version = / { gsub(/"/, "", $3); print $3; exit }' "$1/Cargo.lock"
}

v8_archive_name() {
  printf 'librusty_v8_release_%s-unknown-linux-gnu.a.gz' "$(uname -m)"
}

v8_cache_folder() { # REPOSITORY
  printf '%s/process-pool/v8/%s' "${XDG_CACHE_HOME:-$HOME/.cache}" "$(v8_version "$1")"
}

# Whether an archive lies in the folder and is what was put there: a half-written one would only fail at the link, far from here.
v8_archive_in() { # FOLDER
  local name
  name=$(v8_archive_name)
  [ -s "$1/$name" ] || return 1
  if [ -f "$1/$name.sha256" ]; then
    (cd "$1" && sha256sum --check --status "$name.sha256") || {
      printf 'v8: %s does not match its checksum; it is not used (remove it to build it anew)\n' "$1/$name" >&2
      return 1
    }
  fi
}

v8_release_answers() { # REPOSITORY
  command -v curl >/dev/null || return 1
  curl --head --location --silent --show-error --fail --connect-timeout 5 --max-time 15 --output /dev/null \
    "https://github.com/denoland/rusty_v8/releases/download/v$(v8_version "$1")/$(v8_archive_name)" 2>/dev/null
}

# Whether the crate's own download was done before, for some build of this target folder.
v8_downloaded_before() { # REPOSITORY
  local sum
  for sum in "${CARGO_TARGET_DIR:-$1/target}"/{release,debug}/gn_out/obj/librusty_v8.sum; do
    [ -f "$sum" ] && return 0
  done
  return 1
}

v8_choose() { # REPOSITORY
  local repository=$1 beside=$1/../shared/v8 cache
  if [ -n "${RUSTY_V8_ARCHIVE:-}" ]; then
    case $RUSTY_V8_ARCHIVE in
      http:* | https:*) return ;;
    esac
    [ -e "$RUSTY_V8_ARCHIVE" ] || {
      printf 'v8: RUSTY_V8_ARCHIVE names %s, which does not exist\n' "$RUSTY_V8_ARCHIVE" >&2
      return 1
    }
    RUSTY_V8_ARCHIVE=$(realpath "$RUSTY_V8_ARCHIVE")
    export RUSTY_V8_ARCHIVE
    return
  fi
  # An empty value would be taken for a file's name.
  unset RUSTY_V8_ARCHIVE
  if v8_archive_in "$beside"; then
    RUSTY_V8_ARCHIVE=$(realpath "$beside")
    export RUSTY_V8_ARCHIVE
    return
  fi
  cache=$(v8_cache_folder "$repository")
  if v8_archive_in "$cache"; then
    export RUSTY_V8_ARCHIVE=$cache
    return
  fi
  if [ -n "${RUSTY_V8_MIRROR:-}" ] || v8_downloaded_before "$repository" || v8_release_answers "$repository"; then
    return
  fi
  printf 'v8: no archive at hand and the release page does not answer\n' >&2
  "${V8_BUILD:-$repository/scripts/build-v8.sh}" "$cache" >&2 || return 1
  export RUSTY_V8_ARCHIVE=$cache
}

#!/usr/bin/env bash
# Says what a build is going to take before it starts: where V8 comes from, and time and disk of the pool's own build. Builds
# nothing, and says nothing when the programs are built already.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/v8-env.sh
. "$repository/scripts/v8-env.sh"
[ ! -x "${CARGO_TARGET_DIR:-$repository/target}/release/pool-worker" ] || exit 0

printf '== What the build is going to take\n'
# Where nothing can be found the build is about to say why.
v8_find "$repository" 2>/dev/null || v8_from=''
case $v8_from in
  named | beside | cache) echo "V8    It is there already: $RUSTY_V8_ARCHIVE" ;;
  download) echo "V8    It is downloaded from the release page of the crate v8: about 40 MB." ;;
  build)
    cat <<PLAN
V8    No archive of it is at hand and its release page does not answer, so it is compiled from
      source, once: about 45 minutes on two cores, 140 MB of Debian packages, and 4 GB of disk in
      ${V8_BUILD_ROOT:-/var/tmp/process-pool-v8} meanwhile. It needs root, for a Debian unstable with a newer
      compiler in a folder of its own. The result, 32 MB, is kept in
      $(v8_cache_folder "$repository").
      RUSTY_V8_ARCHIVE names an archive that you have already; docs/v8.md says more.
PLAN
    ;;
esac
cat <<'PLAN'
Pool  About 250 packages are downloaded from crates.io, and compiled in about 5 minutes of CPU time; 1.5 GB in target/.
Tests They take another 10 to 15 minutes, and another 5 GB in target/. The demonstration does not need them.
PLAN

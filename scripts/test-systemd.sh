#!/usr/bin/env bash
# Runs deploy/process-pool.service under a real systemd, booted in namespaces of its own, and checks that the unit is as closed as
# its README says and that the pool works in it all the same.
#
#   scripts/test-systemd.sh      wants root, jq and the built programs (scripts/build.sh); the first run makes a Debian root (a minute);
#                                MACHINE_SUITE=trixie takes another Debian's systemd, SYSTEMD_TEST=no leaves the test out
#
# The last line counts: "N passed, N failed". A machine that cannot is told so, "skipped: …", and the exit code is 77, or 1 where
# POOL_TESTS_REQUIRE demands the test.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
# shellcheck source=tests/skip.bash
. tests/skip.bash
# shellcheck source=tests/systemd/machine.bash
. tests/systemd/machine.bash
# shellcheck source=tests/systemd/checks.bash
. tests/systemd/checks.bash

layer=$(mktemp -d "${TMPDIR:-/tmp}/pool-layer-XXXXXX")
finish() {
  local code=$?
  trap - EXIT INT TERM
  machine_end
  rm -rf "$layer"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Installed as deploy/README.md says, but for the configuration, which allows what the checks run.
fill_layer() {
  local bin=${CARGO_TARGET_DIR:-target}/release files=tests/systemd/files program
  mkdir -p "$layer"/usr/local/bin "$layer"/etc/{process-pool,systemd/system} "$layer"/srv/tasks
  chmod -R u=rwX,go=rX "$layer"
  for program in pool-supervisor pool-worker poolctl; do
    [ -x "$bin/$program" ] || { echo "$0: $bin/$program is not built; run scripts/build.sh" >&2; exit 2; }
    install -m 755 "$bin/$program" "$layer/usr/local/bin/"
  done
  install -m 644 deploy/process-pool.service "$files"/greeting.socket "$files"/greeting@.service "$layer/etc/systemd/system/"
  # The unit's walls around another program.
  sed -E -e 's#^ExecStart=.*#ExecStart=/bin/sh /srv/tasks/room.sh#' -e 's/^Type=.*/Type=oneshot/' -e '/^(Restart|WatchdogSec|RuntimeDirectory|ConfigurationDirectory)/d' \
    deploy/process-pool.service >"$layer/etc/systemd/system/room.service"
  install -m 644 "$files"/config.toml deploy/config.example.toml "$layer/etc/process-pool/"
  install -m 644 "$files"/*.{sh,pl,mjs} "$layer/srv/tasks/"
  echo "127.0.0.1 localhost" >"$layer/etc/hosts"
}

if [ "${SYSTEMD_TEST:-yes}" = no ]; then
  skipped systemd systemd "another SYSTEMD_TEST than \"no\"" "scripts/test-systemd.sh" || exit
fi
machine_possible || exit
scripts/setup.sh systemd
fill_layer
machine_root
machine_boot "$layer"
inside useradd --system --home-dir /var/lib/process-pool --shell /usr/sbin/nologin process-pool
inside systemctl start greeting.socket
echo "booted $(inside systemctl --version | head -n 1)"
run_checks
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]

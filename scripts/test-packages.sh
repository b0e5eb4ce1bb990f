#!/usr/bin/env bash
# Installs the npm packages that docs/javascript.md lists, has a pool make one real call of each, and compares with the page.
#
#   scripts/build.sh && scripts/test-packages.sh
#
# The last line counts: "N passed, N failed". A machine that cannot is told so, "skipped: …", and the exit code is 77, or 1 where
# POOL_TESTS_REQUIRE demands `npm`.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=tests/skip.bash
. tests/skip.bash

needs packages node nodejs
needs packages npm npm
if ! npm view semver@7 version >/dev/null 2>&1; then
  skipped packages npm "the npm registry" "let npm reach it: npm ping" || exit
fi
exec node scripts/packages/try.mjs --check

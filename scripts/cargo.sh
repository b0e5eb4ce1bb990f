#!/usr/bin/env bash
# cargo, with V8 found for it: `scripts/cargo.sh build --release`, `scripts/cargo.sh test`, …
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/v8-env.sh
. "$repository/scripts/v8-env.sh"
v8_choose "$repository"
exec cargo "$@"

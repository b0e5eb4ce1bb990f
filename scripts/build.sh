#!/usr/bin/env bash
# Builds the three programs. They end up in target/release: pool-supervisor, pool-worker, poolctl.
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
exec scripts/cargo.sh build --release --bins -p pool-supervisor -p pool-worker "$@"

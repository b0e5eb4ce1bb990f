#!/usr/bin/env bash
# Counts the instructions that a task costs in the core and the frames, and fails when they have become more than 5 % more than
# what benches/instructions.json says. Wants valgrind.
#
#   scripts/instructions.sh            compare
#   scripts/instructions.sh --store    store what is counted
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
# With the programs' packages named too, cargo gives the dependencies the features that they have in scripts/build.sh: less to
# build, and what is counted is what is shipped.
build=(build --release -p pool-bench -p pool-supervisor -p pool-worker --bin instructions)
program=$(scripts/cargo.sh "${build[@]}" --message-format=json-render-diagnostics | jq -r 'select(.executable != null and .target.name == "instructions") | .executable')
exec "$program" check --stored benches/instructions.json "$@"

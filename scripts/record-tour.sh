#!/usr/bin/env bash
# Runs the tour of README.md, writes into it what the programs print now, and draws docs/tour.svg
# from that. Outputs that differ only in what differs from run to run stay as they are. Look at `git
# diff` afterwards: each change is one that users see.
#
#   scripts/record-tour.sh       wants the built programs (scripts/build.sh)
set -Eeuo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$repository"
TOUR=record exec scripts/cargo.sh test --package pool-tests --test contract --quiet -- \
  tour::the_tour_prints_what_the_page_says

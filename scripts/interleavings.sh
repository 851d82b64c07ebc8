#!/usr/bin/env bash
# Runs what threads share in thousands of orders that Shuttle chooses: watchers, files made on demand, CPUs for jobs.
# These are the unit tests in modules named `interleavings`, built apart, since src/sync.rs is another one then.
#
# What a failing test prints is for shuttle::replay.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export RUSTFLAGS="--cfg shuttle -D warnings"
exec cargo test --locked --target-dir "${CARGO_TARGET_DIR:-target}/shuttle" --no-default-features --lib -- interleavings::

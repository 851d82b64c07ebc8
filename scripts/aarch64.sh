#!/usr/bin/env bash
# Builds for aarch64 and runs, under emulation, what needs no mount: the unit tests, the model of the store, and the command
# line's own tests. qemu-user has no FUSE.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

scripts/install-deps.sh aarch64
rustup target add aarch64-unknown-linux-gnu
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64-static -L /usr/aarch64-linux-gnu"
target=(--locked --target aarch64-unknown-linux-gnu)
cargo build "${target[@]}" --all-features
cargo test "${target[@]}" --all-features --lib --bins -- store view text cli
cargo test "${target[@]}" --test model

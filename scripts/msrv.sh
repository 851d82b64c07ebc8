#!/usr/bin/env bash
# Compiles the library and the program with the oldest Rust that Cargo.toml promises; rustup brings it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

version="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)"
rustup toolchain install --profile minimal --no-self-update "$version"
cargo "+$version" check --locked --all-features
cargo "+$version" check --locked --no-default-features --lib

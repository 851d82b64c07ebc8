#!/usr/bin/env bash
# Installs what is missing, builds notapipe, and compares it with a directory on tmpfs and with one on disk.
#
#   scripts/bench.sh             everything; some minutes
#   scripts/bench.sh --quick     small sizes, under a minute
#   scripts/bench.sh --help      all options; --list, --only NAME…, --json FILE, --svg FILE …
#
# The table is all that goes to standard output.
set -euo pipefail
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"

"$here/install-deps.sh" bench
PATH="$("$here/install-rgbds.sh"):$PATH"
export PATH
if ! command -v cargo >/dev/null; then
    echo "bench.sh: cargo is missing: install Rust 1.88 or later with rustup" >&2
    exit 1
fi
# FILE and DIR of the options are the caller's, so the working directory stays.
cargo build --locked --release --quiet --manifest-path "$here/../Cargo.toml" >&2
target="${CARGO_TARGET_DIR:-$here/../target}"

# Nothing is left beside the sources.
export PYTHONDONTWRITEBYTECODE=1
exec python3 "$here/bench" --notapipe "$(realpath -- "$target/release/notapipe")" "$@"

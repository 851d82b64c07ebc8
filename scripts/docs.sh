#!/usr/bin/env bash
# Renders docs into target/book with mdBook, which it installs if it is missing; a broken link fails.
#
#   scripts/docs.sh
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

mdbook="$(scripts/install-cargo-tool.sh mdbook 0.5.4)"
"$mdbook" build docs

#!/usr/bin/env bash
# Attaches what scripts/package.sh has made to the release of the tag that is checked out. Wants gh and GH_TOKEN.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

tag="$(git describe --exact-match --tags)"
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)"
[[ $tag == "v$version" ]] || { echo "release.sh: the tag $tag is not v$version of Cargo.toml" >&2; exit 1; }
notes="$(awk -v heading="## [$version]" 'index($0, heading) == 1 { on = 1; next } /^## / { on = 0 } on' CHANGELOG.md)"
gh release create "$tag" --title "notapipe $version" --notes "$notes" "${CARGO_TARGET_DIR:-target}"/packages/*

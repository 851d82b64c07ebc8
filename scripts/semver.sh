#!/usr/bin/env bash
# Says what of the library's interface is no longer as it was in the last release, and which version that asks for
# (cargo-semver-checks). To be run before a release.
#
#   scripts/semver.sh              against the newest tag v* that this commit descends from
#   scripts/semver.sh --since REV  against another commit
#
# The sources are compared as they lie here, committed or not, with all features. It fails when the version in Cargo.toml
# is too small a step for what has changed. Before the first release nothing is promised: without --since there is
# nothing to compare with, which is said, and that is no failure.
#
# The tool is built once, in some minutes, by install-cargo-tool.sh.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Wants Rust 1.93 or later, more than notapipe itself.
readonly SEMVER_CHECKS=0.51.0

say() { printf 'semver: %s\n' "$*" >&2; }
usage() {
    say "usage: scripts/semver.sh [--since REV]"
    exit 2
}

case $# in
0)
    if ! since=$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null); then
        say "there is no release yet (no tag v*), so nothing is compared; --since REV compares with any commit"
        exit 0
    fi
    ;;
2)
    [[ $1 == --since ]] || usage
    since=$2
    ;;
*) usage ;;
esac
if ! commit=$(git rev-parse --verify --quiet --end-of-options "$since^{commit}"); then
    say "there is no commit $since here"
    exit 2
fi

# It runs for a second: what counts is the time to build it.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=256 CARGO_PROFILE_RELEASE_DEBUG=0
tool=$(scripts/install-cargo-tool.sh cargo-semver-checks "$SEMVER_CHECKS")
say "compared with $since ($(git show --no-patch --format='%h, %as' "$commit"))"
exec "$tool" semver-checks --all-features --baseline-rev "$commit"

#!/usr/bin/env bash
# What in the library's public surface breaks programs that use it: compares with an earlier commit.
#
#   scripts/semver.sh              against the last tag
#   scripts/semver.sh --rev HEAD~9 against any commit
#
# The package is in no registry, so a commit is the baseline. The tool (cargo-semver-checks) is built once, into
# $NOTAPIPE_TOOLS or /usr/local/lib/notapipe-tools.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly VERSION=0.51.0

revision=
if [[ ${1-} == --rev && -n ${2-} ]]; then
    revision=$2
elif (($#)); then
    sed -n 's/^# \{0,1\}//; 4,5p' "${BASH_SOURCE[0]}" >&2
    exit 2
else
    revision=$(git describe --tags --abbrev=0 2>/dev/null) || {
        echo "semver.sh: there is no tag yet; name a commit: --rev COMMIT" >&2
        exit 2
    }
fi

prefix=${NOTAPIPE_TOOLS:-/usr/local/lib/notapipe-tools}/cargo-semver-checks-$VERSION
if [[ ! -x $prefix/bin/cargo-semver-checks ]]; then
    echo "semver.sh: building cargo-semver-checks $VERSION into $prefix" >&2
    env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$prefix" "cargo-semver-checks@$VERSION" >&2
fi

# Each set of features has a surface of its own.
for features in --only-explicit-features --all-features; do
    "$prefix/bin/cargo-semver-checks" semver-checks --baseline-rev "$revision" "$features"
done

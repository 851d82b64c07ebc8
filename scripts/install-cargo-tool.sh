#!/usr/bin/env bash
# Builds one version of a published crate's program, once, and prints where it is. Everything else goes to stderr:
#
#     fsx=$(scripts/install-cargo-tool.sh fsx 0.3.2)
#
# It gets a prefix of its own beside the tools of install-rgbds.sh: below $NOTAPIPE_TOOLS, or /usr/local/lib/notapipe-tools,
# or a user's cache. To build it afresh remove that directory. Cargo's settings (CARGO_PROFILE_RELEASE_LTO and others)
# are passed on.
set -euo pipefail

say() { printf 'install-cargo-tool: %s\n' "$*" >&2; }

if (($# != 2)); then
    say "usage: scripts/install-cargo-tool.sh NAME VERSION"
    exit 2
fi
prefix=${NOTAPIPE_TOOLS:-/usr/local/lib/notapipe-tools}/$1-$2
if ((EUID)) && [[ -z ${NOTAPIPE_TOOLS-} && ! -x $prefix/bin/$1 ]]; then
    prefix=${XDG_CACHE_HOME:-$HOME/.cache}/notapipe/tools/$1-$2
fi
if [[ ! -x $prefix/bin/$1 ]]; then
    say "building $1 $2 into $prefix"
    # Not in a target directory of ours, which its dependencies would fill.
    if ! env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$prefix" "$1@$2" >&2; then
        say "$1 $2 cannot be built: see above"
        exit 1
    fi
fi
printf '%s\n' "$prefix/bin/$1"

#!/usr/bin/env bash
# Installs what is missing, then runs every check and every test.
#
#   scripts/test.sh            all of it
#   scripts/test.sh --fast     what an ordinary user can run in three minutes after the build, with the tools that are
#                              there; installs nothing, and says at its end what it left out
#   scripts/test.sh --release  the tests as a release is built
#   scripts/test.sh -- NAME    only the tests whose names contain NAME
#
# As root it installs packages and opens /dev/fuse to everyone, as the distributions have it; as an
# ordinary user it says what is missing.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s\n' "$*" >&2; }

# The arguments that choose the test binaries, for cargo; all of them unless said.
targets=()
# What --fast does not do, a line each; a file, since the tests write to it too.
left_out=
fast() { [[ -n $left_out ]]; }
leave_out() { printf '%s\n' "$*" >>"$left_out"; }

profile=()
filter=()
log="$(mktemp)"
trap 'rm -f -- "$log" "$log.suites" "$log.left-out"' EXIT
while (($#)); do
    case $1 in
    --fast) left_out="$log.left-out" ;;
    --release) profile=(--release) ;;
    --)
        filter=("${@:2}")
        break
        ;;
    *)
        echo "usage: scripts/test.sh [--fast] [--release] [-- NAME]" >&2
        exit 2
        ;;
    esac
    shift
done

step "what the tests need"
if fast; then
    targets=(--lib --bins --test it --test model --test posix)
    leave_out "the documentation and its examples, which tests/docs runs; tests/faults, tests/memory and tests/soak"
    leave_out "scripts/interleavings.sh, scripts/conformance.sh and scripts/python.sh"
    lacking="$(scripts/install-deps.sh --missing test)"
    if [[ -z $lacking ]]; then
        targets+=(--test tools)
    else
        leave_out "tests/tools: there is no ${lacking//$'\n'/, }"
    fi
else
    scripts/install-deps.sh test
    scripts/install-deps.sh docs
fi
PATH="$(scripts/install-rgbds.sh):$PATH"
export PATH
if ! command -v cargo >/dev/null; then
    echo "test.sh: cargo is missing: install Rust 1.88 or later with rustup" >&2
    exit 1
fi

step "layout (rustfmt)"
cargo fmt --check
step "lints (clippy)"
cargo clippy --locked --all-targets --all-features -- -D warnings
if ! fast; then
    cargo clippy --locked --no-default-features --lib -- -D warnings
    step "shell scripts (shellcheck)"
    shellcheck scripts/*.sh scripts/conformance/*.sh scripts/containers/*.sh .ci/run
    step "workflows (scripts/workflows.sh)"
    scripts/workflows.sh >&2
    step "documentation"
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps --document-private-items
    # As users see it: a link to what they cannot see is broken.
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --all-features --no-deps --lib
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-default-features --no-deps --lib
fi

step "tests"
if fast; then
    # A test that cannot be done here, or not all of it, writes to this; where it is not set, that is a failure.
    export NOTAPIPE_LEFT_OUT="$left_out"
fi
# One binary after another: each mounts, and two of them at once would only fight for two cores. Signals as a terminal has
# them: under nohup, or behind `&`, the tools would inherit that some are ignored.
env --default-signal=HUP,INT,QUIT,TERM cargo test --locked "${profile[@]}" --all-features --no-fail-fast "${targets[@]}" -- "${filter[@]}" 2>&1 | tee "$log"

suites=0
if ! fast && ((${#filter[@]} == 0)); then
    step "orders of threads (scripts/interleavings.sh)"
    scripts/interleavings.sh 2>&1 | tee -a "$log"
    step "other people's tests (scripts/conformance.sh --quick)"
    export NOTAPIPE="${CARGO_TARGET_DIR:-target}/debug/notapipe"
    if ! scripts/conformance.sh --quick 2>&1 | tee "$log.suites" >&2; then
        echo "test.sh: scripts/conformance.sh --quick failed: see above" >&2
        exit 1
    fi
    suites="$(sed -n 's/^conformance: \([0-9]*\) suites passed$/\1/p' "$log.suites")"
    step "the Python package (scripts/python.sh)"
    if ! scripts/python.sh 2>&1 | tee "$log.suites" >&2; then
        echo "test.sh: scripts/python.sh failed: see above" >&2
        exit 1
    fi
    suites=$((suites + $(sed -n 's/^python: \([0-9]*\) tests passed$/\1/p' "$log.suites")))
fi

if fast; then
    step "left out"
    grep -v ': what root would see' "$left_out" >&2 || true
    printf 'what root would see of %s tests that an ordinary user saw\n' \
        "$(grep -c ': what root would see' "$left_out")" >&2
fi

# One line for all binaries and suites, so that the count shows.
awk -v suites="$suites" '/^test result: ok\./ { passed += $4; ignored += $8 }
     END { if (passed == 0) exit 1
           printf "\ntest result: ok. %d passed; 0 failed; %d ignored\n", passed + suites, ignored }' "$log"

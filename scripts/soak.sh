#!/usr/bin/env bash
# Many jobs at once for ten minutes, with tools that are killed and scratch directories that are dropped while they
# are in use; then nothing may be left. Prints what was done and what is left, and ends with a status other than 0
# when there is a leak of descriptors, threads, mounts, processes or memory.
#
#   scripts/soak.sh                ten minutes, built for release
#   scripts/soak.sh --seconds 60   shorter
#   scripts/soak.sh --debug        with debug assertions
#   scripts/soak.sh --seed 7       the same choices again (the timing differs)
#
# scripts/test.sh runs twelve seconds of it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

usage() {
    sed -n 's/^# \{0,1\}//; 6,9p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

export SOAK_SECONDS=600
profile=(--release)
while (($#)); do
    case $1 in
    --seconds)
        [[ ${2-} =~ ^[1-9][0-9]*$ ]] || usage
        SOAK_SECONDS=$2
        shift
        ;;
    --seed)
        [[ ${2-} =~ ^[0-9]+$ ]] || usage
        export SOAK_SEED=$2
        shift
        ;;
    --debug) profile=() ;;
    *) usage ;;
    esac
    shift
done

exec nice cargo test --locked "${profile[@]}" --no-default-features --test soak -- --nocapture

#!/usr/bin/env bash
# What the memory of `notapipe mount` does when 100,000 files and 4 GiB are written and deleted: within ten seconds it
# must be back within 32 MiB of where it began. Takes a minute or two.
#
#   scripts/memory.sh             builds and measures
#   NOTAPIPE=FILE scripts/memory.sh   measures that program
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

if [[ -z ${NOTAPIPE-} ]]; then
    cargo build --locked --release
    NOTAPIPE="${CARGO_TARGET_DIR:-target}/release/notapipe"
fi
mount="$(mktemp -d)"
trap '"$NOTAPIPE" umount --lazy "$mount" 2>/dev/null || true; rmdir -- "$mount"' EXIT
"$NOTAPIPE" mount --background --size 5G --inodes 200K "$mount"
pid="$("$NOTAPIPE" status --json "$mount" | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p')"

resident() { # MiB
    awk '/^VmRSS:/ { printf "%d\n", $2 / 1024 }' "/proc/$pid/status"
}

fill() {
    head -c 4G /dev/zero | tr '\0' x >"$mount/big"
    local directory
    for directory in {1..100}; do
        mkdir "$mount/$directory"
        seq -f "$mount/$directory/%g" 1000 | xargs touch
    done
}

began="$(resident)"
echo "at the beginning: $began MiB"
for round in 1 2; do
    fill
    "$NOTAPIPE" status "$mount" | sed -n '2,3p'
    echo "round $round, full: $(resident) MiB"
    rm -r -- "${mount:?}"/*
    for _ in {1..20}; do
        left="$(resident)"
        ((left > began + 32)) || break
        sleep 0.5
    done
    echo "round $round, emptied: $left MiB"
    if ((left > began + 32)); then
        echo "memory.sh: $((left - began)) MiB did not come back" >&2
        exit 1
    fi
done

# fsx: one file, any order of operations.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

readonly FSX=0.3.2
fsx_configuration() {
    cat <<TOML
# Over eight chunks of the store and many pages.
flen = 1048576

[opsize]
max = 65536

[weights]
read = 10
write = 10
mapread = 10
mapwrite = 10
truncate = 5
punch_hole = 5
copy_file_range = 5
posix_fallocate = 2
sendfile = 2
close_open = 1
invalidate = 1
fsync = 1
fdatasync = 1
posix_fadvise = 1
TOML
}

# One seed, in a file of its own; called by xargs in a shell of its own.
fsx_seed() {
    local seed=$1
    # What it leaves behind when it fails is below $logs: its journal, and the file as it should be.
    if RUST_BACKTRACE=0 timeout 1800 "$fsx" -q -f "$logs/fsx.toml" -N "$operations" -S "$seed" -P "$logs" "$mount/fsx.$seed" \
        >"$logs/fsx.$seed.log" 2>&1; then
        rm -f "$logs/fsx.$seed.log" "$mount/fsx.$seed"
    else
        printf 'conformance: fsx, seed %s, after up to %s operations: %s\n' "$seed" "$operations" \
            "$(tail -n 1 "$logs/fsx.$seed.log")" >&2
        return 1
    fi
}

suite_fsx() {
    local seeds=20
    operations=100000
    if ((quick)); then
        seeds=4 operations=10000
    fi
    fsx=$("$here/install-cargo-tool.sh" fsx "$FSX") || return 1
    fsx_configuration >"$logs/fsx.toml"
    export fsx operations mount logs
    export -f fsx_seed
    # Side by side: the mount serves several files at once, too.
    seq 1 "$seeds" | xargs -P "$(nproc)" -I SEED bash -c 'fsx_seed SEED' || return 1
    say "fsx: $seeds seeds of $operations operations, clean"
}

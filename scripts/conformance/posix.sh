# Our own: every case of tests/posix, in which root and an ordinary user do the same on tmpfs, in notapipe mount and in
# notapipe run, and every result, errno and stat is compared; then long random sequences of several processes.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

posix_cases() {
    NOTAPIPE_PROFILE=$profile timeout 900 cargo test --quiet --locked --all-features --manifest-path "$here/../Cargo.toml" \
        --test posix -- "$@" >"$logs/posix" 2>&1 </dev/null || {
        say "posix: $(grep -A12 '^---- ' "$logs/posix" | head -n 14)"
        return 1
    }
}

suite_posix() {
    local seed seeds=20 calls=8000
    ((quick == 0)) || seeds=1 calls=3000
    if ((quick == 0)); then
        posix_cases || return 1
        say "posix: $(grep '^test result' "$logs/posix")"
    fi
    for ((seed = 1; seed <= seeds; seed++)); do
        # What failed is had again with these two.
        export NOTAPIPE_RANDOM_SEED=$seed NOTAPIPE_RANDOM_CALLS=$calls
        posix_cases random || {
            say "posix: NOTAPIPE_RANDOM_SEED=$seed NOTAPIPE_RANDOM_CALLS=$calls cargo test --test posix random"
            return 1
        }
    done
    say "posix: $seeds seeds of $calls random calls, the same through every door"
}

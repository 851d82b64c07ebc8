# stress-ng: every stressor of its class filesystem that passes on tmpfs passes in the mount.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

# What needs other parts of the machine than a directory: kernel modules, watches on other mounts, block devices.
readonly STRESS_NG_ELSEWHERE='binderfs bind-mount eventfd ioprio procfs'
# One of each kind; the rest takes minutes.
readonly STRESS_NG_QUICK='access dir rename xattr fallocate flock link symlink utime'

stress_ng_stressors() {
    local name
    if ((quick)); then
        tr ' ' '\n' <<<"$STRESS_NG_QUICK"
        return
    fi
    for name in $(stress-ng --class 'filesystem?' 2>&1 | sed -n "s/^class 'filesystem' stressors: //p"); do
        [[ " $STRESS_NG_ELSEWHERE " == *" $name "* ]] || printf '%s\n' "$name"
    done
}

# Whether stressor $1 passes in directory $2: not when it fails, and not when it has nothing to do here. Its own limit
# of time is not always its end.
stress_ng_passes() {
    local seconds=$((quick ? 1 : 5)) log=$logs/stress-ng.$1.${2##*/}
    timeout -k 10 $((seconds * 10 + 60)) stress-ng --"$1" 2 --timeout "$seconds" --verify --temp-path "$2" \
        --oomable >"$log" 2>&1 && ! grep -Eqi 'skipp(ed|ing)' "$log"
}

suite_stress_ng() {
    local name passed=0 elsewhere=() failed=()
    for name in $(stress_ng_stressors); do
        if stress_ng_passes "$name" "$mount"; then
            passed=$((passed + 1))
        elif stress_ng_passes "$name" "$tmpfs"; then
            failed+=("$name")
        else
            elsewhere+=("$name")
        fi
        find "$mount" "$tmpfs" -mindepth 1 -delete
        mountpoint -q "$mount" || return 1
    done
    say "stress-ng: $passed stressors passed; neither here nor on tmpfs: ${elsewhere[*]:-none}"
    ((${#failed[@]} == 0)) || say "stress-ng: passed on tmpfs only: ${failed[*]}"
    ((passed > 0 && ${#failed[@]} == 0))
}

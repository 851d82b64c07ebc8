# The memory of the serving process when 100,000 files and 4 GiB are written and deleted: soon it must be back within
# 32 MiB of where it began.
# shellcheck shell=bash disable=SC2154 # sourced by ../conformance.sh, which says what a suite finds

# Of the process that serves the mount, in MiB.
resident() {
    awk '/^VmRSS:/ { printf "%d\n", $2 / 1024 }' "/proc/$1/status"
}

suite_memory() {
    local directories=100 mebibytes=4096 directory pid began full left tries=40
    ((quick == 0)) || directories=10 mebibytes=256
    pid=$("$NOTAPIPE" status --json "$mount" | sed -n 's/^ *"pid": \([0-9]*\),$/\1/p')
    began=$(resident "$pid") || return 1
    head -c "${mebibytes}M" /dev/zero | tr '\0' x >"$mount/big" || return 1
    for ((directory = 1; directory <= directories; directory++)); do
        mkdir "$mount/$directory" && seq -f "$mount/$directory/%g" 1000 | xargs touch || return 1
    done
    full=$(resident "$pid")
    find "$mount" -mindepth 1 -delete
    left=$(resident "$pid")
    while ((left > began + 32 && tries-- > 0)); do
        sleep 0.5
        left=$(resident "$pid")
    done
    say "memory: $began MiB at first, $full MiB with $((directories * 1000)) files and $mebibytes MiB, $left MiB after deleting them"
    ((left <= began + 32))
}

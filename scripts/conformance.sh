#!/usr/bin/env bash
# Runs other people's file system tests on a real mount: they know of cases that we did not think of.
#
#     scripts/conformance.sh                # every suite, in full
#     scripts/conformance.sh --quick        # every suite, what fits in two minutes together
#     scripts/conformance.sh pjdfstest fsx  # these only
#
# As root, since half of what the suites ask is about other users. The mount is a public one with
# --allow-other; where a suite's answer depends on the kernel, it also runs on tmpfs, and tmpfs is right.
#
# Each suite is a function `suite_NAME`: it finds the empty mount in $mount and an empty tmpfs in $tmpfs,
# may write below $logs, and fails by returning non-zero. Afterwards the mount must be empty again, and its
# accounting as well. To add one, write the function and put its name into SUITES.
#
# The suites' programs are built once into a prefix of their own, beside the tools of install-rgbds.sh:
# $NOTAPIPE_TOOLS, or /usr/local/lib/notapipe-tools. $NOTAPIPE names the program to test; without it a release
# build is made.

set -euo pipefail
export LC_ALL=C

readonly SUITES=(pjdfstest fsx)
readonly PJDFSTEST=0.2.2
readonly FSX=0.3.2
# One more is needed than every machine has.
readonly SECOND_USER=notapipe-tests

say() { printf 'conformance: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# Builds version $2 of the crate $1 once, and prints the path of its program.
cargo_tool() {
    local prefix=${NOTAPIPE_TOOLS:-/usr/local/lib/notapipe-tools}/$1-$2
    if [[ ! -x $prefix/bin/$1 ]]; then
        say "building $1 $2 into $prefix"
        # Not in a target directory of ours, which its dependencies would fill.
        env -u CARGO_TARGET_DIR cargo install --quiet --locked --root "$prefix" "$1@$2" >&2 ||
            die "$1 $2 cannot be built: see above"
    fi
    printf '%s\n' "$prefix/bin/$1"
}

# ---------------------------------------------------------------- pjdfstest: POSIX, call by call

# Its configuration: what Linux has, and the two users whom it becomes.
pjdfstest_configuration() {
    cat <<TOML
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}

[settings]
# Seconds between two changes whose times must differ: over a timer tick at 100 Hz.
naptime = 0.02
allow_remount = false

[dummy_auth]
entries = [["nobody", "$(id -gn nobody)"], ["$SECOND_USER", "$SECOND_USER"]]
TOML
}

# Runs it in the directory $1 and leaves its output in $2, without the colours.
pjdfstest_in() {
    local status=0
    timeout 600 "$pjdfstest" -c "$logs/pjdfstest.toml" -p "$1" >"$2.raw" 2>&1 || status=$?
    sed 's/\x1b\[[0-9;]*m//g' "$2.raw" >"$2"
    ((status != 124)) || say "pjdfstest hangs in $1; its last line: $(tail -n 1 "$2")"
}

# The cases with the result $2 in the output $1.
pjdfstest_cases() {
    awk -v result="$2" '$2 == result && NF == 2 { print $1 }' "$1" | sort
}

suite_pjdfstest() {
    local pjdfstest failed lacking
    pjdfstest=$(cargo_tool pjdfstest "$PJDFSTEST") || return 1
    ensure_second_user || return 1
    pjdfstest_configuration >"$logs/pjdfstest.toml"
    pjdfstest_in "$tmpfs" "$logs/pjdfstest.tmpfs"
    pjdfstest_in "$mount" "$logs/pjdfstest.mount"
    say "pjdfstest on tmpfs:     $(grep '^Summary' "$logs/pjdfstest.tmpfs" || echo 'no summary')"
    say "pjdfstest in the mount: $(grep '^Summary' "$logs/pjdfstest.mount" || echo 'no summary')"
    # Every case that passes on tmpfs passes here; so nothing fails, and nothing more is skipped.
    lacking=$(comm -23 <(pjdfstest_cases "$logs/pjdfstest.tmpfs" ok) \
        <(pjdfstest_cases "$logs/pjdfstest.mount" ok))
    failed=$(pjdfstest_cases "$logs/pjdfstest.mount" FAILED)
    [[ -z $lacking ]] || say "passed on tmpfs only:"$'\n'"$lacking"
    [[ -z $failed ]] || say "failed in the mount:"$'\n'"$failed"
    # A run that ended early, or a configuration that switched cases off, must not look like a good one.
    grep -q '^Summary: 0 failed, 16 skipped, 382 passed' "$logs/pjdfstest.tmpfs" ||
        say "tmpfs of this kernel ($(uname -r)) has other figures than 382 passed, 16 skipped, 0 failed"
    grep -q '^Summary: 0 failed' "$logs/pjdfstest.tmpfs" && grep -q '^Summary: 0 failed' "$logs/pjdfstest.mount" &&
        [[ -z $lacking$failed ]]
}

# The second user, removed again at the end if it was not there.
ensure_second_user() {
    id -u "$SECOND_USER" >/dev/null 2>&1 && return
    type -P useradd >/dev/null || die "no useradd here: make a user and a group $SECOND_USER"
    useradd --system --user-group --no-create-home --shell /usr/sbin/nologin "$SECOND_USER" || return 1
    made_user=1
}

# ---------------------------------------------------------------- fsx: one file, any order of operations

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
    fsx=$(cargo_tool fsx "$FSX") || return 1
    fsx_configuration >"$logs/fsx.toml"
    export fsx operations mount logs
    export -f fsx_seed
    # Side by side: the mount serves several files at once, too.
    seq 1 "$seeds" | xargs -P "$(nproc)" -I SEED bash -c 'fsx_seed SEED' || return 1
    say "fsx: $seeds seeds of $operations operations, clean"
}

# ---------------------------------------------------------------- what every suite gets

# A fresh mount and a fresh tmpfs, mounted alike.
open_scene() {
    mkdir -p "$mount" "$tmpfs" &&
        mount -t tmpfs -o nosuid,nodev,mode=755 notapipe-conformance "$tmpfs" &&
        "$NOTAPIPE" mount --background --allow-other --mode 755 "$mount" &&
        mountpoint -q "$mount"
}

close_scene() {
    local status=0
    if mountpoint -q "$mount"; then
        "$NOTAPIPE" umount "$mount" || status=1
    fi
    if mountpoint -q "$mount"; then
        say "$mount is still mounted"
        umount -l "$mount" || true
        status=1
    fi
    if mountpoint -q "$tmpfs"; then
        umount "$tmpfs" || umount -l "$tmpfs"
    fi
    return "$status"
}

# Bytes and inodes that the mount says are used.
used() {
    stat -f -c '%S %b %f %c %d' "$mount" | awk '{ print $1 * ($2 - $3), $4 - $5 }'
}

# Once everything is removed, nothing is charged but the root's inode.
all_is_given_back() {
    find "$mount" -mindepth 1 -delete
    # The kernel forgets unlinked inodes a little later than it answers unlink.
    local tries=100
    while [[ $(used) != "0 1" ]] && ((tries-- > 0)); do
        sleep 0.1
    done
    [[ $(used) == "0 1" ]] || {
        say "after removing everything $(used | awk '{ print $1 " bytes and " $2 " inodes" }') are still charged"
        return 1
    }
}

run_suite() {
    local name=$1 status=0 started=$SECONDS
    # `set -e` does not act in a condition, nor in what is called there: every function returns its status.
    if open_scene; then
        "suite_$name" || status=1
        mountpoint -q "$mount" || {
            say "$name: the mount is gone"
            status=1
        }
    else
        say "$name: cannot mount"
        status=1
    fi
    ((status)) || all_is_given_back || status=1
    close_scene || status=1
    if ((status)); then
        say "$name: FAILED after $((SECONDS - started)) s"
    else
        say "$name: ok, $((SECONDS - started)) s"
    fi
    return "$status"
}

quick=0
made_user=0
chosen=()
for argument; do
    case $argument in
    --quick) quick=1 ;;
    *)
        [[ " ${SUITES[*]} " == *" $argument "* ]] || {
            say "usage: scripts/conformance.sh [--quick] [SUITE...], of: ${SUITES[*]}"
            exit 2
        }
        chosen+=("$argument")
        ;;
    esac
done
((${#chosen[@]})) || chosen=("${SUITES[@]}")

((EUID == 0)) || die "run this as root: the suites become other users and make device nodes"
[[ -z ${NOTAPIPE-} ]] || NOTAPIPE=$(realpath "$NOTAPIPE")
cd "$(dirname "$0")/.."
scripts/install-deps.sh test
for command in cargo mountpoint comm; do
    type -P "$command" >/dev/null || die "$command is missing"
done

if [[ -z ${NOTAPIPE-} ]]; then
    target=${CARGO_TARGET_DIR:-target}
    cargo build --quiet --release --bin notapipe --target-dir "$target"
    NOTAPIPE=$(realpath "$target")/release/notapipe
fi
[[ -x $NOTAPIPE ]] || die "$NOTAPIPE is no program"

work=$(mktemp -d "${TMPDIR:-/tmp}/notapipe-conformance.XXXXXX")
# Other users pass through it.
chmod 755 "$work"
mount=$work/mount tmpfs=$work/tmpfs logs=$work/logs
mkdir "$logs"

failed=()
cleanup() {
    close_scene || true
    ((made_user == 0)) || userdel "$SECOND_USER" || true
    if ((${#failed[@]})); then
        say "the logs are in $logs"
        rmdir "$mount" "$tmpfs" 2>/dev/null || true
    else
        rm -rf --one-file-system "$work"
    fi
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

for name in "${chosen[@]}"; do
    run_suite "$name" || failed+=("$name")
done
if ((${#failed[@]})); then
    say "failed: ${failed[*]}"
    exit 1
fi

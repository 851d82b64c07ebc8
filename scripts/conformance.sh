#!/usr/bin/env bash
# Runs other people's file system tests on a real mount: they know of cases that we did not think of.
#
#     scripts/conformance.sh                     # every suite, in full
#     scripts/conformance.sh --quick             # every suite, what fits in two minutes together
#     scripts/conformance.sh pjdfstest fsx       # these only
#     scripts/conformance.sh --run               # inside `notapipe run`, on its private mount
#     scripts/conformance.sh --profile observed  # with every open and close seen
#     scripts/conformance.sh --user nobody       # as an ordinary user: all suites that do not need root
#     scripts/conformance.sh --all               # each of these ways, one after another
#
# Start it as root, since half of what the suites ask is about other users; started by an ordinary user it does what
# --user does, if everything it needs is there. Where a suite's answer depends on the kernel, it also runs on tmpfs,
# and tmpfs is right.
#
# Each suite is a function `suite_NAME` in a file of that name below conformance/: it finds the empty mount in $mount,
# an empty directory on tmpfs in $tmpfs, and in $door whether it meets `notapipe mount` or `notapipe run`; it may write
# below $logs, and fails by returning non-zero. Afterwards the mount must be empty again, and its accounting as well.
# To add one, write the file and put its name into SUITES.
#
# pjdfstest and fsx are built once, by install-cargo-tool.sh. $NOTAPIPE names the program to test; without it a release
# build is made.

set -euo pipefail
export LC_ALL=C
here="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)"
readonly here

readonly SUITES=(pjdfstest fsx stress_ng cpython git sqlite fio memory posix)
readonly NEED_ROOT=' pjdfstest posix '
# Those that make mounts of their own, or look at the process that serves the mount.
readonly ONLY_MOUNT=' memory posix '

say() { printf 'conformance: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}
usage() {
    say "usage: scripts/conformance.sh [--quick] [--run] [--profile fast|observed] [--user NAME] [--all] [SUITE...], of: ${SUITES[*]}"
    exit 2
}

for name in "${SUITES[@]}"; do
    # shellcheck source=/dev/null
    source "$here/conformance/$name.sh"
done

# ---------------------------------------------------------------- what every suite gets

# An empty tmpfs, and for `notapipe mount` an empty mount, mounted alike. An ordinary user gets a directory of a
# tmpfs that is there.
open_scene() {
    mkdir -p "$mount" && open_tmpfs || return 1
    [[ $door == mount ]] || return 0
    local others=()
    ((EUID)) || others=(--allow-other)
    "$NOTAPIPE" mount --background --profile "$profile" "${others[@]}" --mode 755 "$mount" && mountpoint -q "$mount"
}

open_tmpfs() {
    if ((EUID == 0)); then
        mkdir -p "$tmpfs" && mount -t tmpfs -o nosuid,nodev,mode=755 notapipe-conformance "$tmpfs"
    else
        [[ $(stat -f -c %T /dev/shm) == tmpfs ]] || die "/dev/shm is no tmpfs to compare with"
        tmpfs=$(mktemp -d /dev/shm/notapipe-conformance.XXXXXX)
    fi
}

close_scene() {
    local status=0
    if mountpoint -q "$mount"; then
        "$NOTAPIPE" umount "$mount" || status=1
    fi
    if mountpoint -q "$mount"; then
        say "$mount is still mounted"
        "$NOTAPIPE" umount --lazy "$mount" || true
        status=1
    fi
    if mountpoint -q "$tmpfs"; then
        umount "$tmpfs" || umount -l "$tmpfs"
    elif [[ $tmpfs == /dev/shm/notapipe-conformance.* ]]; then
        rm -rf -- "$tmpfs"
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

# The suite $1 in $mount, which stands.
perform() {
    "suite_$1" || return 1
    [[ $door == run ]] || mountpoint -q "$mount" || {
        say "$1: the mount is gone"
        return 1
    }
    all_is_given_back
}

# The same inside of `notapipe run`, whose working directory is the mount.
perform_in_run() {
    local others=()
    ((EUID)) || others=(--allow-other)
    export door profile quick tmpfs logs NOTAPIPE
    "$NOTAPIPE" run --tmp host --mount private --xattr --profile "$profile" "${others[@]}" -- \
        bash "$here/conformance.sh" --perform "$1"
}

run_suite() {
    local name=$1 status=0 started=$SECONDS
    # `set -e` does not act in a condition, nor in what is called there: every function returns its status.
    if ! open_scene; then
        say "$name: cannot mount"
        status=1
    elif [[ $door == run ]]; then
        perform_in_run "$name" || status=1
    else
        perform "$name" || status=1
    fi
    close_scene || status=1
    if ((status)); then
        say "$name: FAILED after $((SECONDS - started)) s"
    else
        say "$name: ok, $((SECONDS - started)) s"
    fi
    return "$status"
}

# ---------------------------------------------------------------- one way of running them

# Within a job: what the caller prepared comes through the environment.
if [[ ${1-} == --perform ]]; then
    mount=$PWD
    perform "$2"
    exit
fi

quick=0
door=mount
profile=fast
user=
every_way=0
chosen=()
while (($#)); do
    case $1 in
    --quick) quick=1 ;;
    --run) door=run ;;
    --all) every_way=1 ;;
    --profile)
        [[ ${2-} == fast || ${2-} == observed ]] || usage
        profile=$2
        shift
        ;;
    --user)
        id -u "${2-}" >/dev/null 2>&1 || die "there is no user ${2-}"
        user=$2
        shift
        ;;
    *)
        [[ " ${SUITES[*]} " == *" $1 "* ]] || usage
        chosen+=("$1")
        ;;
    esac
    shift
done
((${#chosen[@]})) || chosen=("${SUITES[@]}")
[[ -z $user ]] || ((EUID == 0)) || die "only root can become $user"

if ((EUID == 0)); then
    "$here/install-deps.sh" conformance
    for name in pjdfstest fsx; do
        version=${name^^}
        [[ " ${chosen[*]} " != *" $name "* ]] || "$here/install-cargo-tool.sh" "$name" "${!version}" >/dev/null
    done
fi
if [[ -z ${NOTAPIPE-} ]]; then
    target=${CARGO_TARGET_DIR:-$here/../target}
    cargo build --locked --quiet --release --bin notapipe --manifest-path "$here/../Cargo.toml" --target-dir "$target"
    NOTAPIPE=$target/release/notapipe
fi
NOTAPIPE=$(realpath -- "$NOTAPIPE")
export NOTAPIPE
[[ -x $NOTAPIPE ]] || die "$NOTAPIPE is no program"

work=
failed=()
cleanup() {
    [[ -n $work ]] || return 0
    close_scene || true
    remove_second_user || true
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

# This script again, in another way.
again() {
    local words=()
    ((quick == 0)) || words+=(--quick)
    bash "$here/conformance.sh" "$@" "${words[@]}" "${chosen[@]}"
}

if ((every_way)); then
    status=0
    for way in '' --run '--profile observed' '--run --profile observed'; do
        for who in '' "--user ${user:-nobody}"; do
            say "== ${way:-notapipe mount} ${who:-as root}"
            # shellcheck disable=SC2086 # words
            again $way $who || status=1
        done
    done
    exit "$status"
fi

# As another user: what that one needs must be where it may go.
if [[ -n $user ]]; then
    own=$(mktemp -d "${TMPDIR:-/tmp}/notapipe-conformance.XXXXXX")
    cp -r -- "$here" "$own/scripts"
    cp -- "$NOTAPIPE" "$own/notapipe"
    mkdir "$own/tmp"
    chown -R "$user" "$own"
    chmod 755 "$own"
    words=(--profile "$profile")
    ((quick == 0)) || words+=(--quick)
    [[ $door == mount ]] || words+=(--run)
    status=0
    (cd / && exec setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups --reset-env \
        env PATH="$PATH" NOTAPIPE="$own/notapipe" NOTAPIPE_TOOLS="${NOTAPIPE_TOOLS-}" TMPDIR="$own/tmp" \
        bash "$own/scripts/conformance.sh" "${words[@]}" "${chosen[@]}") || status=$?
    ((status)) || rm -rf --one-file-system "$own"
    exit "$status"
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/notapipe-conformance.XXXXXX")
# Other users pass through it.
chmod 755 "$work"
mount=$work/mount tmpfs=$work/tmpfs logs=$work/logs
mkdir "$logs"
if ((EUID == 0)) && [[ " ${chosen[*]} " == *' pjdfstest '* ]]; then
    ensure_second_user
fi

passed=0
for name in "${chosen[@]}"; do
    if ((EUID)) && [[ $NEED_ROOT == *" $name "* ]]; then
        say "$name: needs root"
        continue
    fi
    if [[ $door == run && $ONLY_MOUNT == *" $name "* ]]; then
        say "$name: not inside of notapipe run"
        continue
    fi
    if run_suite "$name"; then
        passed=$((passed + 1))
    else
        failed+=("$name")
    fi
done
if ((${#failed[@]})); then
    say "failed: ${failed[*]}"
    exit 1
fi
say "$passed suites passed"

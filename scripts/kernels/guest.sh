#!/usr/bin/env bash
# What scripts/kernels.sh runs in its virtual machine, as the first process there. The last line that it prints is
# `guest: N passed`, if everything passed.

set -uo pipefail
# shellcheck source=/dev/null
source /run/plan
export PATH HOME=/tmp LC_ALL=C
# shellcheck disable=SC2154 # the plan has them
readonly repository notapipe tests_it tests_faults tests_posix

passed=0
finish() {
    echo "guest: $*"
    # The console has taken the line when this returns.
    sync
    sleep 0.2
    busybox poweroff -f
}
trap 'finish "FAILED: the script has ended at line $LINENO"' EXIT
check() {
    local what=$1
    shift
    if "$@"; then
        passed=$((passed + 1))
        echo "guest: ok $what"
    else
        finish "FAILED: $what"
        exit 1
    fi
}
# Those tests of the binary $1 whose names contain one of the rest.
tests() {
    local started=$SECONDS
    "$@" >/tmp/tests 2>&1 || {
        grep -v ' \.\.\. ok$' /tmp/tests | head -n 200
        finish "FAILED: ${1##*/}"
        exit 1
    }
    local count
    count=$(sed -n 's/^test result: ok\. \([0-9]*\) passed.*/\1/p' /tmp/tests)
    # No tests at all are no success.
    ((${count:-0} > 0)) || {
        finish "FAILED: ${1##*/} has no such tests: ${*:2}"
        exit 1
    }
    passed=$((passed + count))
    echo "guest: ${1##*/}: $count ok, $((SECONDS - started)) s"
}
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups -- "$@"; }
says() {
    local text
    text=$("${@:2}" 2>&1) || true
    [[ $text == *"$1"* ]] || {
        printf '%s\n' "$text"
        return 1
    }
}
# The job of the demo: what is in the directory job of $1 afterwards is what is in disk.
main_job() {
    local home=/tmp/job.$1
    install -d -o "$1" -g "$1" "$home"
    cp -r /tmp/disk "$home/disk"
    cp "$repository/examples/gameboy/simple/A.asm" /tmp/disk/B.o "$home"
    (cd "$home" && setpriv --reuid "$1" --regid "$1" --clear-groups -- "$notapipe" run \
        -i A.asm -i B.o -o A.gb -o A.map -o A.sym -- \
        rgbasm A.asm -o A.o --then rgblink A.o B.o -o A.gb -m A.map -n A.sym) || return 1
    local output
    for output in A.gb A.map A.sym; do
        cmp "$home/$output" "/tmp/disk/$output" || return 1
    done
    rm -rf -- "$home"
}

echo "guest: Linux $(uname -r), up after $(cut -d ' ' -f 1 /proc/uptime) s"
# As udev sets it on the distributions.
chmod 0666 /dev/fuse
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
busybox ip link set lo up
cd "$repository" || exit

# Control groups as a systemd of today lays them out: a part that belongs to the user, and scopes in it.
groups=/sys/fs/cgroup
mount -t cgroup2 -o nsdelegate cgroup2 "$groups"
echo '+memory +pids' >"$groups/cgroup.subtree_control"
mkdir "$groups/user"
echo '+memory +pids' >"$groups/user/cgroup.subtree_control"
mkdir "$groups/user/scope" "$groups/session"
chown 65534 "$groups"/user{,/cgroup.procs,/cgroup.subtree_control}
chown -R 65534 "$groups/user/scope"
enter() { echo $$ >"$1/cgroup.procs"; }

mkdir /tmp/disk
check "the job's commands on disk" bash -c 'cd /tmp/disk && cp "$1"/examples/gameboy/simple/*.asm . && rgbasm B.asm -o B.o &&
    rgbasm A.asm -o A.o && rgblink A.o B.o -o A.gb -m A.map -n A.sym' bash "$repository"
check "the main job, as root" main_job 0
check "the main job, as an ordinary user" main_job 65534

# Where nothing is delegated, an ordinary user has limits of each process.
enter "$groups/session"
check "doctor as root" says "ok    --limit " "$notapipe" doctor
check "doctor as a user without a group" says "note  --limit            without a control group: cpu, memory, processes" \
    as_nobody "$notapipe" doctor
enter "$groups/user/scope"
check "doctor as a user with a group" says "ok    --limit " as_nobody "$notapipe" doctor
tests "$tests_it" cli_resources doctor:: cli_steps:: cli_tools:: job:: cli_limits::
check "no group is left" bash -c '! compgen -G "/sys/fs/cgroup/**/notapipe-*"'
tests "$tests_faults" private_mount:: public_mount:: degraded:: killed::
tests "$tests_posix" rename
# What they compare with is tmpfs, which opens nothing with O_DIRECT before Linux 6.6.
tests "$tests_posix" open --skip open::direct

# As some distributions have it.
echo 0 >/proc/sys/user/max_user_namespaces
check "the main job, as a user without user namespaces" main_job 65534

enter "$groups"
trap - EXIT
finish "$passed passed"

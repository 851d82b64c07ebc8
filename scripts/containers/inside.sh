#!/usr/bin/env bash
# Runs jobs inside of a container and tells what they had: "on BACKING", and "ok WHAT" or "no WHAT" for each thing that every
# job must do. scripts/containers.sh calls it.
cd "$(mktemp -d 2>/dev/null || mktemp -d -p /dev/shm)" || exit
printf 'pear\napple\n' >words

check() { if "${@:2}"; then echo "ok $1"; else echo "no $1"; fi; }

# Directories, mounts and processes of jobs; /usr/bin/notapipe is mounted into the container.
left() {
    ls -d /tmp/notapipe-* /dev/shm/notapipe-* 2>/dev/null
    grep notapipe /proc/mounts | grep -v ' /usr/bin/notapipe '
    pgrep -x sleep
}

nothing_left() {
    for _ in $(seq 100); do
        [[ -n $(left) ]] || return 0
        sleep 0.05
    done
    left
    return 1
}

bytes_come_out() { [[ $(notapipe run -i words -o sorted=- -- sort words -o sorted) == $'apple\npear' ]]; }

the_limit_is_met() { ! notapipe run --size 1M -- --stdout big head -c 4M /dev/zero; }

a_timeout_ends_all() {
    notapipe run --timeout 200ms -- sh -c 'sleep 1000 & sleep 1000'
    (($? == 124))
}

each_has_its_own_tmp() {
    local n
    for n in 1 2 3 4; do
        notapipe run -o "out=out.$n" -- sh -c "echo $n > /tmp/shared; sleep 0.2; cat /tmp/shared > out" &
    done
    wait
    [[ $(cat out.1 out.2 out.3 out.4) == $'1\n2\n3\n4' ]]
}

# The kernel ends a PID namespace with its init.
kill_9_leaves_nothing() {
    notapipe run -- sleep 1000 &
    until pgrep -x sleep >/dev/null; do sleep 0.01; done
    kill -9 $!
    nothing_left
}

doctor_tells() { notapipe doctor >doctor.txt || grep -q 'works here without FUSE alone' doctor.txt; }

case $(notapipe run -- sh -c 'stat -f -c %T .; pwd' 2>/dev/null) in
fuse*) backing=fuse ;;
tmpfs*/notapipe-*) backing=directory ;;
tmpfs*) backing=tmpfs ;;
*) backing=disk ;;
esac
echo "on $backing"
{
    check "bytes come out" bytes_come_out
    check "the limit is met" the_limit_is_met
    check "a timeout ends every process" a_timeout_ends_all
    check "nothing is left" nothing_left
    if [[ $backing == fuse || $backing == tmpfs ]]; then
        check "four jobs have a /tmp each" each_has_its_own_tmp
        check "kill -9 leaves nothing" kill_9_leaves_nothing
    fi
    check "doctor tells what works" doctor_tells
} 2>/dev/null

#!/usr/bin/env bash
# Runs jobs in real containers, and checks what each kind of container gives them.
#
#   scripts/containers.sh          all of them; ends with a count of checks
#   scripts/containers.sh --shell FLAG...   a shell in such a container
#
# The containers are podman's, with Docker's default capabilities and a seccomp profile that refuses what Docker's refuses,
# then rootless ones of an ordinary user's as podman makes them. Their root file system is made by mmdebstrap. Wants root,
# makes the user notapipe-test if there is none, and leaves nothing but the image below target/containers.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s\n' "$*" >&2; }

scripts/install-deps.sh containers
step "the program"
cargo build --locked --release --quiet
mkdir -p "${CARGO_TARGET_DIR:-target}/containers"
cache="$(realpath "${CARGO_TARGET_DIR:-target}/containers")"
# What another user can reach.
work="$(mktemp -d)"
chmod 755 "$work"
trap 'rm -rf -- "$work"' EXIT
cp "${CARGO_TARGET_DIR:-target}/release/notapipe" scripts/containers/inside.sh "$work"

readonly CAPABILITIES=(AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID
    SETPCAP SETUID SYS_CHROOT)
# The limits of resources are set because podman would raise them, which not every machine allows.
common=(--rm --network none --ulimit nofile=1024:1024 --ulimit nproc=4096:4096
    --volume "$work/notapipe:/usr/bin/notapipe:ro" --volume "$work/inside.sh:/inside.sh:ro")
as_docker=(--security-opt "seccomp=$work/docker.json" --cap-drop all "${CAPABILITIES[@]/#/--cap-add=}")
options=(--runtime runc --cgroup-manager cgroupfs --log-level error)
podman=(podman --root "$cache/root" --runroot "$cache/run" "${options[@]}")
run=("${common[@]}" "${as_docker[@]}")
image=localhost/notapipe-test

make_image() {
    scripts/containers/docker-seccomp.py </usr/share/containers/seccomp.json >"$work/docker.json"
    ! "${podman[@]}" image exists "$image" || return 0
    step "a root file system"
    local suite
    # The program is built here: the container's C library must be no older.
    suite="$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)"
    mmdebstrap --quiet --variant=minbase --include=fuse3,procps "$suite" "$work/rootfs.tar"
    "${podman[@]}" import --quiet "$work/rootfs.tar" "$image" >/dev/null
    rm -- "$work/rootfs.tar"
}

# From here on containers are those of an ordinary user.
become_rootless() {
    local user=notapipe-test
    id -u "$user" >/dev/null 2>&1 || useradd --user-group --create-home --shell /usr/sbin/nologin "$user"
    "${podman[@]}" save --quiet --output "$work/image.tar" "$image"
    chmod 644 "$work/image.tar"
    mkdir "$work/user"
    chown "$user" "$work/user"
    podman=(setpriv "--reuid=$user" "--regid=$user" --init-groups
        env -C "$work/user" "HOME=$work/user" "XDG_RUNTIME_DIR=$work/user" podman --root "$work/user/root" --runroot "$work/user/run" --storage-driver vfs "${options[@]}")
    run=("${common[@]}")
    "${podman[@]}" load --quiet --input "$work/image.tar" >/dev/null
}

passed=0
failed=0
check() { # what, whether
    if ((!$2)); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s\n' "$1" >&2
    fi
}

try() { # backing, flags of podman
    local backing=$1 told line
    shift
    told="$(timeout 120 "${podman[@]}" run "${run[@]}" "$@" "$image" bash /inside.sh 2>&1)" || true
    printf '%-10s %s\n' "$(sed -n 's/^on //p' <<<"$told")" "${*:-(no flags)}"
    check "${*:-no flags}: on $backing: $told" "$(grep -qx "on $backing" <<<"$told"; echo $?)"
    while read -r line; do
        [[ $line != "ok "* ]] || check "" 0
        [[ $line != "no "* ]] || check "$*: ${line#no }" 1
    done <<<"$told"
}

make_image
if [[ ${1-} == --shell ]]; then
    shift
    exec "${podman[@]}" run --interactive --tty "${run[@]}" "$@" "$image" bash
fi
step "jobs in containers"
try directory
try directory --device /dev/fuse
try fuse --device /dev/fuse --cap-add SYS_ADMIN
try tmpfs --cap-add SYS_ADMIN
try fuse --device /dev/fuse --security-opt seccomp=unconfined --user 1000
try tmpfs --security-opt seccomp=unconfined --user 1000
try fuse --privileged
try directory --user 1000
try directory --read-only --tmpfs /tmp
try fuse --read-only --device /dev/fuse --cap-add SYS_ADMIN
try directory --memory 64m
try fuse --memory 64m --device /dev/fuse --cap-add SYS_ADMIN
try directory --shm-size 16m
try directory --pids-limit 64

step "as process 1 of a container"
told="$("${podman[@]}" run "${run[@]}" --device /dev/fuse --cap-add SYS_ADMIN "$image" notapipe run -- \
    sh -c 'sleep 1000 & exit 7' 2>&1)" && status=0 || status=$?
check "status 7, not $status: $told" $((status != 7))

step "rootless"
become_rootless
try tmpfs
try fuse --device /dev/fuse
try fuse --device /dev/fuse --read-only
try fuse --device /dev/fuse --user 1000

((failed == 0)) || exit 1
printf '\ncontainers: %d checks passed\n' "$passed"

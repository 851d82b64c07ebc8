#!/usr/bin/env bash
# Boots other kernels than this machine's in a virtual machine and runs a part of our tests in it: the job of the demo,
# private and public mounts, POSIX behaviour, limits in control groups of version 2, as root and as an ordinary user.
# Prints a line like `kernels: 6.1.0-50-amd64: 120 passed` for each kernel.
#
#     scripts/kernels.sh                      the kernel of this Debian release
#     scripts/kernels.sh PACKAGE|FILE.deb...  these, such as linux-image-6.1.0-50-amd64 (not the cloud flavour,
#                                             which cannot mount what we give it)
#
# The machine has no disk and no network. Its root is this machine's, read-only (9p), so that every tool is there; what
# the tests write is on tmpfs. The kernel is unpacked from its package, never installed. Without a /dev/kvm that works
# everything is emulated: some minutes each, and never more than $KERNELS_SECONDS (900).

set -euo pipefail
export LC_ALL=C
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# In the order in which the root needs them; what they depend on comes before them.
readonly MODULES=(virtio_pci 9pnet_virtio 9p fuse)

say() { printf 'kernels: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

case ${1-} in
-*)
    say "usage: scripts/kernels.sh [PACKAGE|FILE.deb...]"
    exit 2
    ;;
esac

scripts/install-deps.sh kernels
PATH="$(scripts/install-rgbds.sh):$PATH:/usr/sbin:/sbin"
busybox=$(type -P busybox)
! ldd "$busybox" >/dev/null 2>&1 ||
    die "$busybox needs libraries, and starts before they are there: install it as one piece (Debian: apt-get install busybox-static, as root)"

work=$(mktemp -d "${TMPDIR:-/tmp}/notapipe-kernels.XXXXXX")
trap 'rm -rf -- "$work"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# What apt calls the current kernel of this release.
current_kernel() {
    apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^  Depends: \(linux-image-.*\)$/\1/p' | head -n 1
}

# Unpacks the kernel $1, a package or its file, into the directory $2.
unpack() {
    local deb=$1
    if [[ $deb != *.deb ]]; then
        # apt drops root's rights for downloads, and complains where it cannot.
        mkdir "$2.deb"
        (cd "$2.deb" && apt-get -qq -o APT::Sandbox::User=root download "$1") >&2 ||
            die "cannot download $1: is it one of $(apt-cache pkgnames linux-image- 2>/dev/null | grep -c .) kernels that apt knows? Try apt-get update"
        deb=$(echo "$2.deb"/*.deb)
    fi
    mkdir "$2"
    dpkg-deb -x "$deb" "$2"
    rm -rf -- "$2.deb"
}

# Packs the first root file system for the unpacked kernel $1 of version $2 into the file $3: it loads the modules,
# mounts this machine's files and hands over to the guest's script.
pack_initramfs() {
    local root=$1.initramfs module count=10
    mkdir -p "$root"/{bin,dev,proc,sys,modules,root}
    cp -- "$busybox" "$root/bin/busybox"
    cp -- scripts/kernels/init "$work/plan" "$root/"
    depmod -b "$1" "$2"
    while read -r _ module _; do
        [[ $module == *.ko* ]] || continue
        count=$((count + 1))
        case $module in
        *.xz) xz -dc "$module" >"$root/modules/$count.ko" ;;
        *.zst) zstd -qdc "$module" >"$root/modules/$count.ko" ;;
        *) cp -- "$module" "$root/modules/$count.ko" ;;
        esac
    done < <(modprobe -d "$1" -S "$2" --show-depends -a "${MODULES[@]}" | awk '!seen[$2]++')
    ((count > 10)) || die "the package of $2 has none of the modules ${MODULES[*]}: is it a cloud kernel?"
    (cd "$root" && find . | cpio --quiet -o -H newc -R 0:0) >"$3"
}

readonly MACHINE=(qemu-system-x86_64 -cpu max -smp 2 -m 2G -nodefaults -no-user-config -nographic -no-reboot
    -serial stdio -monitor none)

# The accelerator for the kernel in the file $1. A /dev/kvm inside a virtual machine may open and make machines, and
# never get one of them to its kernel. A kernel without a root panics, and that ends the machine.
accelerator() {
    if [[ -w /dev/kvm ]] &&
        timeout 20 "${MACHINE[@]}" -accel kvm -kernel "$1" -append panic=-1 </dev/null >/dev/null 2>&1; then
        echo kvm
    else
        echo tcg
    fi
}

# Boots the kernel in the file $1, and prints what the machine says.
boot() {
    timeout "${KERNELS_SECONDS:-900}" "${MACHINE[@]}" -accel "$(accelerator "$1")" \
        -kernel "$1" -initrd "$work/initramfs" -append "console=ttyS0 quiet panic=-1" \
        -fsdev local,id=host,path=/,security_model=none,readonly=on,multidevs=remap \
        -device virtio-9p-pci,fsdev=host,mount_tag=host </dev/null 2>&1
}

# Everything for the kernel $1, a package or its file.
run_kernel() {
    local tree=$work/kernel version passed started
    rm -rf -- "$tree" "$tree.initramfs"
    unpack "$1" "$tree"
    version=$(basename -- "$(echo "$tree"/boot/vmlinuz-*)")
    version=${version#vmlinuz-}
    [[ -f $tree/boot/vmlinuz-$version ]] || die "$1 holds no kernel"
    # Debian links its modules from /lib, which newer kernels have in /usr/lib.
    [[ -d $tree/lib ]] || ln -s usr/lib "$tree/lib"
    pack_initramfs "$tree" "$version" "$work/initramfs"
    say "booting $version"
    started=$SECONDS
    boot "$tree/boot/vmlinuz-$version" | tee "$work/log" | sed -u 's/\r$//; s/^/    /' >&2 || true
    passed=$(sed -n 's/^guest: \([0-9]*\) passed\r\{0,1\}$/\1/p' "$work/log")
    if [[ -z $passed ]]; then
        say "$version: FAILED after $((SECONDS - started)) s: see above"
        return 1
    fi
    say "$version: $passed passed, $((SECONDS - started)) s"
}

kernels=("$@")
if ((${#kernels[@]} == 0)); then
    kernel=$(current_kernel)
    if [[ -z $kernel ]] && ((EUID == 0)); then
        apt-get -qq update >&2 || true
        kernel=$(current_kernel)
    fi
    [[ -n $kernel ]] ||
        die "apt knows no kernel: run apt-get update as root, or name the file of a package linux-image-VERSION-amd64"
    kernels=("$kernel")
fi

say "building"
cargo build --locked --quiet --all-features --bin notapipe
cargo test --locked --all-features --no-run --test it --test faults --test posix 2>"$work/built" ||
    { cat "$work/built" >&2 && exit 1; }
# The guest reads these lines: what to run, and where.
test_binary() {
    local path
    path=$(sed -n "s|^ *Executable tests/$1/main.rs (\(.*\))\$|\1|p" "$work/built")
    realpath -- "$path"
}
{
    printf 'repository=%q\n' "$PWD"
    printf 'PATH=%q\n' "$PATH"
    printf 'notapipe=%q\n' "$(realpath -- "${CARGO_TARGET_DIR:-target}/debug/notapipe")"
    printf 'tests_it=%q\n' "$(test_binary it)"
    printf 'tests_faults=%q\n' "$(test_binary faults)"
    printf 'tests_posix=%q\n' "$(test_binary posix)"
} >"$work/plan"

status=0
for kernel in "${kernels[@]}"; do
    run_kernel "$kernel" || status=1
done
exit "$status"

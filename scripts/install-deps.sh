#!/usr/bin/env bash
# Installs the commands that the demo, the tests or the benchmark call, where they
# are missing, and opens /dev/fuse. Says nothing when there is nothing to do.
#
#     scripts/install-deps.sh demo|test|docs|bench|conformance|kernels|containers|picture|package|aarch64
#     scripts/install-deps.sh --missing test
#                             prints the commands that are missing, one a line
#
# As root on a machine with apt it installs Debian's packages. Anywhere else it
# names what is missing, one line each, and ends with status 1: which package
# manager to use, and with whose rights, is not a script's to guess.
#
# Rust is not installed here (the README asks for it), nor RGBDS, which has a script
# of its own: install-rgbds.sh.

set -euo pipefail

# Who needs it, the command, the package that brings it. The tests call scripts/conformance.sh too; the last ones of the
# kernels are for the tests inside.
readonly TABLE='
demo test bench  cc           gcc
     test        fusermount3  fuse3
     test bench  make         make
     test bench  python3      python3
     test bench  git          git
     test        sqlite3      sqlite3
     test        zip          zip
     test        unzip        unzip
     test        ld           binutils
     test        ar           binutils
     test        objcopy      binutils
     test        strip        binutils
     test        7z           p7zip-full
     test        identify     imagemagick
     test        ffmpeg       ffmpeg
     test        lame         lame
     test        mksquashfs   squashfs-tools
     test        qpdf         qpdf
     test        patch        patch
     test        pdflatex     texlive-latex-base
     test        makeindex    texlive-binaries
     test        setpriv      util-linux
     test        unshare      util-linux
     test        shellcheck   shellcheck

docs  chromium   chromium
docs  convert    imagemagick
docs  dot        graphviz
docs  exiftool   libimage-exiftool-perl
docs  ffmpeg     ffmpeg
docs  gs         ghostscript
docs  pandoc     pandoc
docs  protoc     protobuf-compiler
docs  soffice    libreoffice-writer-nogui
docs  tesseract  tesseract-ocr
docs  yosys      yosys

test conformance fio          fio
test conformance fusermount3  fuse3
test conformance git          git
test conformance python3      python3
test conformance setpriv      util-linux
test conformance stress-ng    stress-ng
test conformance useradd      passwd

kernels qemu-system-x86_64  qemu-system-x86
kernels busybox             busybox-static
kernels cpio                cpio
kernels modprobe            kmod
kernels xz                  xz-utils
kernels zstd                zstd
kernels cc                  gcc
kernels python3             python3
kernels fusermount3         fuse3
kernels setpriv             util-linux
kernels unshare             util-linux

containers mmdebstrap  mmdebstrap
containers podman      podman
containers runc        runc
containers python3     python3
containers newuidmap   uidmap
containers useradd     passwd

picture asciinema  asciinema
picture npm        npm

package musl-gcc     musl-tools
package dpkg-deb     dpkg
package mmdebstrap   mmdebstrap
package xz           xz-utils
aarch64 aarch64-linux-gnu-gcc  gcc-aarch64-linux-gnu
aarch64 qemu-aarch64-static    qemu-user-static
'
# The demo does without fusermount3, which only mounts in public need.

say() { printf 'install-deps: %s\n' "$*" >&2; }

# The lines "command package" of the table for purpose $1 whose command is missing.
missing() {
    local -a words
    local command package
    while read -ra words; do
        ((${#words[@]} > 2)) || continue
        package=${words[-1]}
        command=${words[-2]}
        if [[ " ${words[*]:0:${#words[@]}-2} " == *" $1 "* ]] && ! type -P "$command" >/dev/null; then
            printf '%s %s\n' "$command" "$package"
        fi
    done <<<"$TABLE"
    [[ $1 != test && $1 != conformance ]] || missing_python_tests
    [[ $1 != test ]] || python3 -c 'import ensurepip' 2>/dev/null || echo 'python3-venv python3-venv'
}

# CPython's own tests have no command; the package is named after the version of Debian's python3.
missing_python_tests() {
    local python=/usr/bin/python3 version=3
    ! "$python" -c 'import test.test_os' 2>/dev/null || return 0
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || echo 3)
    printf 'test-modules-of-python3 libpython%s-testsuite\n' "$version"
}

install_packages() {
    local -a packages
    mapfile -t packages < <(awk '{ print $2 }' <<<"$1" | sort -u)
    # gcc alone cannot link: the C library's own files are a recommendation of it.
    [[ " ${packages[*]} " != *' gcc '* ]] || packages+=(libc6-dev)
    say "installing ${packages[*]}"
    # A fresh machine has no package lists, an old one stale ones. Another apt may be
    # at work (unattended upgrades, a test beside this one): wait for it. A source
    # that fails to update is reported by apt and need not be one that we use.
    export DEBIAN_FRONTEND=noninteractive
    {
        apt-get -qq -o DPkg::Lock::Timeout=300 update || true
        apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${packages[@]}"
    } >&2
}

ensure_commands() {
    local lacking command package
    lacking=$(missing "$1")
    [[ -n $lacking ]] || return 0
    if ((EUID == 0)) && type -P apt-get >/dev/null; then
        install_packages "$lacking" ||
            say "apt-get failed (see above)"
        # What counts is not apt's word but whether the commands are there now.
        hash -r
        lacking=$(missing "$1")
        [[ -n $lacking ]] || return 0
    fi
    while read -r command package; do
        say "$command is missing: install it (Debian: apt-get install $package, as root)"
    done <<<"$lacking"
    return 1
}

# Distributions give everybody /dev/fuse; a bare kernel gives it to root alone, and
# then no ordinary user can mount.
ensure_fuse() {
    if [[ ! -c /dev/fuse ]] && ((EUID == 0)) && type -P modprobe >/dev/null; then
        modprobe fuse >/dev/null 2>&1 || true
    fi
    if [[ ! -c /dev/fuse ]]; then
        say "/dev/fuse is missing: load the kernel's module (modprobe fuse, as root), or give the container the device (--device /dev/fuse)"
        return 1
    fi
    if [[ $(stat -c %a /dev/fuse) != 666 ]] && ((EUID == 0)); then
        if chmod 0666 /dev/fuse; then
            say "/dev/fuse was for root alone; made it 0666, as distributions have it"
        else
            say "/dev/fuse cannot be made 0666 here: only root will be able to mount"
        fi
    fi
    # An access list or a group may do as well as the mode.
    if [[ ! -r /dev/fuse || ! -w /dev/fuse ]]; then
        say "/dev/fuse is closed to this user: chmod 0666 /dev/fuse, as root"
        return 1
    fi
}

if [[ ${1-} == --missing ]]; then
    missing "${2:?a purpose}" | cut -d ' ' -f 1
    exit
fi

case ${1-} in
demo | test | docs | bench | conformance | kernels | containers | picture | package | aarch64) ;;
*)
    say "usage: scripts/install-deps.sh demo|test|docs|bench|conformance|kernels|containers|picture|package|aarch64"
    exit 2
    ;;
esac

# Both, so that all that is missing is said at once.
status=0
ensure_commands "$1" || status=1
# The demo does without, and says what is different then; what only builds never mounts.
case $1 in
aarch64 | package | picture) ;;
demo) ensure_fuse || true ;;
*) ensure_fuse || status=1 ;;
esac
exit "$status"

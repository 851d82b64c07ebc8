#!/usr/bin/env bash
# Makes the packages of a release, installs each in a clean root, and runs a job there.
#
#   scripts/package.sh            all of them, into target/packages; ends with their checksums
#   scripts/package.sh --no-try   without the clean roots, which want root and mmdebstrap
#
# A tar of a static program (musl), a Debian package of it, and the source crate.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

step() { printf '\n== %s\n' "$*" >&2; }

try=1
[[ ${1-} != --no-try ]] || try=0
scripts/install-deps.sh package
target=x86_64-unknown-linux-musl
rustup target add "$target" 2>/dev/null
version="$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -1)"
build="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
packages="$build/packages"
rm -rf -- "$packages"
mkdir -p "$packages"
work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT

step "the static program"
cargo build --locked --release --target "$target"
program="$build/$target/release/notapipe"

# What a distribution installs, below $1.
install_into() {
    local shell
    install -D "$program" "$1/usr/bin/notapipe"
    # mount(8) and fstab find a file system's program by this name.
    mkdir -p "$1/usr/sbin" "$1/usr/share/man/man1"
    ln -s ../bin/notapipe "$1/usr/sbin/mount.notapipe"
    "$program" man "$1/usr/share/man/man1"
    gzip -9n "$1"/usr/share/man/man1/*
    local -A completions=([bash]=usr/share/bash-completion/completions/notapipe
        [zsh]=usr/share/zsh/vendor-completions/_notapipe [fish]=usr/share/fish/vendor_completions.d/notapipe.fish)
    for shell in "${!completions[@]}"; do
        "$program" completions "$shell" | install -Dm 644 /dev/stdin "$1/${completions[$shell]}"
    done
    install -Dm 644 packaging/notapipe-scratch@.service -t "$1/usr/lib/systemd/system"
    install -Dm 644 packaging/notapipe.apparmor "$1/etc/apparmor.d/notapipe"
    install -Dm 644 LICENSE-MIT LICENSE-APACHE README.md CHANGELOG.md -t "$1/usr/share/doc/notapipe"
}

step "the tar"
install_into "$work/notapipe-$version"
tar --sort=name --owner=0 --group=0 --numeric-owner -C "$work" -cJf "$packages/notapipe-$version-x86_64-linux.tar.xz" "notapipe-$version"

step "the Debian package"
install_into "$work/deb"
mkdir "$work/deb/DEBIAN"
cat >"$work/deb/DEBIAN/control" <<CONTROL
Package: notapipe
Version: $version
Architecture: amd64
Maintainer: The notapipe authors
Section: utils
Priority: optional
Recommends: fuse3
Installed-Size: $(du -sk "$work/deb/usr" | cut -f 1)
Description: files in RAM for tools that insist on files
 Runs command-line tools on real files that live in RAM: bytes in and bytes
 out, with nothing on disk, and nothing left.
CONTROL
echo /etc/apparmor.d/notapipe >"$work/deb/DEBIAN/conffiles"
dpkg-deb --root-owner-group --build "$work/deb" "$packages/notapipe_${version}_amd64.deb" >&2

step "the source crate"
cargo package --locked --allow-dirty --no-verify --quiet
cp "$build/package/notapipe-$version.crate" "$packages"

# A job in a clean root: $1 is a shell command that installs what stands in /packages.
try_in_clean_root() {
    local suite
    suite="$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)"
    mmdebstrap --quiet --variant=minbase --skip=cleanup/tmp "${@:2}" --customize-hook="copy-in '$packages' /" \
        --customize-hook="chroot \"\$1\" sh -euc '$1; printf \"b\\na\\n\" >/words; cd /;
            notapipe run -i words -o sorted -- sort words -o sorted; test \"\$(cat sorted)\" = \"\$(printf \"a\\nb\")\"; notapipe --version'" \
        "$suite" /dev/null >&2
}

if ((try)); then
    step "the Debian package in a clean root"
    try_in_clean_root 'dpkg --install /packages/*.deb; test -s /usr/share/man/man1/notapipe-run.1.gz'
    step "the tar in a clean root"
    try_in_clean_root 'tar xf /packages/*.tar.xz --strip-components=1 -C /' --include=xz-utils
fi

(cd -- "$packages" && sha256sum -- * | tee SHA256SUMS)

#!/usr/bin/env bash
# Makes rgbasm, rgblink, rgbfix and rgbgfx available, and prints on standard
# output the one directory to put on PATH. Everything else goes to stderr, so:
#
#     PATH="$(scripts/install-rgbds.sh):$PATH"
#
# Tools that are already on PATH are taken as they are. Otherwise they come from
# Debian's newer suites, which package RGBDS 1.0 while older releases have none.
# Those binaries want a newer C library than this machine's, so they get their
# own: libraries, loader and tools are unpacked into a private prefix. Neither
# the machine's packages nor its apt lists and caches change, and root is not
# needed.
#
# The prefix is, the first that applies:
#     $NOTAPIPE_TOOLS                        when it is set
#     /usr/local/lib/notapipe-tools          as root, or when root has filled it:
#                                            root's home is closed to the ordinary
#                                            users who also run the tools in tests
#     ${XDG_CACHE_HOME:-~/.cache}/notapipe/tools
#
# To install afresh (a newer RGBDS, say) remove PREFIX/rgbds and run this again.

set -euo pipefail
# apt, dpkg and our own files must be readable for everybody, whoever installs.
umask 022
export LC_ALL=C

readonly TOOLS=(rgbasm rgblink rgbfix rgbgfx)
# The tools, and every library they load. patchelf is used once, see `assemble`.
readonly PACKAGES=(rgbds libc6 libstdc++6 libgcc-s1 libpng16-16t64 zlib1g patchelf)
# forky first: packages reach it after some days without serious bugs in sid.
readonly SUITES=(forky sid)
readonly SYSTEM_PREFIX=/usr/local/lib/notapipe-tools
readonly OTHER_WAYS="install RGBDS 1.0 or newer (the package 'rgbds' of most package managers, or gbdev/rgbds on GitHub) and put its tools on PATH"

say() { printf 'install-rgbds: %s\n' "$*" >&2; }
die() {
    say "$*"
    exit 1
}

# True when the directory $1 holds all four tools.
holds_tools() {
    local tool
    for tool in "${TOOLS[@]}"; do
        [[ -x $1/$tool ]] || return 1
    done
}

# True when the tools in $1 also start: an interrupted disk, a prefix that was
# moved (the loader's path is absolute) or a noexec mount show only here.
tools_start() {
    holds_tools "$1" || return 1
    local tool
    for tool in "${TOOLS[@]}"; do
        "$1/$tool" --version >/dev/null 2>&1 </dev/null || return 1
    done
}

# What is already there: the directory to print, or failure.
find_installed() {
    local rgbasm directory
    if rgbasm=$(type -P rgbasm); then
        directory=$(cd "$(dirname "$rgbasm")" && pwd)
        # All four from one place: a mix of versions disagrees on object files.
        if holds_tools "$directory"; then
            printf '%s\n' "$directory"
            return
        fi
    fi
    local prefix
    for prefix in "${NOTAPIPE_TOOLS:-$SYSTEM_PREFIX}" "$(choose_prefix 2>/dev/null)"; do
        if tools_start "$prefix/rgbds/bin"; then
            (cd "$prefix/rgbds/bin" && pwd -P)
            return
        fi
    done
    return 1
}

choose_prefix() {
    if [[ -n ${NOTAPIPE_TOOLS:-} ]]; then
        printf '%s\n' "$NOTAPIPE_TOOLS"
    elif ((EUID == 0)); then
        printf '%s\n' "$SYSTEM_PREFIX"
    elif [[ -n ${XDG_CACHE_HOME:-${HOME:-}} ]]; then
        printf '%s\n' "${XDG_CACHE_HOME:-$HOME/.cache}/notapipe/tools"
    else
        die "neither HOME nor XDG_CACHE_HOME is set: name a directory in NOTAPIPE_TOOLS"
    fi
}

# An apt that shares nothing it writes with the machine's: its own lists and
# caches under $1. The machine's proxy, credentials and other settings stay.
write_apt_configuration() {
    mkdir -p "$1/lists/partial" "$1/cache/archives/partial" "$1/debs" "$1/none"
    # root's apt drops to this user for downloads and complains if it may not write.
    if ((EUID == 0)) && id -u _apt >/dev/null 2>&1; then
        chown _apt "$1/lists/partial" "$1/cache/archives/partial" "$1/debs"
    fi
    cat >"$1/apt.conf" <<CONF
Dir::State::lists "$1/lists";
Dir::Cache "$1/cache";
APT::Architectures "$(dpkg --print-architecture)";
Acquire::Languages "none";
// Whatever the machine's configuration allows: what we run must be signed.
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
// Hooks of the machine (of containers' images above all) clean *its* caches.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    # The same, but with one source list of ours only, no pins, and as if nothing
    # were installed: an installed, newer libc6 must not become the candidate.
    cp "$1/apt.conf" "$1/suite.conf"
    : >"$1/status"
    cat >>"$1/suite.conf" <<CONF
Dir::Etc::sourcelist "$1/suite.list";
Dir::Etc::sourceparts "$1/none";
Dir::Etc::preferences "$1/none/preferences";
Dir::Etc::preferencesparts "$1/none";
Dir::State::status "$1/status";
CONF
}

# The base addresses this machine is configured to take packages from, those
# known to be Debian's first. apt itself reads its source lists, whichever of its
# formats they are in.
configured_mirrors() {
    # Who a source belongs to is known only once `apt-get update` has run, and
    # without that apt lists nothing unless told so; a fresh container is in this
    # state. Then every source is tried: a wrong one costs a failed request, as
    # nothing is taken from anywhere that Debian has not signed.
    # shellcheck disable=SC2016 # the $(…) are apt's, not the shell's
    {
        apt-get indextargets 'Created-By: Packages' \
            --format '$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)'
        apt-get indextargets 'Created-By: Packages' --no-release-info \
            --format 'unknown|$(REPO_URI)|$(RELEASE)|$(COMPONENT)'
    } | awk -F'|' '
        $4 != "main" || $3 ~ /-security|-updates|-backports|\// || seen[$2]++ { next }
        $1 == "Debian" || $1 == "unknown" { print $2 }'
}

# The keyring that ends Debian's chain of signatures on this machine.
machine_keyring() {
    local keyring
    for keyring in /usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        if [[ -r $keyring ]]; then
            printf '%s\n' "$keyring"
            return
        fi
    done
    die "no Debian keyring in /usr/share/keyrings: install the package debian-archive-keyring, or $OTHER_WAYS"
}

# Debian publishes the keys of coming suites to the older ones before it uses
# them. So where the machine's keyring is too old for forky and sid, the one in
# the machine's own suites, verified by the keys it already trusts, is not.
newer_keyring() {
    local work=$1 keyring
    (
        # `&&`, since `set -e` does not act in a function called in a condition.
        # Some of the suites may be beyond the old keys too; apt takes nothing
        # from those, and one that it can verify is enough.
        cd "$work/debs" &&
            { apt-get -qq -c "$work/apt.conf" update || true; } &&
            apt-get -qq -c "$work/apt.conf" download debian-archive-keyring &&
            dpkg-deb -x debian-archive-keyring_*.deb "$work/keyring"
    ) >&2 || return 1
    rm -rf "$work/lists" "$work/debs"
    write_apt_configuration "$work"
    for keyring in "$work"/keyring/usr/share/keyrings/debian-archive-keyring.{pgp,gpg}; do
        if [[ -r $keyring ]]; then
            printf '%s\n' "$keyring"
            return
        fi
    done
    return 1
}

# Downloads PACKAGES of suite $4 from mirror $3 into $1/debs, signed by keyring $2.
fetch_suite() {
    local work=$1 keyring=$2 mirror=$3 suite=$4
    say "fetching RGBDS from this machine's Debian mirror, suite $suite"
    printf 'deb [target=Packages signed-by=%s] %s %s main\n' \
        "$keyring" "$mirror" "$suite" >"$work/suite.list"
    # `&&`, as above. A download that failed is an error, not a warning.
    (
        cd "$work/debs" &&
            apt-get -qq --error-on=any -c "$work/suite.conf" update &&
            apt-get -qq -c "$work/suite.conf" download "${PACKAGES[@]}"
    ) >&2
}

fetch_packages() {
    local work=$1 keyring=$2 mirror suite
    while IFS= read -r mirror; do
        for suite in "${SUITES[@]}"; do
            if fetch_suite "$work" "$keyring" "$mirror" "$suite"; then
                return
            fi
            rm -f "$work"/debs/*.deb
        done
    done < <(configured_mirrors)
    return 1
}

# Unpacks $1/debs into the tree $2, whose final place will be $3.
#
# The binaries are patched to name the prefix's own loader and libraries. A
# wrapper script would do the same without patching, but a Game Boy build starts
# thousands of tools and each would pay for a shell first. The paths are absolute
# since the tools run in other mount namespaces, with other working directories.
# The whole of it is a DT_RPATH (--force-rpath), as DT_RUNPATH does not reach the
# libraries that libraries load, and as no LD_LIBRARY_PATH shall win over it.
assemble() {
    local work=$1 tree=$2 final=$3 package tool loader
    for package in "$work"/debs/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    mkdir "$tree/bin" "$tree/lib"
    # Newer suites keep libraries in /usr/lib, some still in /lib: take both, flat.
    # Modules in sub-directories (character sets) are of no use to the tools.
    local directory
    for directory in "$work"/root/{,usr/}lib/*-linux-*/; do
        [[ -d $directory ]] || continue
        find "$directory" -maxdepth 1 \( -type f -o -type l \) -name '*.so*' \
            -exec cp -a -t "$tree/lib" {} +
    done
    # Its name differs by architecture: ld-linux-x86-64.so.2, ld64.so.1, ld.so.1 …
    # Some packages hold it outside of the libraries' directory.
    loader=$(find "$work/root" -type f -name 'ld*.so.[0-9]*' -print -quit)
    [[ -n $loader ]] || die "libc6 holds no loader that this script knows: $OTHER_WAYS"
    [[ -e $tree/lib/${loader##*/} ]] || cp -a "$loader" "$tree/lib/"
    loader=${loader##*/}

    for tool in "${TOOLS[@]}"; do
        cp "$work/root/usr/bin/$tool" "$tree/bin/$tool"
        "$tree/lib/$loader" --library-path "$tree/lib" "$work/root/usr/bin/patchelf" \
            --set-interpreter "$final/lib/$loader" \
            --force-rpath --set-rpath "$final/lib" "$tree/bin/$tool"
    done
    chmod -R u=rwX,go=rX "$tree"
}

install_into() {
    local prefix=$1 keyring newer
    work=$(mktemp -d "${TMPDIR:-/tmp}/notapipe-rgbds.XXXXXX")
    # Open, so that apt's own unprivileged user may enter.
    chmod 755 "$work"
    write_apt_configuration "$work"

    keyring=$(machine_keyring)
    if ! fetch_packages "$work" "$keyring"; then
        say "that failed; looking for a newer Debian keyring in this machine's own suites"
        if ! newer=$(newer_keyring "$work") || cmp -s "$newer" "$keyring" ||
            ! fetch_packages "$work" "$newer"; then
            die "no RGBDS from this machine's package sources (see above): check the network, or $OTHER_WAYS"
        fi
    fi

    new=$(mktemp -d "$prefix/.new.XXXXXX")
    assemble "$work" "$new" "$prefix/rgbds"
    # Whole or not at all. What was there did not start, or we would not be here.
    rm -rf "$prefix/rgbds"
    mv -T "$new" "$prefix/rgbds"
    tools_start "$prefix/rgbds/bin" ||
        die "the tools in $prefix/rgbds/bin do not start (is that file system mounted noexec?): set NOTAPIPE_TOOLS to another directory, or $OTHER_WAYS"
    say "installed $("$prefix/rgbds/bin/rgbasm" --version) in $prefix/rgbds"
}

work=
new=
cleanup() {
    [[ -z $work ]] || rm -rf "$work"
    [[ -z $new ]] || rm -rf "$new"
}
trap cleanup EXIT
# A signal's default action would skip the EXIT trap.
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if find_installed; then
    exit
fi

for command in apt-get dpkg dpkg-deb flock; do
    type -P "$command" >/dev/null || die "no $command here: $OTHER_WAYS"
done

prefix=$(choose_prefix)
mkdir -p "$prefix" || die "cannot make $prefix: set NOTAPIPE_TOOLS to a directory that you can write"
prefix=$(cd "$prefix" && pwd -P)
# A colon separates the entries of PATH and of a library path, and cannot be escaped.
[[ $prefix != *:* ]] || die "$prefix has a colon in its name: set NOTAPIPE_TOOLS to a directory without"

# One at a time: a second copy waits here, then finds the tools there. The lock
# ends with its holder, whatever ended that.
exec {lock}>"$prefix/.lock" || die "cannot write to $prefix: set NOTAPIPE_TOOLS to a directory that you can write"
flock "$lock"
if ! tools_start "$prefix/rgbds/bin"; then
    # Left by a copy that was killed: we hold the lock, so nobody works there.
    rm -rf "$prefix"/.new.*
    install_into "$prefix"
fi
printf '%s\n' "$prefix/rgbds/bin"

#!/usr/bin/env bash
# Installs what is missing, builds notapipe, and assembles and links a real Game Boy program in RAM.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
project="$PWD"

scripts/install-deps.sh demo
PATH="$(scripts/install-rgbds.sh):$PATH"
if ! command -v cargo >/dev/null; then
    echo "demo.sh: cargo is missing: install Rust 1.88 or later with rustup" >&2
    exit 1
fi
cargo build --locked --release --quiet
PATH="$project/target/release:$PATH"
export PATH

# Without FUSE there is a line on what is different; where nothing works, all that doctor says.
if ! doctor="$(notapipe doctor)"; then
    if [[ $doctor != *'works here without FUSE alone' ]]; then
        printf '%s\n' "$doctor" >&2
        exit 1
    fi
    grep -A 1 '^note  without FUSE ' <<<"$doctor"
    printf '\n'
fi

work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
cp examples/gameboy/simple/*.asm "$work"
cd -- "$work"

# Shows a command as one would type it, then runs it.
try() {
    printf '$ %s\n' "$*"
    "$@"
}

rgbasm B.asm -o B.o
try ls
printf '\n'
printf '$ notapipe run -i A.asm -i B.o -o A.gb -o A.map -o A.sym -- \\\n'
printf '      rgbasm A.asm -o A.o --then rgblink A.o B.o -o A.gb -m A.map -n A.sym\n'
notapipe run -i A.asm -i B.o -o A.gb -o A.map -o A.sym -- \
    rgbasm A.asm -o A.o --then rgblink A.o B.o -o A.gb -m A.map -n A.sym
try ls
printf '\n# The same two commands in an ordinary directory give the same bytes:\n'
mkdir disk && cp A.asm B.o disk && cd disk
rgbasm A.asm -o A.o && rgblink A.o B.o -o A.gb -m A.map -n A.sym && cd ..
for output in A.gb A.map A.sym; do
    cmp "$output" "disk/$output"
    printf '%s: %s bytes, the same\n' "$output" "$(stat -c %s "$output")"
done

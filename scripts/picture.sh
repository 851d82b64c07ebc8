#!/usr/bin/env bash
# Records the README's moving picture, docs/demo.svg, from a real run in a terminal.
#
#   scripts/picture.sh
#
# asciinema (Debian) records, svg-term-cli (npm) draws. Wants RGBDS and a built notapipe, as scripts/demo.sh makes them.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
project="$PWD"

# Types a command slowly, as a person would, and runs it.
perform() {
    local at
    printf '\e[32m$\e[0m '
    for ((at = 0; at < ${#1}; at++)); do
        printf '%s' "${1:at:1}"
        sleep 0.03
    done
    printf '\n'
    eval "$1" || true
    sleep 1.2
}

scene() {
    perform 'ls'
    perform 'notapipe run -i A.asm -i B.o -o A.gb -o A.sym -- rgbasm A.asm -o A.o --then rgblink A.o B.o -o A.gb -n A.sym'
    perform 'ls'
    perform 'notapipe run --size 1M -o log -- --stdout log yes'
    perform 'notapipe run --timeout 1s -- sh -c "sleep 1000 & sleep 1000"'
    perform 'pgrep sleep; mount -t fuse.notapipe'
    sleep 2
}

if [[ ${1-} == --scene ]]; then
    scene
    exit
fi

scripts/install-deps.sh picture
PATH="$project/${CARGO_TARGET_DIR:-target}/release:$(scripts/install-rgbds.sh):$PATH"
export PATH
work="$(mktemp -d)"
trap 'rm -rf -- "$work"' EXIT
mkdir "$work/shown"
cp examples/gameboy/simple/A.asm "$work/shown"
rgbasm examples/gameboy/simple/B.asm -o "$work/shown/B.o"
npm install --silent --no-fund --no-audit --prefix "$work" svg-term-cli >&2
cd -- "$work/shown"
asciinema rec --quiet --cols 100 --rows 24 --command "bash '$project/scripts/picture.sh' --scene" "$work/run.cast"
"$work/node_modules/.bin/svg-term" --in "$work/run.cast" --out "$project/docs/demo.svg" --window

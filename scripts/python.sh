#!/usr/bin/env bash
# Builds the Python package, installs it into a virtual environment of its own below target/, and checks and tests it there.
#
#   scripts/python.sh            all of it
#   scripts/python.sh ARGUMENT…  only pytest, with these arguments
#
# PYTHON chooses the interpreter, python3 unless said. The last line tells how many tests passed.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

target="$(realpath -m -- "${CARGO_TARGET_DIR:-target}")"
venv="$target/python"
log="$(mktemp)"
trap 'rm -f -- "$log"' EXIT

[[ -x $venv/bin/python ]] || "${PYTHON:-python3}" -m venv "$venv"
export PATH="$venv/bin:$PATH" CARGO_TARGET_DIR="$target"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
pip install --quiet --config-settings=build-args="--profile dev" "./python[test]"

# What the examples call.
PATH="$(scripts/install-rgbds.sh):$PATH"
if (($# == 0)); then
    cargo fmt --package notapipe-python --check
    cargo clippy --locked --package notapipe-python --all-targets -- -D warnings
    mypy --config-file python/pyproject.toml --cache-dir "$target/mypy" python/notapipe python/tests examples/python
fi
# Development mode tells what is not closed; a warning is a failure (python/pyproject.toml).
python -X dev -m pytest --config-file python/pyproject.toml --rootdir . --quiet \
    --doctest-modules --pyargs notapipe "${@:-python/tests}" 2>&1 | tee "$log"
sed -n 's/^\([0-9]*\) passed.*/python: \1 tests passed/p' "$log"

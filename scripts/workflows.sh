#!/usr/bin/env bash
# Checks .github/workflows against the schema of workflows and for holes (check-jsonschema and zizmor, from pip).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

venv="$(realpath -m -- "${CARGO_TARGET_DIR:-target}")/workflows"
[[ -x $venv/bin/python ]] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet check-jsonschema zizmor
"$venv/bin/check-jsonschema" --builtin-schema vendor.github-workflows .github/workflows/*.yml
"$venv/bin/zizmor" --offline --quiet .github/workflows
sed -n 's/^ *- run: \(sudo \)\?\([^ ]*\).*$/\2/p' .github/workflows/*.yml | while read -r script; do
    [[ -x $script ]] || { echo "workflows.sh: $script is no script of ours" >&2; exit 1; }
done

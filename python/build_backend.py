"""Builds the wheel: the `notapipe` program with cargo, then the package around it with maturin (PEP 517).

maturin puts into a wheel what lies in `notapipe.data/scripts`; it does not build a program beside an extension module.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import maturin
from maturin import (  # noqa: F401
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

HERE = Path(__file__).resolve().parent
Settings = dict[str, Any] | None


def build_wheel(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    _build_program(settings)
    return str(maturin.build_wheel(directory, settings, metadata))


def build_editable(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    _build_program(settings)
    return str(maturin.build_editable(directory, settings, metadata))


def _build_program(settings: Settings) -> None:
    command = ["cargo", "build", "--locked", "--package", "notapipe", "--bin", "notapipe"]
    command += ["--profile", _profile(settings), "--message-format", "json-render-diagnostics"]
    told = subprocess.run(command, cwd=HERE, stdout=subprocess.PIPE, check=True).stdout
    messages = [json.loads(line) for line in told.splitlines()]
    program = next(it["executable"] for it in messages if it.get("executable"))
    scripts = HERE / "notapipe.data" / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    shutil.copy2(program, scripts / "notapipe")


def _profile(settings: Settings) -> str:
    """Of `pip install --config-settings=build-args="--profile dev"`; maturin reads it in the same way."""
    given = (settings or {}).get("build-args", "")
    arguments = shlex.split(given) if isinstance(given, str) else given
    return arguments[arguments.index("--profile") + 1] if "--profile" in arguments else "release"

"""What the pages of `docs` say in Python is run, and the schema of reports holds for real ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import notapipe

PROJECT = Path(__file__).parents[2]
DOCS = PROJECT / "docs"
SCHEMA: dict[str, Any] = json.loads((DOCS / "report.schema.json").read_text())


@pytest.mark.parametrize("page", ["docs/recipes.md", "docs/python.md", "python/README.md", "README.md"])
def test_the_pages_python_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (PROJECT / page).read_text()
    monkeypatch.chdir(tmp_path)
    for setup in re.findall(r"^<!-- setup\n(.*?)^-->$", text, re.DOTALL | re.MULTILINE):
        subprocess.run(["bash", "-ec", setup], check=True, env={**os.environ, "project": str(PROJECT)})
    names: dict[str, object] = {}
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))
    assert blocks
    for block in blocks:
        line = text.count("\n", 0, block.start())
        # Line numbers of a failure are those of the page.
        exec(compile("\n" * (line + 1) + block[1], str(PROJECT / page), "exec"), names)


REPORTED = {
    "a job": ["--", "true"],
    "outputs": ["-o", "d", "-o", "f", "--profile", "observed", "--", "sh", "-c", "mkdir d; echo 1 > d/x; echo 2 > f"],
    "a failing step": ["--", "false", "--then", "true"],
    "a signal": ["--", "sh", "-c", "kill -9 $$"],
    "a timeout": ["--timeout", "100ms", "--", "sleep", "10"],
    "a full mount": ["--size", "1M", "--", "--stdout", "f", "yes"],
    "no output": ["-o", "none", "--", "true"],
    "no tool": ["--", "no-such-tool"],
    "no input": ["-i", "none", "--", "true"],
    "limits": ["--limit", "cpu=10s,memory=2G,processes=50,files=50", "--", "true"],
    "a pipe": ["--", "yes", "--pipe", "head", "-1"],
    "on tmpfs": ["--backing", "tmpfs", "-o", "f", "--", "touch", "f"],
    "in a directory": ["--backing", "directory", "-o", "f", "--", "touch", "f"],
}


@pytest.mark.parametrize("arguments", REPORTED.values(), ids=REPORTED.keys())
def test_reports_are_as_the_schema_says(arguments: list[str], tmp_path: Path) -> None:
    subprocess.run(["notapipe", "run", "--report", "report.json", *arguments], cwd=tmp_path, capture_output=True)
    report = json.loads((tmp_path / "report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    assert not set(report) - set(SCHEMA["properties"]), "the schema lacks a field"
    known = set(SCHEMA["$defs"]["step"]["properties"])
    assert not {field for step in report["steps"] for field in step} - known, "the schema lacks a step's field"


def test_the_schema_refuses_what_is_no_report() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"version": 1, "result": "perhaps"}, SCHEMA)


def test_an_outcomes_report_is_as_the_schema_says() -> None:
    done = notapipe.run(["sh", "-c", "echo a > b"], outputs=["b"], report=True)
    jsonschema.validate(done.report, SCHEMA)
    jsonschema.validate(notapipe.run(["false"], ["never"], check=False).report, SCHEMA)
    with pytest.raises(notapipe.TimeoutExpired) as raised:
        notapipe.run(["sleep", "600"], timeout=0.1)
    assert raised.value.outcome is not None
    late = raised.value.outcome.report
    jsonschema.validate(late, SCHEMA)
    assert (late["exit_status"], late["result"], late["steps"][0]["ended_by"]) == (124, "failed", "timeout")

"""What is known of a job, as plain values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._native import Outcome, StepReport


def report(outcome: Outcome) -> dict[str, Any]:
    """The fields of `notapipe run --report`, as `docs/report.schema.json` has them."""
    usage = outcome.usage
    names = "bytes inodes peak_bytes peak_inodes limit_bytes limit_inodes limit_met"
    return {
        "version": 1,
        "result": "ok" if outcome.error is None else "failed",
        "exit_status": outcome.exit_status,
        "error": None if outcome.error is None else {"message": outcome.error},
        "fuse": outcome.backing == "fuse",
        "backing": outcome.backing,
        "steps": [_step(step) for step in outcome.steps],
        "steps_not_run": [{"command": command} for command in outcome.steps_not_run],
        "outputs": [{"name": name, "kind": "file", "bytes": size} for name, size in outcome.sizes.items()],
        "phases_seconds": outcome.phases,
        "usage": {name: getattr(usage, name) for name in names.split() if getattr(usage, name) is not None},
        "requests": outcome.requests,
    }


def _step(step: StepReport) -> dict[str, Any]:
    told = {
        "command": step.args,
        "exit": {"code": step.returncode} if step.returncode >= 0 else {"signal": -step.returncode},
        "ended_by": step.ended_by,
        "wall_seconds": step.duration,
        "user_seconds": step.user_time,
        "system_seconds": step.system_time,
        "max_rss_bytes": step.max_rss,
        "requests": step.requests,
        "files": step.files,
    }
    return {name: value for name, value in told.items() if value is not None}

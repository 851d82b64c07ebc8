"""Command-line tools as Python functions: bytes in, bytes out, on real files that live in RAM.

| I have | I want |
| --- | --- |
| a tool that wants files, and bytes instead | `run`, or `arun` in an event loop |
| the same, and something else to do meanwhile | `Job.start`, which gives a `RunningJob` |
| many jobs with an SDK or an include directory in common | `Base` |
| a directory in RAM, in place of `tempfile.TemporaryDirectory` | `Scratch` |
| to know what tools do to its files, as it happens | `Scratch.watch`, which gives `Event`s, and `Scratch.follow` |
| such a directory for a test | the fixture `ram_path`, of pytest |
"""

from ._base import Base
from ._convert import Input, Inputs
from ._errors import (
    Cancelled,
    FileMissing,
    LimitReached,
    NameRefused,
    NotapipeError,
    OutputMissing,
    StepFailed,
    TimeoutExpired,
    ToolNotFound,
    Unavailable,
)
from ._job import Job, Pipe, Step, arun, pipe, run
from ._native import Outcome, RunningJob, StepReport, Usage
from ._scratch import Event, Follow, Scratch, Watch

__all__ = [
    "Base",
    "Cancelled",
    "Event",
    "FileMissing",
    "Follow",
    "Input",
    "Inputs",
    "Job",
    "LimitReached",
    "NameRefused",
    "NotapipeError",
    "Outcome",
    "OutputMissing",
    "Pipe",
    "RunningJob",
    "Scratch",
    "Step",
    "StepFailed",
    "StepReport",
    "TimeoutExpired",
    "ToolNotFound",
    "Unavailable",
    "Usage",
    "Watch",
    "arun",
    "pipe",
    "run",
]

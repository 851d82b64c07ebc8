"""Why a job failed."""

from __future__ import annotations

import errno
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._native import Outcome


class NotapipeError(Exception):
    """Anything that notapipe could not do; the message is the command line's, with a help line where there is a remedy.

    Attributes:
        outcome: What there is of the job: its steps, and what they left. None where it failed before its first step.
        help: The remedy, if there is one.
    """

    def __init__(self, message: str, help: str | None = None, outcome: Outcome | None = None, detail: Any = None) -> None:
        self.message = message
        self.help = help
        self.outcome = outcome
        self.args = (message,) if help is None else (message, help)
        self._explain(detail)

    def __str__(self) -> str:
        return self.message if self.help is None else f"{self.message}\nhelp: {self.help}"

    def __reduce__(self) -> tuple[Any, ...]:
        # What came of the job holds its files, and stays where they are.
        return type(self), (self.message, self.help), {**self.__dict__, "outcome": None}

    def _explain(self, detail: Any) -> None:
        """Sets what the class is besides."""

    def _streams(self, step: int) -> None:
        """What `subprocess` tells of a process that failed, of this step."""
        steps = [] if self.outcome is None else self.outcome.steps
        report = steps[step] if steps else None
        self.cmd = [] if report is None else report.args
        self.output = None if report is None else report.stdout
        self.stderr = None if report is None else report.stderr
        self.returncode = 0 if report is None else report.returncode


class StepFailed(NotapipeError, subprocess.CalledProcessError):
    """A step ended with a status other than 0, or by a signal.

    It is a `subprocess.CalledProcessError` of that step: `returncode`, `cmd`, `stdout`, `stderr`.

    >>> import notapipe
    >>> try:
    ...     notapipe.run(["sh", "-c", "echo of no use >&2; exit 3"])
    ... except notapipe.StepFailed as failed:
    ...     print(failed, failed.returncode, failed.stderr)
    "sh" ended with status 3: of no use 3 b'of no use\\n'
    """

    def _explain(self, detail: Any) -> None:
        self._streams(int(detail or 0))


class TimeoutExpired(NotapipeError, subprocess.TimeoutExpired):
    """The job took longer than its `timeout`; everything in it was ended.

    It is a `subprocess.TimeoutExpired` of the step that ran: `timeout`, `cmd`, `stdout`, `stderr`.
    """

    def _explain(self, detail: Any) -> None:
        self.timeout = float(detail or 0)
        self._streams(-1)


class OutputMissing(NotapipeError, FileNotFoundError):
    """The steps have not left an output, or it was still being written when the job was over."""

    def _explain(self, detail: Any) -> None:
        self.errno = errno.ENOENT


class FileMissing(NotapipeError, FileNotFoundError):
    """A file is not there: an input's on the host, or one of a `Scratch`."""

    def _explain(self, detail: Any) -> None:
        self.errno = errno.ENOENT


class ToolNotFound(NotapipeError, FileNotFoundError):
    """There is no program of a step's name."""

    def _explain(self, detail: Any) -> None:
        self.errno = errno.ENOENT


class LimitReached(NotapipeError, OSError):
    """The job needed more than one of its limits allows: `size`, `inodes` or one of `limits`. An `OSError` with ENOSPC."""

    def _explain(self, detail: Any) -> None:
        self.errno = errno.ENOSPC


class NameRefused(NotapipeError, ValueError):
    """A name of an input or output that cannot be used, or a pattern that is none."""


class Cancelled(NotapipeError):
    """The job was cancelled, by `RunningJob.cancel`."""


class Unavailable(NotapipeError):
    """The machine or the container refuses what the job needs; the message says what to change, and so does
    `notapipe doctor`."""

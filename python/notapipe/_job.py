"""Jobs: what is to be done, and doing it."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Callable, Mapping, ParamSpec, Sequence, TypeVar, Union

from . import _convert, _native, _wait
from ._base import Base

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath

    from ._convert import Input, Inputs, Names
    from ._native import Outcome, RunningJob

    AnyStep = Union["Step", "Pipe", Sequence[StrOrBytesPath]]
    Stdin = Union[ReadableBuffer, str, int, IO[Any], None]
    Stdout = Union[str, int, IO[Any], None]


@dataclass(frozen=True, init=False)
class Step:
    """A command of a job, with a say in its environment and its streams.

    Args:
        args: The program and its arguments; no shell sees them.
        env: All of its environment, as for `subprocess.run`; this process's unless given.
        cwd: The directory of the job where it starts; its root unless given.
        stdin: Contents (`bytes` and the like), a file of the job (a `str`, its name), an open file or descriptor of this
            process, or `subprocess.DEVNULL`, which it is unless given.
        stdout: A file of the job (a `str`), an open file or descriptor, or `subprocess.DEVNULL`. Captured unless given:
            the last 8 MiB are in `Outcome.steps`.
        stderr: As `stdout`. Where both name one file, they share it, as with `>log 2>&1`.

    >>> import notapipe
    >>> step = notapipe.Step(["sort"], stdin=b"pear\\napple\\n", stdout="sorted", env={"LC_ALL": "C"})
    >>> notapipe.run(step, outputs=["sorted"]).outputs
    {'sorted': b'apple\\npear\\n'}
    """

    args: tuple[str, ...]
    env: tuple[tuple[str, str], ...] | None
    cwd: str | None
    stdin: Any
    stdout: Any
    stderr: Any

    def __init__(
        self,
        args: Sequence[StrOrBytesPath],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        stdin: Stdin = None,
        stdout: Stdout = None,
        stderr: Stdout = None,
    ) -> None:
        _set(
            self,
            args=_convert.arguments(args),
            env=_convert.environment(env),
            cwd=cwd,
            stdin=_convert.stream(stdin),
            stdout=stdout,
            stderr=stderr,
        )


@dataclass(frozen=True)
class Pipe:
    """Steps that run at once, each reading what the one before it writes; from `pipe`."""

    steps: tuple[Step, ...]


def pipe(*steps: Step | Sequence[StrOrBytesPath]) -> Pipe:
    """Joins steps: they run at once, and each reads the standard output of the one before it.

    All of them must succeed, as with `set -o pipefail` in a shell.

    >>> import notapipe
    >>> done = notapipe.run(notapipe.pipe(["printf", "b\\\\na\\\\n"], ["sort", "-o", "sorted"]), outputs=["sorted"])
    >>> done.outputs
    {'sorted': b'a\\nb\\n'}
    """
    return Pipe(tuple(it if isinstance(it, Step) else Step(it) for it in steps))


@dataclass(frozen=True, init=False)
class Job:
    """What is to be done: inputs, steps, outputs. See `run` for its arguments.

    It does not change, can be compared, hashed and, where its inputs can be, pickled, and run as often as you like; a file
    object among its inputs is read by the first run.

    >>> import notapipe
    >>> sort = notapipe.Job(["sort", "words", "-o", "sorted"], outputs=["sorted"])
    >>> sort.replace(inputs={"words": b"pear\\napple\\n"}).run().outputs
    {'sorted': b'apple\\npear\\n'}
    """

    steps: tuple[Step | Pipe, ...]
    inputs: tuple[tuple[str, Any], ...]
    outputs: tuple[str, ...]
    optional: tuple[str, ...]
    collect: tuple[str, ...]
    changed: bool
    stdin: Any
    env: tuple[tuple[str, str], ...] | None
    timeout: float | None
    kill_after: float | None
    size: int | None
    inodes: int | None
    limits: tuple[tuple[str, float], ...]
    backing: str
    report: bool
    base: Base | None
    check: bool

    def __init__(
        self,
        *steps: AnyStep,
        inputs: Inputs | None = None,
        outputs: Names = (),
        optional: Names = (),
        collect: Names = (),
        changed: bool = False,
        stdin: Stdin = None,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,
        kill_after: float | None = None,
        size: int | str | None = None,
        inodes: int | str | None = None,
        limits: Mapping[str, float | str] | None = None,
        backing: str | None = None,
        report: bool = False,
        base: Base | None = None,
        check: bool = True,
    ) -> None:
        _set(
            self,
            steps=tuple(it if isinstance(it, (Step, Pipe)) else Step(it) for it in steps),
            inputs=_convert.inputs(inputs),
            outputs=_convert.names("outputs", outputs),
            optional=_convert.names("optional", optional),
            collect=_convert.names("collect", collect),
            changed=changed,
            stdin=_convert.stream(stdin),
            env=_convert.environment(env),
            timeout=timeout,
            kill_after=kill_after,
            size=_convert.size("size", size),
            inodes=_convert.size("inodes", inodes),
            limits=_convert.limits(limits),
            backing=backing or "auto",
            report=report,
            base=base,
            check=check,
        )

    def replace(self, **changes: Any) -> Job:
        """This job with other arguments; `steps` is a sequence of them.

        >>> import notapipe
        >>> job = notapipe.Job(["true"], timeout=10)
        >>> job.replace(timeout=20) == notapipe.Job(["true"], timeout=20)
        True
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields.update(changes)
        return Job(*fields.pop("steps"), **fields)

    def run(self) -> Outcome:
        """Does it, and waits for its end; see `notapipe.run`."""
        with self.start() as running:
            return running.wait()

    async def arun(self) -> Outcome:
        """Does it without blocking the event loop; see `notapipe.arun`."""
        with self.start() as running:
            try:
                await _wait.readable(running.fileno())
            except BaseException:
                running.cancel()
                await _wait.ended(running)
                raise
            return running.wait()

    def start(self) -> RunningJob:
        """Starts it, and returns at once.

        >>> import notapipe
        >>> with notapipe.Job(["sleep", "600"]).start() as running:
        ...     print(running.poll())
        None
        """
        return _native.RunningJob(self)


Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def _arguments_of(job: Callable[Arguments, Job]) -> Callable[[Callable[..., Result]], Callable[Arguments, Result]]:
    """Gives a function the arguments of a job, for people and for type checkers."""

    def with_arguments(function: Callable[..., Result]) -> Callable[Arguments, Result]:
        signature = inspect.signature(job)
        setattr(function, "__signature__", signature.replace(return_annotation="Outcome"))
        return function

    return with_arguments


@_arguments_of(Job)
def run(*steps: Any, **arguments: Any) -> Outcome:
    """Runs steps one after another on files in RAM that only they see, and gives what they made.

    The steps start in the root of a directory of the job's own, which holds the inputs. When it returns or raises, nothing
    of the job is left: no process, no mount, no file, nor what the steps wrote to `/tmp`.

    Args:
        steps: Lists of arguments, `Step`s, or `pipe`s of them. A program is looked for in PATH; a relative path, as
            `./tool`, first in the working directory of this process, then in the job.
        inputs: Files by their names in the job. Of what each is made is told by its type: anything with the buffer protocol
            (`bytes`, `bytearray`, `memoryview`, arrays) is contents, `bytes` shared and the others copied once; a
            `pathlib.Path` is a file or directory of the host; a binary file object is read to its end before the first
            step; a callable is called when a tool first reaches for the file, on a thread of its own, and returns
            contents or a binary file object.
        outputs: Names of files or directories that the steps must leave.
        optional: Names of those that they may leave.
        collect: Patterns, as `build/*.gb`, each of which must match something.
        changed: Whether all that is new or changed is an output.
        stdin: Standard input of the first step; see `Step`. Nothing unless given.
        env: All of the environment of the steps, as for `subprocess.run`; this process's unless given.
        timeout: Seconds that all steps together may take. After them everything in the job is killed.
        kill_after: At the timeout, first SIGTERM, and so many seconds to end.
        size: The most bytes that the job's files may take: a number, `"64M"` or `"50%"` of the memory, which is the
            default.
        inodes: The most files and directories.
        limits: What the steps may use: `cpu` (seconds), `memory` (bytes, or `"1G"`), `processes`, `files` (descriptors of
            each).
        backing: What the files are in: `"fuse"`; `"tmpfs"`, which is faster, and of which no files touched are told;
            `"directory"`, where limits are watched; or `"auto"`, the first of these that this machine allows.
        report: Whether the report tells which files each step touched, which costs a little.
        base: What this job has in common with others.
        check: Whether a step that fails raises `StepFailed`; otherwise see `Outcome.returncode`.

    Raises:
        StepFailed: A step ended with a status other than 0. It is a `subprocess.CalledProcessError`.
        TimeoutExpired: The time was over. It is a `subprocess.TimeoutExpired`.
        OutputMissing: An output is not there. It is a `FileNotFoundError`.
        LimitReached: A limit was met. It is an `OSError` with ENOSPC.
        ToolNotFound: There is no such program. It is a `FileNotFoundError`.
        NameRefused: A name climbs, is absolute, or is given twice. It is a `ValueError`.
        Unavailable: This machine allows no such job; `notapipe doctor` tells more.
        NotapipeError: Anything else; all of these are of this class.
        KeyboardInterrupt: Ctrl-C, which ends the job.

    >>> import notapipe
    >>> done = notapipe.run(
    ...     ["sort", "words", "-o", "sorted"],
    ...     ["wc", "-l", "sorted"],
    ...     inputs={"words": b"pear\\napple\\n"},
    ...     outputs=["sorted"],
    ...     timeout=10,
    ... )
    >>> done.outputs
    {'sorted': b'apple\\npear\\n'}
    >>> done.steps[1].stdout
    b'2 sorted\\n'
    """
    return Job(*steps, **arguments).run()


@_arguments_of(Job)
async def arun(*steps: Any, **arguments: Any) -> Outcome:
    """As `run`, for `await`: under asyncio and uvloop, trio, and anyio on either.

    No thread waits and the event loop is not blocked. Cancelling the task ends the job with everything in it, before the
    cancellation goes on.

    >>> import asyncio, notapipe
    >>> asyncio.run(notapipe.arun(["echo", "ceci"])).steps[0].stdout
    b'ceci\\n'
    """
    return await Job(*steps, **arguments).arun()


def _set(frozen: Any, **fields: Any) -> None:
    for name, value in fields.items():
        object.__setattr__(frozen, name, value)

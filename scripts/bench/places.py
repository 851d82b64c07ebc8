"""Where a workload runs: a directory on tmpfs, one on disk, or a mount of notapipe.

A place runs a case once and gives a `Sample`. What is prepared before the measured command is never in the
time, nor is making the directory or the mount; the request count covers the measured command alone.

The last preparation is to touch as much memory as the case may use, in every place: what a hypervisor takes for a page
that it has reclaimed is no file system's time, and would fall to whoever comes after a pause (see `micro.c`).
"""

import dataclasses
import json
import subprocess
import tempfile
from pathlib import Path

# A case that takes longer than this hangs.
TIMEOUT_SECONDS = 900

# A report alone would choose the profile that sees every open and close.
FAST = ["--profile", "fast"]


class Failed(Exception):
    """A command of a case failed; the message says which, and what it said."""


@dataclasses.dataclass(frozen=True)
class Sample:
    seconds: float
    # What the kernel asked of notapipe, by kind and in `total`; None where nobody counts.
    requests: dict[str, int] | None = None


def run(command, directory, environment):
    """Runs a command to its end; what it prints is shown only when it fails."""
    try:
        subprocess.run(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"{shown(command)}: still running after {TIMEOUT_SECONDS} s") from error
    except subprocess.CalledProcessError as error:
        said = error.stdout.decode(errors="replace").strip()[-2000:]
        raise Failed(f"{shown(command)}: status {error.returncode}: {said}") from error
    except OSError as error:
        raise Failed(f"{shown(command)}: {error}") from error


def shown(command):
    return " ".join(str(word) for word in command)


class Place:
    """What all places have: a name for the table, and a base for what must lie on a host file system."""

    def __init__(self, name, base, tools, turns=None):
        self.name = name
        self.base = Path(base)
        self.tools = tools
        # In how many rounds it takes part; in all of them unless said.
        self.turns = turns

    def run(self, case):
        return case.run_in(self)

    def fresh(self):
        return tempfile.TemporaryDirectory(prefix="notapipe-bench-", dir=self.base)

    def environment(self):
        """What the cases' scripts find: where a user's `mktemp -d` would go."""
        return self.tools.environment | {"SCRATCH": str(self.base)}

    def timed(self, command, work):
        """Runs a command that writes its own time to the tools' elapsed file."""
        run(self.tools.fill(command), work, self.environment())
        return self.tools.elapsed_seconds()

    def last_preparation(self, case):
        return ["{micro}", "-", "touch-memory", case.memory_bytes]

    def run_outside(self, case):
        """A whole command, as a user starts it in a directory of their own."""
        command = case.command_for(self.name)
        with tempfile.TemporaryDirectory(prefix="notapipe-bench-", dir=self.tools.tmpfs) as work:
            copy(case.files, work)
            run(self.tools.fill(self.last_preparation(case)), work, self.environment())
            timed = ["{micro}", "{elapsed}", "run", case.times, *command]
            return Sample(self.timed(timed, work))


class Directory(Place):
    """An ordinary directory."""

    def run_inside(self, case):
        with self.fresh() as work:
            if case.stage:
                copy(case.stage, work)
            for command in [*case.prepare, self.last_preparation(case)]:
                run(self.tools.fill(command), work, self.environment())
            return Sample(self.timed(case.measure, work))


class Notapipe(Place):
    """The working directory of a job's step, whose files have this backing."""

    def __init__(self, name, base, tools, backing):
        super().__init__(name, base, tools)
        self.backing = backing

    def run_inside(self, case):
        stage = ["-i", f".={case.stage}"] if case.stage else []
        words = []
        for command in [*case.prepare, self.last_preparation(case), case.measure]:
            words += ["--then", *command] if words else command
        report = self.tools.report_file
        # What is measured writes its time to a file outside.
        options = [*FAST, "--backing", self.backing, "--tmp", "host", "--report", report]
        command = ["{notapipe}", "run", *options, *stage, "--", *words]
        seconds = self.timed(command, self.base)
        step = json.loads(report.read_text())["steps"][-1]
        return Sample(seconds, step["requests"] if self.backing == "fuse" else None)

    def run_outside(self, case):
        sample = super().run_outside(case)
        if not case.report or self.backing != "fuse":
            return sample
        # Counted in a run of its own: writing a report is no part of what is timed.
        with self.fresh() as work:
            copy(case.files, work)
            report = self.tools.report_file
            command = ["{notapipe}", "run", *FAST, "--report", report, *case.report]
            run(self.tools.fill(command), work, self.environment())
        requests = json.loads(report.read_text())["requests"]
        return Sample(sample.seconds, {kind: n * case.count for kind, n in requests.items()})


class Tools:
    """What the commands of the cases are made with."""

    def __init__(self, notapipe, tmpfs, directory, environment):
        self.tmpfs = tmpfs
        self.report_file = directory / "report.json"
        self._elapsed_file = directory / "elapsed"
        self.environment = environment | {"NOTAPIPE": str(notapipe)}
        self._words = {
            "{notapipe}": str(notapipe),
            "{micro}": str(directory / "micro"),
            "{elapsed}": str(self._elapsed_file),
        }
        source = Path(__file__).resolve().parent / "micro.c"
        run(["cc", "-O2", "-o", self._words["{micro}"], source], directory, environment)

    def fill(self, command):
        """The command with the words in braces replaced."""
        return [self._words.get(str(word), str(word)) for word in command]

    def elapsed_seconds(self):
        seconds = int(self._elapsed_file.read_text()) / 1e9
        # A command that forgets to write must not be given the time of the one before.
        self._elapsed_file.unlink()
        return seconds


def copy(source, destination):
    """Copies the content of a directory; every byte of it, also where the disk could share them."""
    if source:
        run(["cp", "-a", "--reflink=never", f"{source}/.", destination], "/", None)

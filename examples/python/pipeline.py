"""`ls | grep`, and `ps > file`: without a shell, and with results that can be read twice.

`shell=True` makes a language of what should be a list of words, and tells only how the last command of a pipe ended. What
comes out of a pipe can be read once: who wants to look at it again, or to seek in it, has to keep a copy.
"""

from __future__ import annotations

import notapipe
from notapipe import Step, pipe


def names_with(part: str, files: dict[str, bytes]) -> list[str]:
    """`ls | grep PART`, in a directory of these files."""
    done = notapipe.run(pipe(["ls"], ["grep", "-F", "--", part]), inputs=files, check=False)
    # Of grep: nothing matched, which is an answer. Of anything else it would be an error.
    if done.returncode > 1:
        raise RuntimeError(done.error)
    return done.steps[1].stdout.decode().splitlines()


def processes() -> tuple[int, str]:
    """`ps > file`, and the file read twice: counted by another tool, and by this program."""
    done = notapipe.run(Step(["ps", "-e", "-o", "comm="], stdout="running"), ["wc", "-l", "running"], outputs=["running"])
    return int(done.steps[1].stdout.split()[0]), done.outputs["running"].decode()


def main() -> None:
    print(names_with("pipe", {"pipe": b"", "pipeline": b"", "file": b""}))
    count, text = processes()
    assert count == len(text.splitlines())
    print(count, "processes")


if __name__ == "__main__":
    main()

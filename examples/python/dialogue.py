"""Two conversations: with a program over its standard streams, and between two programs over a FIFO.

A dialogue over two pipes stops for ever as soon as both sides write more than a pipe holds: each waits for the other to
read. Here the program writes its answers to a file in RAM, which takes all that it says and can be read while it grows; so
it always comes back to its questions. A program that never answers ends at the deadline.
"""

from __future__ import annotations

import os
import subprocess
import threading
from types import TracebackType
from typing import Sequence

import notapipe


class Dialogue:
    """A program in a directory of its own, which is asked lines and answers with lines."""

    def __init__(self, args: Sequence[str], deadline: float) -> None:
        self.scratch = notapipe.Scratch()
        self._answers = self.scratch.follow("answers")
        self._heard = b""
        with self.scratch.open("answers", "wb") as answers:
            self._program = subprocess.Popen(args, stdin=subprocess.PIPE, stdout=answers, cwd=self.scratch.path)
        self._deadline = threading.Timer(deadline, self._program.kill)
        self._deadline.start()

    def say(self, line: bytes) -> None:
        assert self._program.stdin is not None
        self._program.stdin.write(line + b"\n")
        self._program.stdin.flush()

    def hear(self) -> bytes:
        """The next line; an `EOFError` when the program has ended, or its time is over."""
        while b"\n" not in self._heard:
            block = next(self._answers, None)
            if block is None:
                raise EOFError("the program says no more")
            self._heard += block
        line, self._heard = self._heard.split(b"\n", 1)
        return line

    def __enter__(self) -> Dialogue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadline.cancel()
        self._program.kill()
        self._program.communicate()
        self.scratch.close()


def over_a_fifo(message: bytes) -> bytes:
    """Two programs that know nothing of each other meet by a name. The kernel keeps a FIFO's bytes, the directory its name:
    with both gone, nothing is left of either."""
    with notapipe.Scratch() as scratch:
        os.mkfifo(scratch.path / "line")
        with subprocess.Popen(["sh", "-c", "cat > line"], stdin=subprocess.PIPE, cwd=scratch.path) as writer:
            with subprocess.Popen(["cat", "line"], stdout=subprocess.PIPE, cwd=scratch.path) as reader:
                writer.communicate(message, timeout=60)
                return reader.communicate(timeout=60)[0]


def main() -> None:
    with Dialogue(["sed", "-u", "s/$/? Yes./"], deadline=60) as dialogue:
        for question in [b"Is it a file", b"Can one seek in it"]:
            dialogue.say(question)
            print(dialogue.hear().decode())
    with Dialogue(["sleep", "600"], deadline=0.2) as silent:
        try:
            silent.hear()
        except EOFError as ended:
            print(ended)
    print(over_a_fifo(b"hello from the other side").decode())


if __name__ == "__main__":
    main()

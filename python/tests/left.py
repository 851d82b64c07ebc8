"""What a job could leave behind: processes, and its mount with them; threads; descriptors."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from pathlib import Path
from typing import Callable, Iterator


def children() -> list[str]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        # A thread may end meanwhile.
        with contextlib.suppress(OSError):
            found += (task / "children").read_text().split()
    return found


def threads() -> list[str]:
    return [task.name for task in Path("/proc/self/task").iterdir()]


def descriptors() -> list[str]:
    """What is open, by what it leads to; a poll object of the test's own may come and go."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return found


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Nothing of the block's is there after it, but for what the interpreter itself keeps."""
    gc.collect()
    before = (len(children()), len(threads()), len(descriptors()))
    yield
    gc.collect()

    def now() -> tuple[int, int, int]:
        return (len(children()), len(threads()), len(descriptors()))

    # A thread is joined a moment before the kernel takes it from the list.
    eventually(lambda: all(is_ <= was for is_, was in zip(now(), before)), lambda: (before, now(), threads(), descriptors()))


def eventually(condition: Callable[[], bool], told: Callable[[], object] = lambda: "it never came") -> None:
    """Fails only when something is still wrong long after it must be right."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, told()
        time.sleep(0.005)

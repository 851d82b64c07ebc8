"""What many jobs have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _convert, _native

if TYPE_CHECKING:
    from ._convert import Inputs


class Base:
    """Files that many jobs begin with, staged once: an SDK, an include directory.

    Each job starts from a fork of it, which shares every byte and takes no time; what a job changes is its own.

    Args:
        inputs: As for `notapipe.run`, but for callables.
        size: The most bytes of the base, and of its jobs unless they say otherwise.
        inodes: The most files and directories.

    >>> import notapipe
    >>> sdk = notapipe.Base({"inc/words": b"pear\\napple\\n"})
    >>> notapipe.run(["sort", "inc/words", "-o", "out"], base=sdk, outputs=["out"]).outputs
    {'out': b'apple\\npear\\n'}
    """

    def __init__(self, inputs: Inputs, *, size: int | str | None = None, inodes: int | str | None = None) -> None:
        staged = _convert.inputs(inputs)
        self._native = _native.Base(staged, _convert.size("size", size), _convert.size("inodes", inodes))

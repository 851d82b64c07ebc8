"""What many jobs have in common."""

from __future__ import annotations

import collections
import secrets
import weakref
from typing import TYPE_CHECKING, Any

from . import _convert, _native

if TYPE_CHECKING:
    from ._convert import Inputs

#: The bases of this process by their tokens, and the latest that were unpickled, which may have no other owner between two
#: jobs of a pool of processes.
_known: weakref.WeakValueDictionary[str, Base] = weakref.WeakValueDictionary()
_unpickled: collections.deque[Base] = collections.deque(maxlen=8)


class Base:
    """Files that many jobs begin with, staged once: an SDK, an include directory.

    Each job starts from a fork of it, which shares every byte and takes no time; what a job changes is its own. Pickled, it
    takes its content along, and is staged once in each process that it comes to.

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
        limits = _convert.size("size", size), _convert.size("inodes", inodes)
        self._hold(_native.Base(_convert.inputs(inputs), *limits), secrets.token_hex(16))

    def _hold(self, native: _native.Base, token: str) -> None:
        self._native = native
        self._token = token
        _known[token] = self

    @property
    def bytes(self) -> int:
        """What its files take, in whole pages."""
        return self._native.bytes

    @property
    def inodes(self) -> int:
        """How many files and directories it has, its root included."""
        return self._native.inodes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Base) and self._token == other._token

    def __hash__(self) -> int:
        return hash(self._token)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._token, *self._native.pack())


def _restore(token: str, archive: bytes, size: int, inodes: int) -> Base:
    base = _known.get(token)
    if base is None:
        base = Base.__new__(Base)
        base._hold(_native.Base.unpack(archive, size, inodes), token)
        _unpickled.append(base)
    return base

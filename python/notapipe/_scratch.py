"""A directory in RAM, in place of `tempfile.TemporaryDirectory`."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, AsyncIterator, Iterator, Literal, Union

from . import _convert, _native, _wait

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer
    from typing_extensions import Self

Name = Union[str, "os.PathLike[str]"]


class Scratch:
    """A directory in RAM that every process of this user can use, until it is closed.

    Close it with `close`, or use it as a context manager. When the interpreter ends in another way, a kill -9 included, it
    goes as well.

    Args:
        size: The most bytes that its files may take: a number, `"64M"`, or `"50%"` of the memory, which is the default.
        inodes: The most files and directories.

    Attributes:
        path: Where it is.

    >>> import notapipe
    >>> with notapipe.Scratch(size="64M") as scratch:
    ...     scratch.write("in/words", b"pear\\napple\\n")
    ...     done = scratch.run(["sort", "in/words", "-o", "sorted"], check=True)
    ...     scratch.listdir(), scratch.read("sorted")
    (['in', 'sorted'], b'apple\\npear\\n')
    """

    path: Path

    def __init__(self, *, size: int | str | None = None, inodes: int | str | None = None) -> None:
        self._native = _native.Scratch(_convert.size("size", size), _convert.size("inodes", inodes))
        self.path = Path(self._native.path())

    def write(self, name: Name, content: ReadableBuffer) -> None:
        """Makes a file, and the directories above it, or replaces the content of one: all of it, or nothing at the limit."""
        made = _convert.contents(content)
        if made is None:
            raise TypeError(f"the content of {os.fspath(name)!r} is a {type(content).__name__}: give bytes")
        self._native.write(os.fspath(name), made)

    def read(self, name: Name) -> bytes:
        """The bytes of a file, as they are at this moment."""
        return self._native.read(os.fspath(name))

    def listdir(self, name: Name = ".") -> list[str]:
        """The names in a directory, in the order in which they were made."""
        return self._native.list(os.fspath(name))

    def open(self, name: Name, mode: str = "r", **arguments: Any) -> IO[Any]:
        """Opens a file of it, as the built-in `open`: a real file, with a descriptor.

        >>> import notapipe
        >>> with notapipe.Scratch() as scratch, scratch.open("word", "w") as file:
        ...     file.write("ceci")
        4
        """
        return open(self.path / name, mode, **arguments)

    def run(self, args: Any, *, cwd: Name = ".", **arguments: Any) -> subprocess.CompletedProcess[Any]:
        """Runs a command in it, as `subprocess.run`, with the same arguments; `cwd` is a directory of it.

        >>> import notapipe
        >>> with notapipe.Scratch() as scratch:
        ...     scratch.run(["sh", "-c", "echo ceci > word; cat word"], capture_output=True, check=True).stdout
        b'ceci\\n'
        """
        return subprocess.run(args, cwd=self.path / cwd, **arguments)

    def watch(self, name: Name = ".") -> Watch:
        """What happens from now on to a file, or in a directory and all below it: an iterator and an async iterator.

        >>> import notapipe
        >>> with notapipe.Scratch() as scratch:
        ...     events = scratch.watch()
        ...     done = scratch.run(["sh", "-c", "printf abc > word; mv word noun"])
        ... # What has happened is still told.
        >>> for event in events:
        ...     if event.kind in ("written", "renamed"):
        ...         print(event.kind, event.path, event.span or event.source)
        written word range(0, 3)
        renamed noun word
        """
        return Watch(self._native.watch(os.fspath(name)))

    def follow(self, name: Name) -> Follow:
        """The bytes of a file while a tool writes it: an iterator and an async iterator of blocks.

        It waits until the file is opened for writing, and ends when the last writer has closed it.

        >>> import notapipe
        >>> with notapipe.Scratch() as scratch:
        ...     log = scratch.follow("log")
        ...     done = scratch.run(["sh", "-c", "echo one > log; echo two >> log"])
        ...     b"".join(log)
        b'one\\ntwo\\n'
        """
        return Follow(self._native.follow(os.fspath(name)))

    def close(self) -> None:
        """Unmounts it, with all that is in it. A process that still has a file of it open keeps that file."""
        self._native.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __repr__(self) -> str:
        return f"<notapipe.Scratch {os.fspath(self.path)!r}>"


@dataclass(frozen=True)
class Event:
    """Something that happened to a file of a `Scratch`, whichever process did it.

    Attributes:
        kind: `"lost"` tells that more happened than was taken in time: look at all of it again.
        path: The file. Of `"renamed"`, its name now.
        source: Of `"renamed"`, its name before.
        span: Of `"written"`, which bytes.
        size: Of `"truncated"`, its size now.
        writable: Of `"opened"` and `"closed"`, whether it could be written.
    """

    kind: Literal["created", "removed", "renamed", "opened", "closed", "written", "truncated", "lost"]
    path: str
    source: str | None = None
    span: range | None = None
    size: int | None = None
    writable: bool | None = None


class Watch(Iterator[Event], AsyncIterator[Event]):
    """Events as they happen, until the directory is closed; from `Scratch.watch`.

    What happens while nobody takes it is kept: 65,536 events at most. Tools never wait for who watches them.
    """

    def __init__(self, native: _native.Watch) -> None:
        self._native = native

    def fileno(self) -> int:
        """A descriptor that can be read from while events wait; never read it."""
        return self._native.fileno()

    def take(self) -> Event | None:
        """The next event, if one waits."""
        taken = self._native.take()
        return None if taken is None else Event(**taken)

    def __next__(self) -> Event:
        while True:
            event = self.take()
            if event is not None:
                return event
            if self._native.ended():
                raise StopIteration
            self._native.wait()

    async def __anext__(self) -> Event:
        while True:
            event = self.take()
            if event is not None:
                return event
            if self._native.ended():
                raise StopAsyncIteration
            await _wait.readable(self.fileno())


class Follow(Iterator[bytes], AsyncIterator[bytes]):
    """The bytes of a file while it is written, a block after the other; from `Scratch.follow`."""

    def __init__(self, native: _native.Follow) -> None:
        self._native = native

    def fileno(self) -> int:
        """A descriptor that can be read from while bytes wait; never read it."""
        return self._native.fileno()

    def take(self) -> bytes | None:
        """The bytes that there are, `b""` at the end, and None where more will come."""
        return self._native.take()

    def __next__(self) -> bytes:
        while True:
            block = self.take()
            if block:
                return block
            if block is not None:
                raise StopIteration
            self._native.wait()

    async def __anext__(self) -> bytes:
        while True:
            block = self.take()
            if block:
                return block
            if block is not None:
                raise StopAsyncIteration
            await _wait.readable(self.fileno())

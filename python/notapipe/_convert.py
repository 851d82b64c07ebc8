"""What callers write, made into what is kept: immutable, hashable, and plain."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, Iterable, Mapping, Sequence, Union

from . import _native

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, StrOrBytesPath

#: What the file of an input is made of; see `notapipe.run`.
Input = Union["ReadableBuffer", "os.PathLike[str]", BinaryIO, Callable[[], Union["ReadableBuffer", BinaryIO]]]
Inputs = Mapping[str, Input]

Names = Union[Iterable[str], Iterable["os.PathLike[str]"]]
Pairs = tuple[tuple[str, str], ...]


def arguments(args: Sequence[StrOrBytesPath]) -> tuple[str, ...]:
    if isinstance(args, (str, bytes)):
        raise TypeError(f'a step is a list of arguments, not {args!r}; for a shell, ["sh", "-c", {args!r}]')
    words = tuple(os.fsdecode(word) for word in args)
    if not words:
        raise ValueError("a step has no arguments: the first is its program")
    return words


def names(what: str, given: Names) -> tuple[str, ...]:
    if isinstance(given, (str, bytes)):
        raise TypeError(f"{what} is a list of names, not {given!r}")
    return tuple(os.fsdecode(name) for name in given)


def environment(given: Mapping[str, str] | None) -> Pairs | None:
    return None if given is None else tuple((os.fsdecode(name), os.fsdecode(value)) for name, value in _pairs(given))


def inputs(given: Inputs | None) -> tuple[tuple[str, Any], ...]:
    return tuple((os.fsdecode(name), _input(name, value)) for name, value in _pairs(given))


def _pairs(given: Any) -> Iterable[tuple[str, Any]]:
    """Of a mapping, or of what was made of one: the fields of a job make another job."""
    pairs: Iterable[tuple[str, Any]] = given.items() if isinstance(given, Mapping) else given or ()
    return pairs


def _input(name: str, value: Any) -> Any:
    if isinstance(value, str):
        raise TypeError(
            f"the input {name!r} is a str, which may be contents or a path: "
            "for contents give bytes (text.encode()), for a file of the host a pathlib.Path"
        )
    content = contents(value)
    if content is not None:
        return content
    if isinstance(value, os.PathLike) or hasattr(value, "read") or callable(value):
        return value
    raise TypeError(
        f"the input {name!r} is a {type(value).__name__}: give bytes, a pathlib.Path, a binary file object or a callable"
    )


def contents(value: Any) -> bytes | None:
    """The bytes of anything with the buffer protocol, copied only where it could change."""
    if isinstance(value, bytes):
        return value
    try:
        return memoryview(value).tobytes()
    except TypeError:
        return None


def stream(value: Any) -> Any:
    """Contents, a name in the job, a descriptor, or what has one."""
    return value if value is None or isinstance(value, (str, int)) else contents(value) or value


_SIZE = re.compile(r"(\d+)(?:([kmgt])(?:i?b)?|b)?", re.ASCII | re.IGNORECASE)


def size(what: str, given: int | str | None) -> int | None:
    """Bytes, or a count: a number, `"64M"`, `"2GiB"` (powers of 1024), or `"50%"` of the memory."""
    if given is None or isinstance(given, int):
        return given
    if given.endswith("%") and given[:-1].isdecimal() and 1 <= int(given[:-1]) <= 100:
        return _native.available_bytes() * int(given[:-1]) // 100
    matched = _SIZE.fullmatch(given)
    if matched is None:
        raise ValueError(f'{what}={given!r}: write whole bytes, or "64M", "2G", or a part of the memory, as "50%"')
    number, letter = matched.groups()
    return int(number) << 10 * " kmgt".index((letter or " ").lower())


def limits(given: Mapping[str, float | str] | None) -> tuple[tuple[str, float], ...]:
    return tuple((name, _limit(name, value)) for name, value in _pairs(given))


def _limit(name: str, value: float | str) -> float:
    number = size(f"limits[{name!r}]", value) if isinstance(value, str) else value
    if number is None or number < 0:
        raise ValueError(f"limits[{name!r}]={value!r}: give a number")
    return number

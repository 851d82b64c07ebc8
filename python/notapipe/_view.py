"""Bytes of the library's as a `memoryview`."""

from __future__ import annotations

import ctypes


def view(address: int, size: int, owner: object) -> memoryview:
    """The stable ABI of CPython 3.10 has no buffers of an extension's own: ctypes has."""
    array = (ctypes.c_ubyte * size).from_address(address)
    # A view holds the array, and that what keeps its memory.
    array._owner = owner  # type: ignore[attr-defined]
    return memoryview(array).cast("B").toreadonly()

"""Waiting for a descriptor in whichever event loop runs: asyncio's, uvloop's, or trio's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from ._native import RunningJob


async def readable(descriptor: int) -> None:
    """Waits until the descriptor is readable."""
    loop = _asyncio_loop()
    if loop is None:
        import trio

        await trio.lowlevel.wait_readable(descriptor)
        return
    ready = loop.create_future()
    loop.add_reader(descriptor, _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


async def ended(running: RunningJob) -> None:
    """Waits for the end of a job that was cancelled, whatever else is cancelled meanwhile."""
    if _asyncio_loop() is None:
        import trio

        with trio.CancelScope(shield=True):
            await readable(running.fileno())
        return
    import asyncio

    while not running.done():
        try:
            await readable(running.fileno())
        except asyncio.CancelledError:
            # The one that is being handled is raised when the job has ended.
            continue


def _asyncio_loop() -> asyncio.AbstractEventLoop | None:
    if "asyncio" not in sys.modules:
        return None
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None

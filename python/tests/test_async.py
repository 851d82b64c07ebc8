"""Jobs in event loops."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import Any, Callable, Coroutine

import pytest
import trio
import uvloop

import notapipe
from left import nothing_left

Runner = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
RUNNERS: list[Runner] = [
    lambda main: asyncio.run(main()),
    lambda main: uvloop.run(main()),
    lambda main: trio.run(main),
]
every_loop = pytest.mark.parametrize("loop", RUNNERS, ids=["asyncio", "uvloop", "trio"])


@every_loop
def test_a_job_is_awaited(loop: Runner) -> None:
    async def main() -> bytes:
        done = await notapipe.arun(["cat", "a"], inputs={"a": b"ceci"})
        return done.steps[0].stdout

    threads = threading.active_count()
    assert loop(main) == b"ceci"
    assert threading.active_count() == threads


@every_loop
def test_errors_are_those_of_run(loop: Runner) -> None:
    async def main() -> None:
        with pytest.raises(notapipe.StepFailed):
            await notapipe.arun(["false"])
        with pytest.raises(notapipe.TimeoutExpired):
            await notapipe.arun(["sleep", "600"], timeout=0.05)
        assert (await notapipe.arun(["false"], check=False)).returncode == 1

    loop(main)


@pytest.mark.parametrize("loop", RUNNERS[:2], ids=["asyncio", "uvloop"])
def test_jobs_run_beside_each_other(loop: Runner) -> None:
    async def main() -> list[bytes]:
        jobs = [notapipe.arun(["cat"], stdin=b"%d" % number) for number in range(20)]
        return [done.steps[0].stdout for done in await asyncio.gather(*jobs)]

    assert loop(main) == [b"%d" % number for number in range(20)]


def test_cancelling_at_any_moment_leaves_nothing() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        cancelled = 0
        # From before its thread has started to long after its steps have.
        for moment in range(100):
            task = loop.create_task(notapipe.arun(["sh", "-c", "sleep 600 & sleep 600"], inputs={"a": bytes(10_000)}))
            await asyncio.sleep(moment / 5000)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            cancelled += 1
        assert cancelled == 100

    with nothing_left():
        asyncio.run(main())


def test_cancelling_twice_still_waits_for_the_end() -> None:
    async def main() -> None:
        task = asyncio.ensure_future(notapipe.arun(["sleep", "600"]))
        await asyncio.sleep(0.05)
        for _ in range(5):
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task

    with nothing_left():
        asyncio.run(main())


def test_a_timeout_of_the_loop_ends_the_job() -> None:
    async def in_asyncio() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(notapipe.arun(["sleep", "600"]), 0.05)

    async def in_trio() -> None:
        with trio.move_on_after(0.05) as scope:
            await notapipe.arun(["sleep", "600"])
        assert scope.cancelled_caught

    with nothing_left():
        asyncio.run(in_asyncio())
        trio.run(in_trio)


def test_asyncio_is_not_imported_for_those_who_do_not_use_it() -> None:
    script = "import notapipe, sys; notapipe.run(['true']); print('asyncio' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert told.stdout == b"False\n"

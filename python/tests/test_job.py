"""Descriptions of jobs, and jobs that run beside the program."""

from __future__ import annotations

import pickle
import select
import threading
import time
from pathlib import Path

import pytest

import notapipe
from notapipe import Base, Job, Step, pipe


def everything() -> Job:
    return Job(
        ["sort", "a"],
        Step(["cat"], env={"A": "1"}, cwd="d", stdin=b"x", stdout="out", stderr="out"),
        pipe(["cat", "a"], ["wc"]),
        inputs={"a": b"ceci", "b": Path("/etc/passwd"), "c": bytearray(b"cela")},
        outputs=["out"],
        optional=["o"],
        collect=["*.gb"],
        changed=True,
        stdin=b"in",
        env={"B": "2"},
        timeout=10,
        kill_after=1,
        size="64M",
        inodes="10K",
        limits={"cpu": 5, "memory": "1G", "processes": 100, "files": 64},
        backing="tmpfs",
        report=True,
        check=False,
    )


def test_jobs_are_compared_hashed_pickled_and_replaced() -> None:
    job = everything()
    assert job == everything() and hash(job) == hash(everything())
    assert pickle.loads(pickle.dumps(job)) == job
    assert job.replace() == job
    assert job.size == 64 << 20 and job.inodes == 10 << 10 and dict(job.limits)["memory"] == 1 << 30
    other = job.replace(timeout=20)
    assert other != job and other.timeout == 20
    with pytest.raises(AttributeError):
        job.timeout = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        job.replace(apples=1)


def test_a_job_runs_again_and_again() -> None:
    job = Job(["cat", "a"], inputs={"a": b"ceci"})
    assert [job.run().steps[0].stdout for _ in range(3)] == [b"ceci"] * 3
    copy: Job = pickle.loads(pickle.dumps(job))
    assert copy.run().steps[0].stdout == b"ceci"


def test_a_started_job_is_polled_waited_for_and_selected() -> None:
    with Job(["cat"], stdin=b"ceci").start() as running:
        select.select([running], [], [])
        assert running.done()
        outcome = running.poll()
        assert outcome is not None and outcome.steps[0].stdout == b"ceci"
        assert running.wait() is outcome
    with Job(["sleep", "600"]).start() as running:
        assert running.poll() is None and not running.done()
        with pytest.raises(TimeoutError):
            running.wait(timeout=0.01)
        running.cancel()
        with pytest.raises(notapipe.Cancelled) as raised:
            running.wait()
        # It may be cancelled before its step has started.
        assert raised.value.outcome is None or all(it.ended_by == "interrupt" for it in raised.value.outcome.steps)
        with pytest.raises(notapipe.Cancelled):
            running.poll()


def test_leaving_the_block_ends_the_job() -> None:
    with Job(["sleep", "600"]).start() as running:
        pass
    assert running.done()
    with pytest.raises(notapipe.Cancelled):
        running.wait()


def test_dropping_a_job_that_reads_from_python_ends_it() -> None:
    reached = threading.Event()
    go_on = threading.Event()

    class Slow:
        def read(self, size: int = -1) -> bytes:
            reached.set()
            go_on.wait()
            return b""

    running = Job(["cat", "a"], inputs={"a": Slow()}).start()  # type: ignore[dict-item]
    reached.wait()
    # It joins a thread that needs the interpreter: it must not hold it.
    threading.Timer(0.05, go_on.set).start()
    del running


def test_a_failing_step_is_no_error_unless_checked() -> None:
    with Job(["false"], check=False).start() as running:
        assert running.wait().returncode == 1


def test_other_threads_run_while_a_job_does() -> None:
    counted = 0
    with Job(["sleep", "0.2"]).start() as running:
        while not running.done():
            counted += 1
    ticks: list[float] = []
    ended = threading.Event()

    def tick() -> None:
        while not ended.is_set():
            ticks.append(time.monotonic())

    thread = threading.Thread(target=tick)
    thread.start()
    notapipe.run(["sleep", "0.2"])
    ended.set()
    thread.join()
    assert counted > 10 and len(ticks) > 1000


def test_a_base_is_shared_and_does_not_change() -> None:
    base = Base({"inc/a": b"ceci", "host": Path("/etc/passwd")}, size="1M", inodes=100)
    assert base.inodes == 4 and base.bytes >= 4096
    for _ in range(2):
        done = notapipe.run(["sh", "-c", "cat inc/a; echo changed > inc/a"], base=base)
        assert done.steps[0].stdout == b"ceci"
        assert done.usage.limit_bytes == 1 << 20
    assert notapipe.run(["cat", "inc/a"], base=base, inputs={"inc/a": b"mine"}).steps[0].stdout == b"mine"
    with pytest.raises(TypeError, match="staged at once"):
        Base({"a": lambda: b""})
    with pytest.raises(notapipe.LimitReached):
        Base({"a": bytes(10_000)}, size=4096)


def test_a_base_is_pickled_by_its_content_and_staged_once(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"ceci")
    base = Base({"file": file})
    pickled = pickle.dumps(Job(["cat", "file"], base=base))
    file.unlink()
    assert pickle.loads(pickled).base is base
    del base
    first, second = pickle.loads(pickled), pickle.loads(pickled)
    assert first == second and first.base is second.base
    assert first.run().steps[0].stdout == b"ceci"

"""Signals, forks, other interpreters, and their ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import notapipe
from left import eventually, nothing_left
from notapipe import Base, Job

def python(script: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-X", "dev", "-c", script]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def processes_with(mark: str) -> list[str]:
    """Those that carry it in their environment."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdecimal() and mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_ctrl_c_ends_the_job_and_raises() -> None:
    mark = f"NOTAPIPE_TEST={time.monotonic_ns()}"
    script = f"""
import notapipe, os, threading, signal
os.environ.update([{mark.split("=")!r}])
timer = threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
timer.start()
try:
    notapipe.run(["sh", "-c", "sleep 600 & sleep 600"])
except KeyboardInterrupt:
    print("interrupted")
timer.join()
"""
    with python(script) as program:
        out, err = program.communicate()
    assert (out, err) == ("interrupted\n", "")
    assert processes_with(mark) == []


def test_signal_handlers_of_the_program_run_while_a_job_does() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _frame: seen.append(number))
    try:
        notapipe.run(["sh", "-c", f"kill -USR1 {os.getpid()} 2>/dev/null || true; sleep 0.05"])
        with Job(["sleep", "0.2"]).start() as running:
            os.kill(os.getpid(), signal.SIGUSR1)
            running.wait()
        assert seen
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGUSR1, before)


def sort(words: bytes) -> bytes:
    return notapipe.run(["sort", "words", "-o", "sorted"], inputs={"words": words}, outputs=["sorted"]).outputs["sorted"]


def run(job: Job) -> bytes:
    return job.run().steps[0].stdout


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_pools_of_processes(method: str) -> None:
    notapipe.run(["true"])
    base = Base({"inc/a": b"ceci"})
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(sort, [b"b\na\n", b"d\nc\n"] * 4) == [b"a\nb\n", b"c\nd\n"] * 4
        assert pool.map(run, [Job(["cat", "inc/a"], base=base)] * 4) == [b"ceci"] * 4
        pool.close()
        pool.join()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_leaves_its_parents_jobs_alone() -> None:
    def in_the_child(running: notapipe.RunningJob, scratch: notapipe.Scratch, events: notapipe.Watch) -> bool:
        for method in (running.wait, running.cancel, lambda: scratch.read("word"), events.take):
            with pytest.raises(RuntimeError, match="forked"):
                method()
        del running, events
        scratch.close()
        # It can have jobs of its own.
        return sort(b"b\na\n") == b"a\nb\n"

    def in_the_parent() -> None:
        with notapipe.Scratch() as scratch, Job(["sh", "-c", "sleep 0.3; echo done"]).start() as running:
            events = scratch.watch()
            scratch.write("word", b"ceci")
            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    os._exit(0 if in_the_child(running, scratch, events) else 1)
                os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert running.wait().steps[0].stdout == b"done\n"
            assert scratch.read("word") == (scratch.path / "word").read_bytes() == b"ceci"
            assert next(events).kind == "created"

    with nothing_left():
        in_the_parent()


def test_jobs_in_many_threads_end_with_them() -> None:
    from concurrent.futures import ThreadPoolExecutor

    with nothing_left():
        with ThreadPoolExecutor(16) as pool:
            words = [b"%d\n" % number for number in range(1000)]
            assert list(pool.map(sort, words)) == words


def test_memory_does_not_grow() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def jobs(count: int) -> None:
        for _ in range(count):
            notapipe.run(["true"], inputs={"a": bytes(1_000_000)}, outputs=["a"]).outputs

    jobs(300)
    before = resident()
    jobs(3000)
    # Less than a job's input for every hundred of them.
    assert resident() - before < 20_000_000


def test_kill_9_leaves_nothing() -> None:
    script = """
import sys, threading
import notapipe

heap = bytearray(64 << 20)
threading.Thread(target=threading.Event().wait, daemon=True).start()
print("begins", flush=True)
notapipe.run(["sh", "-c", "setsid sleep 600 & sleep 600"], inputs={"a": bytes(100_000)})
"""
    # From before the first system call of the job to long after its steps have started.
    for moment in range(50):
        mark = f"NOTAPIPE_TEST={time.monotonic_ns()}"
        variables = {**os.environ, "NOTAPIPE_TEST": mark.split("=")[1]}
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=variables) as program:
            assert program.stdout is not None and program.stdout.readline() == b"begins\n"
            time.sleep(moment / 1000)
            program.kill()
        eventually(lambda: processes_with(mark) == [], lambda: (moment, processes_with(mark)))

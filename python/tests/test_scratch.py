"""`notapipe.Scratch`, its events, and the fixture for pytest."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import trio

import notapipe
from left import eventually, nothing_left
from notapipe import Event, Scratch


def test_other_processes_use_it_by_its_path() -> None:
    with nothing_left():
        with Scratch(size="64M") as scratch:
            scratch.write("d/word", bytearray(b"ceci"))
            told = subprocess.run(["cat", scratch.path / "d" / "word"], capture_output=True, check=True)
            assert told.stdout == b"ceci" == scratch.read(Path("d/word"))
            (scratch.path / "made").write_bytes(b"cela")
            assert scratch.read("made") == b"cela"
            assert scratch.listdir() == ["d", "made"] and scratch.listdir("d") == ["word"]
            assert os.fspath(scratch) == os.fspath(scratch.path) and str(scratch.path) in repr(scratch)
            assert scratch.path.stat().st_mode & 0o777 == 0o700
        assert not scratch.path.exists()
        scratch.close()
        with pytest.raises(ValueError, match="closed"):
            scratch.read("made")


def test_files_of_it_are_files() -> None:
    with Scratch() as scratch:
        with scratch.open("text", "w", encoding="utf-8") as file:
            print("ceci", file=file)
        with scratch.open("text", "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            mapped[0:1] = b"C"
            assert scratch.read("text") == b"Ceci\n"


def test_commands_run_as_by_subprocess() -> None:
    with Scratch() as scratch:
        scratch.write("d/in", b"b\na\n")
        assert scratch.run(["sort", "in"], cwd="d", stdout=subprocess.PIPE).stdout == b"a\nb\n"
        assert scratch.run("cat; exit 3", shell=True, input="x", text=True, capture_output=True).returncode == 3
        with pytest.raises(subprocess.TimeoutExpired):
            scratch.run(["sleep", "600"], timeout=0.05)


def test_limits() -> None:
    with Scratch(size=8192, inodes=3) as scratch:
        with pytest.raises(notapipe.LimitReached, match="size="):
            scratch.write("large", bytes(10_000))
        with pytest.raises(notapipe.FileMissing):
            scratch.read("none")
        scratch.write("small", bytes(4096))
        with pytest.raises(OSError):
            (scratch.path / "a").mkdir()
            (scratch.path / "b").mkdir()
    with pytest.raises(TypeError, match="give bytes"):
        scratch.write("text", "ceci")  # type: ignore[arg-type]


def test_a_file_that_is_still_open_outlives_it() -> None:
    with nothing_left():
        with Scratch() as scratch:
            scratch.write("word", b"ceci")
            file = scratch.open("word", "rb")
        assert not scratch.path.exists()
        file.close()


def test_it_goes_when_it_is_collected() -> None:
    scratch = Scratch()
    path = scratch.path
    del scratch
    gc.collect()
    eventually(lambda: not path.exists())


def test_it_goes_when_the_interpreter_ends() -> None:
    script = "import notapipe; scratch = notapipe.Scratch(); print(scratch.path)"
    told = subprocess.run([sys.executable, "-X", "dev", "-c", script], capture_output=True, check=True, text=True)
    assert told.stderr == ""
    eventually(lambda: not Path(told.stdout.strip()).exists())


def test_events_are_told_in_order() -> None:
    with Scratch() as scratch:
        events = scratch.watch()
        assert events.take() is None
        scratch.run(["sh", "-c", "printf abc > a; mv a b; : > b; rm b"], check=True)
    told = [(event.kind, event.path) for event in events]
    assert told == [
        ("created", "a"),
        ("opened", "a"),
        ("written", "a"),
        ("closed", "a"),
        ("renamed", "b"),
        ("opened", "b"),
        ("truncated", "b"),
        ("closed", "b"),
        ("removed", "b"),
    ] or told[5:7] == [("truncated", "b"), ("opened", "b")]
    assert list(events) == []


def test_events_have_what_belongs_to_them() -> None:
    with Scratch() as scratch:
        scratch.write("old", b"ceci")
        events = scratch.watch()
        scratch.run(["sh", "-c", "printf abc >> old; mv old new; truncate -s 2 new; cat new > /dev/null"], check=True)
    told = list(events)
    assert Event("written", "old", span=range(4, 7)) in told
    assert Event("renamed", "new", source="old") in told
    assert Event("truncated", "new", size=2) in told
    assert Event("opened", "new", writable=False) in told


def test_waiting_for_an_event_does_not_hold_the_interpreter() -> None:
    with Scratch() as scratch:
        events = scratch.watch("later")
        timer = threading.Timer(0.05, scratch.write, ("later", b"x"))
        timer.start()
        assert next(events).path == "later"
        timer.join()


def test_events_and_bytes_in_asyncio() -> None:
    async def main() -> tuple[list[str], bytes]:
        with Scratch() as scratch:
            events, log = scratch.watch("log"), scratch.follow("log")
            tool = await asyncio.create_subprocess_shell(
                "exec > log; for n in 1 2 3; do echo $n; sleep 0.01; done", cwd=scratch.path
            )
            read = b"".join([block async for block in log])
            await tool.wait()
        return [event.kind async for event in events], read

    kinds, read = asyncio.run(main())
    assert read == b"1\n2\n3\n"
    assert kinds[:2] == ["created", "opened"] and kinds[-1] == "closed" and "written" in kinds


def test_events_in_trio() -> None:
    async def main() -> str:
        with Scratch() as scratch:
            events = scratch.watch()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, scratch.write, "made", b"")
                return (await events.__anext__()).path

    assert trio.run(main) == "made"


def test_a_file_is_followed_as_it_grows() -> None:
    with Scratch() as scratch:
        log = scratch.follow("log")
        assert log.take() is None
        with scratch.open("log", "wb", buffering=0) as file:
            file.write(b"one")
            assert next(log) == b"one"
            file.write(b"two")
            assert next(log) == b"two"
            assert log.take() is None
        # The last close is told a moment later.
        assert list(log) == [] and log.take() == b""
        unfinished = scratch.follow("never")
    with pytest.raises(ConnectionError):
        next(unfinished)


def test_the_fixture_is_a_directory_in_ram(ram_path: Path) -> None:
    (ram_path / "word").write_text("ceci")
    assert subprocess.run(["cat", "word"], cwd=ram_path, capture_output=True, check=True).stdout == b"ceci"
    assert str(ram_path) in Path("/proc/self/mounts").read_text()


def test_the_fixture_goes_with_its_test(tmp_path: Path) -> None:
    test = tmp_path / "test_it.py"
    test.write_text("def test_it(ram_path): print(ram_path, file=open('path', 'w'))\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert not Path((tmp_path / "path").read_text().strip()).exists()

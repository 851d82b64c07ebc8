#!/usr/bin/env python3
"""A job against the same function with `tempfile.TemporaryDirectory(dir="/dev/shm")` and `subprocess.run`.

    PATH="$(scripts/install-rgbds.sh):$PATH" python scripts/python-bench.py [ROUNDS]

Each round takes all of them in turn, so that what else the machine does touches all alike. The ratio is that of the medians,
and in brackets the least and the most of the rounds'. It wants the release build: `pip install ./python`.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Callable

import notapipe

SOURCES = Path(__file__).parents[1] / "examples" / "gameboy" / "simple"
INPUTS = {name: (SOURCES / name).read_bytes() for name in ("A.asm", "B.asm")}
STEPS = [
    ["rgbasm", "A.asm", "-o", "A.o"],
    ["rgbasm", "B.asm", "-o", "B.o"],
    ["rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym"],
]
OUTPUTS = ["A.gb", "A.map", "A.sym"]
LARGE = {"large": bytes(256 << 20)}

Function = Callable[[], dict[str, bytes]]


def by_tempfile(steps: list[list[str]], inputs: dict[str, bytes], outputs: list[str]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        for name, content in inputs.items():
            Path(directory, name).write_bytes(content)
        for step in steps:
            subprocess.run(step, cwd=directory, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        return {name: Path(directory, name).read_bytes() for name in outputs}


def by_job(backing: str, steps: list[list[str]], inputs: dict[str, bytes], outputs: list[str]) -> dict[str, bytes]:
    return notapipe.run(*steps, inputs=inputs, outputs=outputs, backing=backing).outputs


def seconds(function: Function, threads: int, calls: int) -> float:
    began = time.perf_counter()
    if threads == 1:
        for _ in range(calls):
            function()
    else:
        with ThreadPoolExecutor(threads) as pool:
            for done in [pool.submit(function) for _ in range(calls)]:
                done.result()
    return (time.perf_counter() - began) / calls


def compare(what: str, rounds: int, threads: int, calls: int, *job: object) -> None:
    ways: dict[str, Function] = {
        "tempfile": lambda: by_tempfile(*job),  # type: ignore[arg-type]
        "fuse": lambda: by_job("fuse", *job),  # type: ignore[arg-type]
        "tmpfs": lambda: by_job("tmpfs", *job),  # type: ignore[arg-type]
    }
    expected = ways["tempfile"]()
    for function in ways.values():
        assert function() == expected
    taken: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, function in ways.items():
            taken[way].append(seconds(function, threads, calls))
    columns = [f"{statistics.median(taken['tempfile']) * 1e3:.2f} ms"]
    for way in ("fuse", "tmpfs"):
        ratios = [one / other for one, other in zip(taken[way], taken["tempfile"])]
        ratio = statistics.median(taken[way]) / statistics.median(taken["tempfile"])
        columns.append(f"{statistics.median(taken[way]) * 1e3:.2f} ms, {ratio:.2f} ({min(ratios):.2f}–{max(ratios):.2f})")
    print(f"| {what} | {' | '.join(columns)} |", flush=True)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    print("| function | tempfile | FUSE, ratio | tmpfs, ratio |\n| --- | --- | --- | --- |")
    for threads in (1, 8):
        each = f"{threads} thread{'s' * (threads > 1)}"
        compare(f"`true`, {each}", rounds, threads, 100, [["true"]], {}, [])
        compare(f"the Game Boy job, {each}", rounds, threads, 40, STEPS, INPUTS, OUTPUTS)
    compare("256 MiB in and out", min(rounds, 5), 1, 1, [["mv", "large", "out"]], LARGE, ["out"])
    compare("256 MiB in, and written by `cp`", min(rounds, 5), 1, 1, [["cp", "large", "out"]], LARGE, ["out"])


if __name__ == "__main__":
    main()

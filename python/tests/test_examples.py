"""The programs of `examples/python`, as they stand."""

from __future__ import annotations

import asyncio
import http.client
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Iterator

import httpx
import pytest
import uvicorn

import dialogue
import events
import gameboy
import output_only_to_a_file
import pipeline
import service
from left import children, eventually, nothing_left

EXAMPLES = Path(service.__file__).parent
SOURCES = [(EXAMPLES.parent / "gameboy" / "simple" / name).read_bytes() for name in ("A.asm", "B.asm")]
#: It assembles for hours.
ENDLESS = b"REPT $7fffffff\nENDR\n"
ALONE = b'SECTION "start", ROM0[$100]\n nop\n jp $100\n'


def test_the_game_boy_program_is_that_of_a_directory(tmp_path: Path) -> None:
    made = gameboy.assemble(*SOURCES)
    for name, source in zip(("A", "B"), SOURCES):
        (tmp_path / f"{name}.asm").write_bytes(source)
        subprocess.run(["rgbasm", f"{name}.asm", "-o", f"{name}.o"], cwd=tmp_path, check=True)
    link = ["rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym"]
    subprocess.run(link, cwd=tmp_path, check=True)
    assert made == {name: (tmp_path / name).read_bytes() for name in ("A.gb", "A.map", "A.sym")}


def test_a_tool_that_writes_only_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_left():
        output_only_to_a_file.main()
    assert capsys.readouterr().out == "200 calls, each with its own answer\n"


def test_dialogues(capsys: pytest.CaptureFixture[str]) -> None:
    with nothing_left():
        dialogue.main()
    assert capsys.readouterr().out.splitlines() == [
        "Is it a file? Yes.",
        "Can one seek in it? Yes.",
        "the program says no more",
        "hello from the other side",
    ]


@pytest.mark.parametrize("size", [1, 65_536, 1_000_000])
def test_no_dialogue_deadlocks_at_any_size(size: int) -> None:
    with dialogue.Dialogue(["cat"], deadline=60) as cat:
        # Both sides write more than a pipe holds before one reads.
        for _ in range(3):
            cat.say(b"x" * size)
        assert [len(cat.hear()) for _ in range(3)] == [size] * 3


def test_pipelines() -> None:
    assert pipeline.names_with("pipe", {"pipe": b"", "file": b""}) == ["pipe"]
    assert pipeline.names_with("none", {"pipe": b"", "file": b""}) == []
    pipeline.main()


def test_events() -> None:
    told = asyncio.run(events.main())
    for name in ("north", "east", "west"):
        of_this = [line.removeprefix(f"{name}: ") for line in told if line.startswith(name)]
        assert (of_this[0], of_this[-1]) == ("opened", "closed")
        received = [line for line in of_this if line.startswith("received")]
        assert "".join(char for char in "".join(received) if char.isdecimal()) == "123"


def test_every_example_is_a_program() -> None:
    for example in ("output_only_to_a_file", "dialogue", "pipeline", "events"):
        subprocess.run([sys.executable, "-X", "dev", "-W", "error", EXAMPLES / f"{example}.py"], check=True, capture_output=True)
    sources = [EXAMPLES.parent / "gameboy" / "simple" / name for name in ("A.asm", "B.asm")]
    told = subprocess.run([sys.executable, EXAMPLES / "gameboy.py", *sources], check=True, capture_output=True)
    assert told.stdout == b"A.gb: 16384 bytes\n"


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """Of a server that serves the example."""
    config = uvicorn.Config(service.app, port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    eventually(lambda: server.started)
    host, port = server.servers[0].sockets[0].getsockname()
    with httpx.Client(base_url=f"http://{host}:{port}", timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join()


def test_a_source_becomes_a_rom(client: httpx.Client) -> None:
    answer = client.post("/rom", content=ALONE)
    assert answer.status_code == 200 and len(answer.content) == 16_384


def test_errors_are_statuses(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = client.post("/rom", content=b"nonsense\n")
    assert wrong.status_code == 422 and "A.asm" in wrong.text
    assert client.post("/rom", content=bytes(service.MOST_SOURCE_BYTES + 1)).status_code == 413
    monkeypatch.setattr(service, "TIMEOUT_SECONDS", 0.2)
    late = client.post("/rom", content=ENDLESS)
    assert late.status_code == 504 and "took longer than" in late.text


def test_a_client_that_goes_takes_its_job_along(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TIMEOUT_SECONDS", 600.0)
    before = len(children())
    connection = http.client.HTTPConnection(client.base_url.host, client.base_url.port)
    connection.request("POST", "/rom", ENDLESS)
    eventually(lambda: len(children()) > before)
    assert connection.sock is not None
    connection.sock.shutdown(socket.SHUT_RDWR)
    connection.close()
    eventually(lambda: len(children()) <= before)

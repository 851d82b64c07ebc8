"""An asyncio program that reacts while a tool writes a file: opened, received, closed, as a `Protocol` of asyncio.

A named pipe needs an `open` that blocks until the tool comes, in a thread for each; inotify tells that something was
written and not what, and a reader that looks again and again is late or busy. Here an event is a descriptor in the loop.
"""

from __future__ import annotations

import asyncio
from typing import Callable

import notapipe


class FileTransport(asyncio.ReadTransport):
    """What a protocol is told of its file."""


async def receive(scratch: notapipe.Scratch, name: str, made: Callable[[], asyncio.Protocol]) -> None:
    """Hands to a protocol what a tool writes to a file of this name, from its opening to its end."""
    events, content = scratch.watch(name), scratch.follow(name)
    async for event in events:
        if event.kind == "opened" and event.writable:
            break
    protocol = made()
    protocol.connection_made(FileTransport(extra={"name": name}))
    async for block in content:
        protocol.data_received(block)
    protocol.connection_lost(None)


class Telling(asyncio.Protocol):
    """Tells what it is told."""

    def __init__(self, told: list[str]) -> None:
        self.told = told
        self.name = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.name = transport.get_extra_info("name")
        self.told.append(f"{self.name}: opened")

    def data_received(self, data: bytes) -> None:
        self.told.append(f"{self.name}: received {data.decode().split()}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.told.append(f"{self.name}: closed")


async def main(names: tuple[str, ...] = ("north", "east", "west")) -> list[str]:
    told: list[str] = []
    with notapipe.Scratch() as scratch:
        receivers = [asyncio.create_task(receive(scratch, name, lambda: Telling(told))) for name in names]
        await asyncio.sleep(0)
        script = 'for name; do { for n in 1 2 3; do echo $n; sleep 0.02; done > "$name"; } & done; wait'
        tools = await asyncio.create_subprocess_exec("sh", "-c", script, "sh", *names, cwd=scratch.path)
        await asyncio.gather(tools.wait(), *receivers)
    return told


if __name__ == "__main__":
    print(*asyncio.run(main()), sep="\n")

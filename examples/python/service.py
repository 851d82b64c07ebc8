"""An assembler as a web service: a source in, a ROM out.

    $ uvicorn service:app
    $ curl --data-binary @../gameboy/simple/A.asm --output A.gb http://127.0.0.1:8000/rom

Nothing of a request touches a disk: the source is the request's body (a form's files would be spooled to one), the tools
see files in RAM, and the ROM is the response. What a client can do wrong comes back as a status, and a client that goes
takes its tools with it.
"""

from __future__ import annotations

import asyncio
from typing import Awaitable, Callable

import notapipe
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse

app = FastAPI()

#: What one request may cost.
TIMEOUT_SECONDS = 10.0
MOST_SOURCE_BYTES = 1 << 20
#: How many may run at once: each has three threads and some descriptors, and its tools.
slots = asyncio.Semaphore(8)

#: How a failed job is told to a client, the first that fits.
STATUSES: list[tuple[type[notapipe.NotapipeError], int]] = [
    (notapipe.StepFailed, 422),
    (notapipe.LimitReached, 413),
    (notapipe.OutputMissing, 422),
    (notapipe.TimeoutExpired, 504),
    (notapipe.Unavailable, 503),
]


@app.post("/rom")
async def rom(request: Request) -> Response:
    source = bytearray()
    async for block in request.stream():
        source += block
        if len(source) > MOST_SOURCE_BYTES:
            return PlainTextResponse(f"a source has at most {MOST_SOURCE_BYTES} bytes", 413)
    job = notapipe.Job(
        ["rgbasm", "A.asm", "-o", "A.o"],
        ["rgblink", "A.o", "-o", "A.gb"],
        inputs={"A.asm": source},
        outputs=["A.gb"],
        timeout=TIMEOUT_SECONDS,
        size="64M",
        limits={"processes": 16, "memory": "1G"},
    )
    async with slots:
        done = await unless_gone(request, job.arun)
    return Response(done.outputs["A.gb"], media_type="application/octet-stream")


async def unless_gone(request: Request, work: Callable[[], Awaitable[notapipe.Outcome]]) -> notapipe.Outcome:
    """Does it as long as the client is there."""
    working = asyncio.ensure_future(work())

    async def end_with_the_client() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        working.cancel()

    watching = asyncio.create_task(end_with_the_client())
    try:
        return await working
    except asyncio.CancelledError:
        if watching.done():
            raise HTTPException(499, "the client has gone") from None
        raise
    finally:
        watching.cancel()
        working.cancel()


@app.exception_handler(notapipe.NotapipeError)
async def told(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in STATUSES if isinstance(error, kind)), 500)
    # A tool's own words are the best there are.
    said = error.stderr if isinstance(error, notapipe.StepFailed) else None
    return PlainTextResponse(said or str(error), status)

"""Assembles and links a Game Boy program: one source in, three files out.

With named pipes this stands still: `rgbasm` waits for a reader of `A.o` where nobody reads yet, and `rgblink`, which reads
its objects twice and writes three files in an order of its own, meets a pipe that cannot be sought, or a reader that waits
for another of the three. With temporary files it works, until a crash leaves them, or two calls take one name.

    $ python gameboy.py ../gameboy/simple/A.asm ../gameboy/simple/B.asm
    A.gb: 16384 bytes
"""

from __future__ import annotations

import sys
from pathlib import Path

import notapipe


def assemble(main: bytes, library: bytes) -> dict[str, bytes]:
    """The ROM, the map and the symbols of a program of two sources."""
    done = notapipe.run(
        ["rgbasm", "A.asm", "-o", "A.o"],
        ["rgbasm", "B.asm", "-o", "B.o"],
        ["rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym"],
        inputs={"A.asm": main, "B.asm": library},
        outputs=["A.gb", "A.map", "A.sym"],
        timeout=60,
    )
    return done.outputs


if __name__ == "__main__":
    try:
        made = assemble(*(Path(source).read_bytes() for source in sys.argv[1:3]))
    except notapipe.StepFailed as failed:
        sys.exit(str(failed))
    print(f"A.gb: {len(made['A.gb'])} bytes")

#!/usr/bin/env python3
"""Writes a Game Boy project of many small files, for measuring real builds.

    scripts/generate-project.py DIR --files 2000
    make -C DIR -j2

The project is shaped as real ones are: modules that include common definitions
and embed data, pictures that are converted by rgbgfx, dependency files, one link
with a map and symbols, and rgbfix patching the result in place. The program runs:
it visits each module, adds up the bytes of what the module embeds in `wSum`, and
sets `wDone`. What a build made can therefore be judged by more than its checksum.

The same arguments give the same bytes, on any machine and with any Python 3.
"""

import argparse
import hashlib
import struct
import sys
import zlib
from pathlib import Path

# Of all files: what real projects look like, roughly. The rest is data.
MODULES_SHARE = 0.30
PICTURES_SHARE = 0.15
INCLUDES_SHARE = 0.05

# Makefile, src/main.asm, inc/hardware.inc and inc/macros.inc.
FIXED_FILES = 4
MODULES_PER_GROUP = 25

# The program switches banks with one byte: 255 banks of 16 KiB, of which this is
# kept for data, with room for code, pictures and the ends of banks.
DATA_BUDGET_BYTES = 2_000_000
DATA_AVERAGE_BYTES = 384
# What 30 modules in 100 files, their pictures and their data take in 255 banks.
MOST_FILES = 8_000

WORDS = (
    "pipe file byte tile bank screen sprite sound window map link section label "
    "value stack timer cartridge battery button joypad scroll palette shade line"
).split()


class Stream:
    """Numbers and bytes that depend on the seed and a name alone.

    Python's `random` promises the same sequence across versions for few of its
    methods; a hash does for all time. Each file has a stream of its own, so that a
    change to how one kind is written leaves the others as they were.
    """

    def __init__(self, seed, name):
        self._seed = f"{seed}:{name}".encode()
        self._bytes = b""
        self._used = 0

    def bytes(self, count):
        end = self._used + count
        if end > len(self._bytes):
            # The output of SHAKE is a prefix of any longer one.
            self._bytes = hashlib.shake_128(self._seed).digest(2 * end + 256)
        chunk = self._bytes[self._used : end]
        self._used = end
        return chunk

    def below(self, bound):
        return int.from_bytes(self.bytes(4), "big") % bound

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def choice(self, options):
        return options[self.below(len(options))]


HARDWARE_INC = """\
; The few registers and places of the Game Boy that this program uses.

IF !DEF(HARDWARE_INC)
DEF HARDWARE_INC EQU 1

DEF rROMB0 EQU $2000  ; MBC5: the low byte of the bank at $4000
DEF rIE    EQU $ffff  ; which interrupts may come

DEF STACK_TOP EQU $e000

ENDC
"""

MACROS_INC = """\
; What every module is made of.

IF !DEF(MACROS_INC)
DEF MACROS_INC EQU 1

; next_module LABEL: the head of a module, where the walk goes on.
MACRO next_module
    db BANK(\\1)
    dw \\1
ENDM

; last_module: the head of the module that ends the walk.
MACRO last_module
    db 0
    dw 0
ENDM

; add_block LABEL: adds the bytes of LABEL ... LABEL.end to wSum.
MACRO add_block
    ld hl, \\1
    ld bc, \\1.end - \\1
    call AddBytes
ENDM

ENDC
"""

MAIN_ASM = """\
; Walks through all modules, bank by bank.

INCLUDE "inc/hardware.inc"
INCLUDE "inc/macros.inc"

DEF MODULE_HEAD_BYTES EQU 3

SECTION "Header", ROM0[$100]
EntryPoint::
    nop
    jp Main
    ds $150 - @, 0

SECTION "Main", ROM0
Main::
    di
    ld sp, STACK_TOP
    xor a
    ldh [rIE], a
    ld [wSum], a
    ld [wSum + 1], a
    ld [wDone], a
    ld b, BANK(Module0000)
    ld hl, Module0000
VisitModule::
    ld a, b
    ld [rROMB0], a
    ld a, [hl+]
    ld b, a
    ld a, [hl+]
    ld e, a
    ld a, [hl+]
    ld d, a
    push bc
    push de
    call CallAtHL
    pop hl
    pop bc
    ld a, b
    and a
    jr nz, VisitModule
    inc a
    ld [wDone], a
Sleep::
    halt
    nop
    jr Sleep

CallAtHL:
    jp hl

; Adds bc bytes (at least one) from hl on to wSum. Changes all registers.
AddBytes::
    ld a, [wSum]
    ld e, a
    ld a, [wSum + 1]
    ld d, a
.byte
    ld a, [hl+]
    add e
    ld e, a
    jr nc, .no_carry
    inc d
.no_carry
    dec bc
    ld a, b
    or c
    jr nz, .byte
    ld a, e
    ld [wSum], a
    ld a, d
    ld [wSum + 1], a
    ret

SECTION "Variables", WRAM0
; The low 16 bits of the sum of all embedded bytes, low byte first.
wSum:: ds 2
; 1 when all modules have been visited.
wDone:: ds 1
"""

MAKEFILE = """\
# Builds game.gb, game.map and game.sym. Everything else that is made goes to obj.

RGBASM  ?= rgbasm
RGBLINK ?= rgblink
RGBFIX  ?= rgbfix
RGBGFX  ?= rgbgfx

SOURCES  := $(sort $(wildcard src/*.asm src/*/*.asm))
PICTURES := $(sort $(wildcard gfx/*/*.png))
OBJECTS  := $(SOURCES:src/%.asm=obj/src/%.o)
TILES    := $(PICTURES:gfx/%.png=obj/gfx/%.2bpp)

.SECONDEXPANSION:
.DELETE_ON_ERROR:
.PHONY: all clean tiles
# Only patterns name the directories, and make would remove them as intermediate.
.PRECIOUS: obj/%/

all: game.gb

game.gb: $(OBJECTS)
\t$(RGBLINK) -o $@ -m game.map -n game.sym $(OBJECTS)
\t$(RGBFIX) -v -p 0xff -m MBC5 -t GENERATED $@

# Modules embed tiles, and which ones is known only after the first assembly: all
# tiles come first. Later builds go by the dependency files.
obj/src/%.o: src/%.asm | tiles $$(@D)/
\t$(RGBASM) -M $(@:.o=.d) -MP -o $@ $<

obj/gfx/%.2bpp: gfx/%.png | $$(@D)/
\t$(RGBGFX) -o $@ $<

tiles: $(TILES)

obj/%/:
\tmkdir -p $@

clean:
\trm -rf obj game.gb game.map game.sym

-include $(OBJECTS:.o=.d)
"""


def share_out(files):
    """How many modules, pictures, constant includes and data files make `files`."""
    rest = files - FIXED_FILES
    modules = max(1, int(rest * MODULES_SHARE))
    pictures = max(1, int(rest * PICTURES_SHARE))
    # Two of the includes are fixed ones.
    includes = max(1, int(rest * INCLUDES_SHARE) - 2)
    return modules, pictures, includes, rest - modules - pictures - includes


def group(module):
    return f"g{module // MODULES_PER_GROUP:02}"


def constants(seed, number):
    """An include of constants, as `inc/constants/cNNN.inc`."""
    stream = Stream(seed, f"constants {number}")
    lines = [
        f"; Constants, part {number}.",
        "",
        f"IF !DEF(CONSTANTS_{number:03})",
        f"DEF CONSTANTS_{number:03} EQU 1",
        "",
    ]
    for index in range(16):
        lines.append(f"DEF {constant_name(number, index)} EQU {stream.below(256)}")
    return "\n".join([*lines, "", "ENDC", ""]).encode()


def constant_name(number, index):
    return f"C{number:03}_{WORDS[index].upper()}"


def data(seed, number, average):
    """A data file's bytes: two of three binary, the third text."""
    stream = Stream(seed, f"data {number}")
    size = stream.between(16, 2 * average - 16)
    if number % 3 != 2:
        return stream.bytes(size)
    text = ""
    while len(text) < size:
        text += " ".join(stream.choice(WORDS) for _ in range(10)) + "\n"
    return text.encode()


def picture(seed, number):
    """A PNG of 4 shades, 4 to 64 tiles of 8 x 8 pixels."""
    stream = Stream(seed, f"picture {number}")
    columns, rows = stream.between(2, 8), stream.between(2, 8)
    # A few distinct tiles each, as drawn pictures have. The first shows all four
    # shades, or rgbgfx would number fewer of them differently.
    tiles = [bytes([0b00011011] * 16)]
    tiles += [stream.bytes(16) for _ in range(7)]
    raw = bytearray()
    for row in range(rows):
        chosen = [stream.choice(tiles) for _ in range(columns)]
        if row == 0:
            chosen[0] = tiles[0]
        for line in range(8):
            raw.append(0)  # no filter on this line
            for tile in chosen:
                raw += tile[2 * line : 2 * line + 2]
    header = struct.pack(">IIBBBBB", 8 * columns, 8 * rows, 2, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", stored(bytes(raw)))
        + png_chunk(b"IEND", b"")
    )


def png_chunk(kind, body):
    return (
        struct.pack(">I", len(body))
        + kind
        + body
        + struct.pack(">I", zlib.crc32(kind + body))
    )


def stored(raw):
    """`raw` as a zlib stream of one uncompressed block.

    What `zlib.compress` gives differs between versions of zlib.
    """
    assert len(raw) < 1 << 16
    return (
        b"\x78\x01\x01"
        + struct.pack("<HH", len(raw), len(raw) ^ 0xFFFF)
        + raw
        + struct.pack(">I", zlib.adler32(raw))
    )


def module(seed, number, modules, includes, blocks):
    """A module's source; `blocks` are the paths of what it embeds."""
    stream = Stream(seed, f"module {number}")
    name = f"Module{number:04}"
    # In turn, so that every include has its users, and one more at random.
    parts = sorted({number % includes, (7 * number + 3) % includes, stream.below(includes)})
    lines = [
        f"; Module {number}.",
        "",
        'INCLUDE "inc/hardware.inc"',
        'INCLUDE "inc/macros.inc"',
        *(f'INCLUDE "inc/constants/c{part:03}.inc"' for part in parts),
        "",
        f'SECTION "{name}", ROMX',
        f"{name}::",
    ]
    if number + 1 < modules:
        lines.append(f"    next_module Module{number + 1:04}")
    else:
        lines.append("    last_module")
    labels = [f"{name}Block{index}" for index in range(len(blocks))]
    lines += [f"    add_block {label}" for label in labels]
    lines += ["    ret", ""]
    for label, path in zip(labels, blocks):
        lines += [f"{label}::", f'    INCBIN "{path}"', ".end::", ""]
    # Something for the assembler to compute, as real modules have.
    lines += [f"{name}Table::"]
    for index in range(stream.between(20, 80)):
        constant = constant_name(stream.choice(parts), stream.below(16))
        lines.append(f"    db LOW({constant} * {stream.below(256)} + {index})")
    lines += [
        f"FOR n, {stream.between(8, 64)}",
        f"    dw {name}Table + n * {stream.between(2, 9)}",
        "ENDR",
        "",
    ]
    return "\n".join(lines).encode()


def project(seed, files):
    """All files of the project: pairs of a relative path and its bytes."""
    modules, pictures, includes, data_files = share_out(files)
    average = max(32, min(DATA_AVERAGE_BYTES, DATA_BUDGET_BYTES // data_files))
    blocks = [[] for _ in range(modules)]

    yield "Makefile", MAKEFILE.encode()
    yield "inc/hardware.inc", HARDWARE_INC.encode()
    yield "inc/macros.inc", MACROS_INC.encode()
    yield "src/main.asm", MAIN_ASM.encode()
    for number in range(includes):
        yield f"inc/constants/c{number:03}.inc", constants(seed, number)
    for number in range(data_files):
        owner = number % modules
        suffix = "txt" if number % 3 == 2 else "bin"
        path = f"data/{group(owner)}/d{number:04}.{suffix}"
        blocks[owner].append(path)
        yield path, data(seed, number, average)
    for number in range(pictures):
        owner = number * modules // pictures
        path = f"{group(owner)}/p{number:04}"
        blocks[owner].append(f"obj/gfx/{path}.2bpp")
        yield f"gfx/{path}.png", picture(seed, number)
    for number in range(modules):
        source = module(seed, number, modules, includes, blocks[number])
        yield f"src/{group(number)}/m{number:04}.asm", source


def main():
    parser = argparse.ArgumentParser(
        description="Writes a Game Boy project of many small files into DIR."
    )
    parser.add_argument(
        "directory", metavar="DIR", type=Path, help="new or empty; made when missing"
    )
    parser.add_argument(
        "--files", type=int, default=2000, help="how many files in all (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="another seed, other contents (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if not 20 <= arguments.files <= MOST_FILES:
        parser.error(f"--files must be between 20 and {MOST_FILES}, as the program has to fit a cartridge")
    try:
        arguments.directory.mkdir(parents=True, exist_ok=True)
        # Leftovers would be found by the Makefile's patterns and built along.
        if any(arguments.directory.iterdir()):
            parser.error(f"{arguments.directory} is not empty: name a new directory, or empty it first")
        for name, content in project(arguments.seed, arguments.files):
            path = arguments.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        sys.exit(f"generate-project: cannot write the project: {error}")


if __name__ == "__main__":
    main()

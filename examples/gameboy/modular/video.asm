; The screen and its memory.

INCLUDE "inc/hardware.inc"
INCLUDE "inc/charmap.inc"

SECTION "Screen", ROM0

; Video memory is open to writes only while the screen is off, and turning it off
; outside of the vertical blank damages a real screen. Changes a.
ScreenOff::
    ldh a, [rLY]
    cp VBLANK_LINE
    jr nz, ScreenOff
    xor a
    ldh [rLCDC], a
    ret

; Changes a.
ScreenOn::
    xor a
    ldh [rSCY], a
    ldh [rSCX], a
    ld a, SHADES
    ldh [rBGP], a
    ld a, LCDC_ON
    ldh [rLCDC], a
    ret

SECTION "Memory", ROM0

; Copies bc bytes (at least one) from de to hl. Changes all registers.
CopyMemory::
    ld a, [de]
    ld [hl+], a
    inc de
    dec bc
    ld a, b
    or c
    jr nz, CopyMemory
    ret

; Copies bc bytes (at least one) from de to hl, each twice: tiles of one bit a
; pixel become tiles of two, in black and white. Changes all registers.
CopyDoubled::
    ld a, [de]
    ld [hl+], a
    ld [hl+], a
    inc de
    dec bc
    ld a, b
    or c
    jr nz, CopyDoubled
    ret

; Writes d to bc bytes (at least one) from hl on. Changes a, bc and hl.
FillMemory::
    ld a, d
    ld [hl+], a
    dec bc
    ld a, b
    or c
    jr nz, FillMemory
    ret

; Copies b rows of c tile numbers from de to the tile map at hl. Changes all
; registers.
CopyRectangle::
    push bc
    push hl
.row
    ld a, [de]
    ld [hl+], a
    inc de
    dec c
    jr nz, .row
    pop hl
    ld bc, MAP_WIDTH
    add hl, bc
    pop bc
    dec b
    jr nz, CopyRectangle
    ret

; Copies the text at de to the tile map at hl, up to END_OF_TEXT, which is not
; copied. Changes a, de and hl.
PrintText::
    ld a, [de]
    cp END_OF_TEXT
    ret z
    ld [hl+], a
    inc de
    jr PrintText

; Prints a sentence on the Game Boy's screen, then sleeps.
;
; Self-contained on purpose: nothing is included, so that this one source and the
; object made from B.asm are all that a job needs.
;
;     rgbasm B.asm -o B.o
;     rgbasm A.asm -o A.o
;     rgblink A.o B.o -o A.gb -m A.map -n A.sym
;     rgbfix -v -p 0xff A.gb

DEF rNR52 EQU $ff26  ; sound: on or off
DEF rLCDC EQU $ff40  ; screen control
DEF rSCY  EQU $ff42  ; scroll position
DEF rSCX  EQU $ff43
DEF rBGP  EQU $ff47  ; shades of the background's four colours
DEF rIE   EQU $ffff  ; which interrupts may come

DEF TILE_DATA EQU $9000  ; 16 bytes a tile
DEF TILE_MAP  EQU $9800  ; 32 bytes a row, 20 of them visible
DEF STACK_TOP EQU $e000

DEF LCDC_ON EQU %10000001  ; screen and background on, tiles from TILE_DATA
DEF SHADES  EQU %11100100  ; colour 0 white … colour 3 black

; Characters become tile numbers here: the order of the glyphs in B.asm.
NEWCHARMAP glyphs
CHARMAP " ", 0
CHARMAP "A", 1
CHARMAP "C", 2
CHARMAP "E", 3
CHARMAP "I", 4
CHARMAP "N", 5
CHARMAP "P", 6
CHARMAP "S", 7
CHARMAP "T", 8
CHARMAP "U", 9
CHARMAP "'", 10
DEF END_OF_TEXT EQU $ff

; Loads the tile map's address of a column and a row.
MACRO map_address ; registers, column, row
    ld \1, TILE_MAP + (\3) * 32 + (\2)
ENDM

; The console starts every cartridge here; rgbfix fills in the rest up to $150
; (logo, title, checksums).
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
    ldh [rNR52], a
    ldh [rIE], a

    ; Video memory is open to writes only while the screen is off, and turning
    ; it off outside of the vertical blank damages a real screen.
    call WaitVBlank
    xor a
    ldh [rLCDC], a
    ldh [rSCY], a
    ldh [rSCX], a

    ld de, Font
    ld hl, TILE_DATA
    ld bc, Font.end - Font
    call CopyMemory

    ; Tile 0 is the blank.
    ld hl, TILE_MAP
    ld bc, 32 * 32
    call ClearMemory

    map_address hl, 3, 7
    ld de, FirstLine
    call PrintText
    map_address hl, 6, 9
    ld de, SecondLine
    call PrintText

    ld a, SHADES
    ldh [rBGP], a
    ld a, LCDC_ON
    ldh [rLCDC], a

Sleep::
    halt
    nop
    jr Sleep

SECTION "Text", ROM0
FirstLine:
    db "CECI N'EST PAS", END_OF_TEXT
SecondLine:
    db "UNE PIPE", END_OF_TEXT

; Shows a picture and its caption, then sleeps. In several files, as programs are:
; common definitions in inc/, pictures in gfx/, a second module in video.asm.
;
;     rgbasm main.asm -o main.o
;     rgbasm video.asm -o video.o
;     rgblink main.o video.o -o pipe.gb -m pipe.map -n pipe.sym
;     rgbfix -v -p 0xff pipe.gb
;
; The binary files in gfx/ come from the pictures beside them:
;
;     rgbgfx -u -o gfx/pipe.2bpp -t gfx/pipe.tilemap gfx/pipe.png
;     rgbgfx -d 1 -o gfx/font.1bpp gfx/font.png

INCLUDE "inc/hardware.inc"
INCLUDE "inc/charmap.inc"
INCLUDE "inc/macros.inc"

DEF PICTURE_WIDTH  EQU 16  ; in tiles
DEF PICTURE_HEIGHT EQU 8
DEF PICTURE_COLUMN EQU (SCREEN_WIDTH - PICTURE_WIDTH) / 2
DEF PICTURE_ROW    EQU 2

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

    call ScreenOff
    copy_block CopyMemory, PictureTiles, TILE_DATA
    copy_block CopyDoubled, Font, TILE_DATA2

    ; The font's first glyph is the blank.
    ld hl, TILE_MAP
    ld bc, MAP_WIDTH * MAP_HEIGHT
    ld d, FONT_FIRST_TILE
    call FillMemory

    ld de, PictureMap
    map_address hl, PICTURE_COLUMN, PICTURE_ROW
    ld bc, PICTURE_HEIGHT << 8 | PICTURE_WIDTH
    call CopyRectangle

    put_text 3, 12, "CECI N'EST PAS"
    put_text 5, 14, "UNE PIPE."

    call ScreenOn

Sleep::
    halt
    nop
    jr Sleep

SECTION "Picture", ROMX
PictureTiles::
    INCBIN "gfx/pipe.2bpp"
.end::
PictureMap::
    INCBIN "gfx/pipe.tilemap"
.end::
    ASSERT PictureMap.end - PictureMap == PICTURE_WIDTH * PICTURE_HEIGHT
    ASSERT PictureTiles.end - PictureTiles <= FONT_FIRST_TILE * TILE_BYTES

SECTION "Font", ROMX
Font::
    INCBIN "gfx/font.1bpp"
.end::

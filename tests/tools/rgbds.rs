//! The first users: rgbasm and rgblink, rgbfix and rgbgfx.

use std::fs;

use crate::bench_dir::{Pair, files};

/// `A.asm`, and `B.o` assembled beforehand, in both directories.
fn simple_program() -> Pair {
    let pair = Pair::new();
    pair.copy_from("examples/gameboy/simple");
    pair.on_disk(&["rgbasm", "B.asm", "-o", "B.o"]);
    let object = fs::read(pair.disk().join("B.o")).expect("B.o");
    pair.write("B.o", object);
    pair
}

#[test]
fn assembling_and_linking_gives_the_bytes_of_an_ordinary_directory() {
    let pair = simple_program();
    pair.on_disk(&["rgbasm", "A.asm", "-o", "A.o"]);
    pair.on_disk(&[
        "rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym",
    ]);

    #[rustfmt::skip]
    pair.in_ram(&[
        "-i", "A.asm", "-i", "B.o", "-o", "A.gb", "-o", "A.map", "-o", "A.sym", "--",
        "rgbasm", "A.asm", "-o", "A.o",
        "--then", "rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym",
    ]);

    pair.assert_same(&["A.gb", "A.map", "A.sym"]);
    assert!(
        !pair.ram().join("A.o").exists(),
        "A.o is nobody's output and exists only in RAM"
    );
}

#[test]
fn includes_and_binaries_from_sub_directories_are_found() {
    let pair = Pair::new();
    pair.copy_from("examples/gameboy/modular");
    for module in ["main", "video"] {
        pair.on_disk(&[
            "rgbasm",
            &format!("{module}.asm"),
            "-o",
            &format!("{module}.o"),
        ]);
    }
    pair.on_disk(&[
        "rgblink", "main.o", "video.o", "-o", "pipe.gb", "-m", "pipe.map", "-n", "pipe.sym",
    ]);
    pair.on_disk(&["rgbfix", "-v", "-p", "0xff", "pipe.gb"]);

    #[rustfmt::skip]
    pair.in_ram(&[
        "-i", ".", "-o", "pipe.gb", "-o", "pipe.map", "-o", "pipe.sym", "--",
        "rgbasm", "main.asm", "-o", "main.o",
        "--then", "rgbasm", "video.asm", "-o", "video.o",
        "--then", "rgblink", "main.o", "video.o", "-o", "pipe.gb", "-m", "pipe.map", "-n", "pipe.sym",
        "--then", "rgbfix", "-v", "-p", "0xff", "pipe.gb",
    ]);

    pair.assert_same(&["pipe.gb", "pipe.map", "pipe.sym"]);
    assert_eq!(
        fs::metadata(pair.ram().join("pipe.gb")).unwrap().len(),
        32 * 1024
    );
}

#[test]
fn rgbgfx_converts_an_image() {
    let pair = Pair::new();
    pair.copy_from("examples/gameboy/modular");
    pair.on_disk(&["rgbgfx", "gfx/pipe.png", "-o", "tiles.2bpp"]);
    pair.in_ram(&[
        "-i",
        "gfx",
        "-o",
        "tiles.2bpp",
        "--",
        "rgbgfx",
        "gfx/pipe.png",
        "-o",
        "tiles.2bpp",
    ]);
    pair.assert_same(&["tiles.2bpp"]);
}

/// Far over the 64 KiB of a pipe, in and out.
#[test]
fn a_source_of_3_mib_goes_through() {
    use std::fmt::Write;

    let mut source = String::new();
    let mut bank = 0;
    let mut in_bank = 0;
    while source.len() < 3 << 20 {
        if in_bank == 0 {
            bank += 1;
            writeln!(source, "SECTION \"data {bank}\", ROMX, BANK[{bank}]").unwrap();
        }
        writeln!(
            source,
            "    db $00,$11,$22,$33,$44,$55,$66,$77,$88,$99,$aa,$bb,$cc,$dd,$ee,$ff"
        )
        .unwrap();
        in_bank = (in_bank + 16) % (16 << 10);
    }
    let pair = Pair::new();
    pair.write("A.asm", &source);
    pair.on_disk(&["rgbasm", "A.asm", "-o", "A.o"]);
    pair.on_disk(&["rgblink", "A.o", "-o", "A.gb", "-m", "A.map"]);

    #[rustfmt::skip]
    pair.in_ram(&[
        "-i", "A.asm", "-o", "A.o", "-o", "A.gb", "-o", "A.map", "--",
        "rgbasm", "A.asm", "-o", "A.o", "--then", "rgblink", "A.o", "-o", "A.gb", "-m", "A.map",
    ]);

    pair.assert_same(&["A.o", "A.gb", "A.map"]);
    assert!(fs::metadata(pair.ram().join("A.gb")).unwrap().len() > 512 << 10);
}

#[test]
fn an_assembly_error_comes_through_and_touches_no_file() {
    let pair = Pair::new();
    pair.write("A.asm", "SECTION \"x\", ROM0\n  nonsense a, b\n");
    pair.write("A.gb", "what the caller had");
    let before = files(pair.ram());
    let bare = crate::bench_dir::run_in(pair.disk(), "rgbasm", &["A.asm", "-o", "A.o"]);

    #[rustfmt::skip]
    let output = pair.notapipe_run(&[
        "-i", "A.asm", "-o", "A.gb", "--",
        "rgbasm", "A.asm", "-o", "A.o", "--then", "rgblink", "A.o", "-o", "A.gb",
    ]);

    assert!(!bare.status.success());
    assert_eq!(
        output.status.code(),
        bare.status.code(),
        "the tool's own status"
    );
    assert_eq!(
        output.stderr, bare.stderr,
        "the tool's own message, and nothing else"
    );
    assert_eq!(files(pair.ram()), before);
}

#[test]
fn the_same_job_embeds_the_same_path_in_every_run() {
    let pair = Pair::new();
    let run = || {
        let output = pair.notapipe_run(&["-o", "here=-", "--", "sh", "-c", "pwd > here"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let first = run();
    assert!(first.starts_with('/'), "{first}");
    assert_eq!(first, run());
}

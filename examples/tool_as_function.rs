//! A command-line tool as a function: source in, ROM out, called 200 times from 8 threads.
//!
//! With named pipes this cannot work. `rgbasm` opens `A.asm` and then `A.o`, each open waiting for
//! the other end to be opened; a source over 64 KiB fills the pipe while the assembler waits to be
//! read from; and `rgblink`, which reads its objects twice and writes three files in an order of
//! its own, meets a pipe that cannot be sought, or a reader that waits for another of the three.
//!
//!     PATH="$(scripts/install-rgbds.sh):$PATH" cargo run --release --example tool_as_function

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use notapipe::{Base, Error, ErrorKind, Job};

/// What linking gives.
struct Rom {
    image: Bytes,
    map: Bytes,
    symbols: Bytes,
}

/// Assembles and links a program that uses the routines of a base.
fn assemble(library: &Base, source: &str) -> Result<Rom, Error> {
    let outcome = Job::new()
        .base(library)
        .input("A.asm", source.to_owned())
        .step(["rgbasm", "A.asm", "-o", "A.o"])
        .step([
            "rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym",
        ])
        .outputs(["A.gb", "A.map", "A.sym"])
        .timeout(Duration::from_secs(60))
        .run()?;
    let bytes = |name| outcome.output(name).unwrap_or_default();
    Ok(Rom {
        image: bytes("A.gb"),
        map: bytes("A.map"),
        symbols: bytes("A.sym"),
    })
}

/// The object that every program is linked with, made once.
fn library() -> Result<Base, Error> {
    let object = Job::new()
        .input("B.asm", include_str!("gameboy/simple/B.asm"))
        .step(["rgbasm", "B.asm", "-o", "B.o"])
        .output("B.o")
        .run()?
        .output("B.o")
        .unwrap_or_default();
    Job::new().input("B.o", object).into_base()
}

fn main() -> Result<(), Error> {
    let library = library()?;
    let program = include_str!("gameboy/simple/A.asm");
    let expected = assemble(&library, program)?;

    thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let rom = assemble(&library, program)?;
                        assert_eq!(rom.image, expected.image, "the same every time");
                        assert_eq!(rom.symbols, expected.symbols);
                    }
                    Ok::<(), Error>(())
                })
            })
            .collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().expect("no caller panics"))
    })?;

    println!(
        "200 calls from 8 threads, the same ROM of {} bytes every time",
        expected.image.len()
    );
    println!(
        "{} lines in its map",
        expected.map.split(|&byte| byte == b'\n').count()
    );

    // A program that is wrong comes back as an error with the tool's own words.
    match assemble(&library, "SECTION \"x\", ROM0\n nonsense\n") {
        Err(error) if error.kind() == ErrorKind::StepFailed => println!("and a wrong one: {error}"),
        _ => unreachable!("rgbasm knows no such instruction"),
    }
    Ok(())
}

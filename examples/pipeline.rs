//! `ps | grep`, and a second command that writes to the same result; then the result is read twice,
//! which a stream cannot do.
//!
//!     cargo run --release --example pipeline

use notapipe::{Error, Scratch};

fn main() -> Result<(), Error> {
    let scratch = Scratch::new()?;

    // Every command begins in the root of the scratch directory; the shell is there for its pipe
    // only.
    scratch.run(["sh", "-c", "ps -e -o comm= | grep -c . > result"])?;
    scratch.run(["sh", "-c", "echo processes >> result"])?;

    let first = scratch.read("result")?;
    let again = scratch.read("result")?;
    assert_eq!(first, again, "a file can be read as often as one likes");
    print!("{}", String::from_utf8_lossy(&first).replace('\n', " "));
    println!("were running");

    scratch.unmount()
}

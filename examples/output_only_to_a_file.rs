//! A program that writes its result only to a file that it is told the name of, as a function:
//! 1,000 calls, 16 at a time.
//!
//! The file never exists for anybody but the program, and there is nothing to clean up, not even
//! when this process is killed.
//!
//!     cargo run --release --example output_only_to_a_file

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use notapipe::{Error, Job};

const CALLS: u32 = 1_000;
const AT_A_TIME: usize = 16;

/// What `program ARGUMENTS… FILE` writes into FILE.
fn text_from(program: &[&str]) -> Result<String, Error> {
    const FILE: &str = "result.txt";
    let command: Vec<&str> = program.iter().copied().chain([FILE]).collect();
    let outcome = Job::new().step(command).output(FILE).run()?;
    let bytes = outcome.output(FILE).unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn main() -> Result<(), Error> {
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        let callers: Vec<_> = (0..AT_A_TIME)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let call = next.fetch_add(1, Ordering::Relaxed);
                        if call >= CALLS {
                            return Ok::<(), Error>(());
                        }
                        // `sh -c SCRIPT WORD FILE`: the shell sees the two words as $0 and $1.
                        let text =
                            text_from(&["sh", "-c", "echo answer $0 > \"$1\"", &call.to_string()])?;
                        assert_eq!(text, format!("answer {call}\n"));
                    }
                })
            })
            .collect();
        callers
            .into_iter()
            .try_for_each(|caller| caller.join().expect("no caller panics"))
    })?;
    println!("{CALLS} calls, {AT_A_TIME} at a time, each with its own answer");
    Ok(())
}

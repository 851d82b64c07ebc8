//! Two conversations: with a child over its standard streams, with a deadline in place of a
//! deadlock; and between two unrelated processes over a FIFO that one of them makes inside the
//! mount.
//!
//!     cargo run --release --example dialogue

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use notapipe::{ErrorKind, Job, Step};

/// Asks `sed` line by line, and reads each answer before the next question.
fn with_a_child() -> Result<(), Box<dyn std::error::Error>> {
    let (stdin, mut questions) = std::io::pipe()?;
    let (answers, stdout) = std::io::pipe()?;
    let child = Step::new(["sed", "-u", "s/$/? Yes./"])
        .stdin_fd(stdin)
        .stdout_fd(stdout);
    let running = Job::new()
        .step(child)
        .timeout(Duration::from_secs(60))
        .start()?;

    let mut answers = BufReader::new(answers).lines();
    for question in ["Is it a file", "Can one seek in it"] {
        writeln!(questions, "{question}")?;
        println!("{}", answers.next().ok_or("the child said nothing")??);
    }
    // The end of its input is what the child waits for.
    drop(questions);
    running.wait()?;
    Ok(())
}

/// A child that never answers ends at its deadline, and so does everything that waits for it.
fn with_a_silent_child() -> Result<(), Box<dyn std::error::Error>> {
    let (answers, stdout) = std::io::pipe()?;
    let silent = Step::new(["sleep", "600"]).stdout_fd(stdout);
    let running = Job::new()
        .step(silent)
        .timeout(Duration::from_millis(200))
        .start()?;
    let said_nothing = BufReader::new(answers).lines().next().is_none();
    assert!(said_nothing, "the pipe ends with the job");
    match running.wait() {
        Err(failed) if failed.kind() == ErrorKind::Timeout => println!("{failed}"),
        other => return Err(format!("expected a timeout: {other:?}").into()),
    }
    Ok(())
}

/// The kernel keeps a FIFO's bytes; notapipe keeps its name.
fn over_a_fifo() -> Result<(), notapipe::Error> {
    let script = "mkfifo line; (echo hello from the other side > line) & cat line > heard; wait";
    let outcome = Job::new()
        .step(["sh", "-c", script])
        .output("heard")
        .run()?;
    print!(
        "{}",
        String::from_utf8_lossy(&outcome.output("heard").unwrap_or_default())
    );
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    with_a_child()?;
    with_a_silent_child()?;
    over_a_fifo()?;
    Ok(())
}

//! The examples run as they stand.

use std::path::PathBuf;
use std::process::Command;

/// `cargo test` builds the examples beside the tests.
fn run(example: &str) -> String {
    let this = std::env::current_exe().expect("our own path");
    let target: PathBuf = this.ancestors().nth(2).expect("target/debug").to_path_buf();
    let program = target.join("examples").join(example);
    assert!(
        program.exists(),
        "{program:?} is missing: cargo builds it with all tests, or by `cargo build --examples`"
    );
    let output = Command::new("timeout")
        .arg("300")
        .arg(&program)
        .output()
        .expect("timeout(1), of the package coreutils");
    assert!(output.status.success(), "{program:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_tool_is_a_function() {
    let said = run("tool_as_function");
    assert!(
        said.starts_with("200 calls from 8 threads, the same ROM"),
        "{said}"
    );
    assert!(said.contains("\"rgbasm\" ended with status 1"), "{said}");
}

#[test]
fn a_program_that_writes_only_to_a_file_is_a_function() {
    let said = run("output_only_to_a_file");
    assert_eq!(said, "1000 calls, 16 at a time, each with its own answer\n");
}

#[test]
fn a_dialogue_has_deadlines_instead_of_deadlocks() {
    let said = run("dialogue");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..2],
        ["Is it a file? Yes.", "Can one seek in it? Yes."]
    );
    assert!(lines[2].contains("took longer than 200ms"), "{said}");
    assert_eq!(lines[3], "hello from the other side");
}

#[test]
fn a_pipeline_writes_a_result_that_is_read_twice() {
    let said = run("pipeline");
    assert!(said.ends_with("processes were running\n"), "{said}");
}

#[test]
fn bytes_are_handled_as_they_come() {
    let said = run("events");
    for name in ["north", "east", "west"] {
        let start = format!("{name}: ");
        let told: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix(&start))
            .collect();
        // What waited to be handled is handled at once, the first line in front.
        assert!(told[0].starts_with("opened by process "), "{said}");
        assert_eq!(told[1], format!("received {name} 1"), "{said}");
        assert_eq!(told.last(), Some(&"closed"), "{said}");
        let all = format!("{name} 1\n{name} 2\n{name} 3\n");
        assert_eq!(received(&said, name), all, "{said}");
    }
}

/// The lines of a producer, whether they came in one piece or in several.
fn received(said: &str, name: &str) -> String {
    let line = |line: &str| {
        let line = line
            .strip_prefix(&format!("{name}: received "))
            .unwrap_or(line);
        line.starts_with(&format!("{name} "))
            .then(|| format!("{line}\n"))
    };
    said.lines().filter_map(line).collect()
}

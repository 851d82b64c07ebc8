//! The command line's exit codes and messages, on the real binary.
//!
//! The table of what is accepted and refused stands beside the grammar, in `src/cli/tests.rs`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Output};

fn notapipe<A: AsRef<OsStr>>(arguments: &[A]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_notapipe"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn every_wrong_command_line_ends_in_2() {
    let lines: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["--nonsense"],
        &["run"],
        &["run", "true"],
        &["run", "--"],
        &["run", "--", "--then"],
        &["run", "--", "true", "--then"],
        &["run", "-i", "../x=y", "--", "true"],
        &["run", "-i", "/x=y", "--", "true"],
        &["run", "-i", "=y", "--", "true"],
        &["run", "-i", "x", "-i", "x", "--", "true"],
        &["run", "-o", "../x", "--", "true"],
        &["run", "-o", "/x", "--", "true"],
        &["run", "-o", "", "--", "true"],
        &["run", "-o", "x", "-o", "x", "--", "true"],
        &["run", "--size", "nonsense", "--", "true"],
        &["run", "--mount", "nonsense", "--", "true"],
        &["run", "--input", "x", "--", "true"],
        &["run", "-i"],
        &["mount"],
        &["mount", "--mode", "999", "x"],
        &["mount", "x", "y"],
        &["umount"],
        &["umount", "--nonsense", "x"],
    ];
    for line in lines {
        let output = notapipe(line);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{line:?}: {told}");
        assert!(
            output.stdout.is_empty(),
            "{line:?} writes to standard output"
        );
        // Without any words, the help itself is the message.
        assert!(
            line.is_empty() || told.starts_with("notapipe: "),
            "{line:?}: {told}"
        );
        assert!(told.contains("--help"), "{line:?}: {told}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for line in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["help"],
        &["help", "run"],
        &["run", "--help"],
        &["run", "-h"],
        &["mount", "--help"],
        &["umount", "--help"],
    ] {
        let output = notapipe(line);
        assert_eq!(output.status.code(), Some(0), "{line:?}");
        assert!(
            output.stderr.is_empty() && !output.stdout.is_empty(),
            "{line:?}"
        );
    }
}

#[test]
fn help_shows_the_example_first_and_the_exit_codes() {
    let help = String::from_utf8(notapipe(&["--help"]).stdout).unwrap();
    let first: String = help.lines().take(4).collect();
    assert!(
        first.contains("Files in RAM") && first.contains("-i A.asm"),
        "{first}"
    );
    let help = String::from_utf8(notapipe(&["run", "--help"]).stdout).unwrap();
    for part in [
        "--then",
        "NAME=-",
        "Exit status",
        "128+N",
        "125",
        "126",
        "127",
        "Examples",
    ] {
        assert!(help.contains(part), "{part}");
    }
}

#[test]
fn a_name_that_is_not_utf_8_is_told_readably() {
    let line = [
        OsStr::new("run"),
        OsStr::new("-o"),
        OsStr::from_bytes(b"/\xff\n"),
        OsStr::new("--"),
    ];
    let output = notapipe(&line);
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains(r#""/\xff\n""#), "{told}");
}

//! The init of the command line, which is a copy of it that was made at its start.

use std::io::Write;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use notapipe::run::init::ARGUMENT;

use crate::degraded::{HIDE_PART_OF_PROC, behind};
use crate::stage::{self, Who, both, eventually};

/// Prints who the first process of the job is, word by word.
const WHO_IS_FIRST: &str = "tr '\\0' '|' </proc/1/cmdline; tr -d '\\0' </proc/1/environ; \
                            readlink /proc/1/fd/0 /proc/1/fd/1 /proc/1/cwd; grep CapEff /proc/1/status";

/// `notapipe run -i - -- sh -c …`, which waits for its input before there is a mount.
fn staging(script: &str) -> Child {
    Command::new(stage::notapipe())
        .args(["run", "-i", "in=-", "--", "sh", "-c", script])
        .env("SECRET", "a-secret-in-the-environment")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The copies that wait, of this command.
fn waiting(command: &Child) -> Vec<i32> {
    stage::children(command.id(), ARGUMENT)
}

/// Gives it its input, and what it wrote and its exit status back.
fn finish(mut command: Child) -> (String, i32) {
    command.stdin.take().unwrap().write_all(b"text").unwrap();
    let output = command.wait_with_output().unwrap();
    (
        String::from_utf8(output.stdout).unwrap(),
        output.status.code().unwrap(),
    )
}

#[test]
fn a_job_sees_nothing_of_our_command_in_it() {
    both(
        "forked_init::a_job_sees_nothing_of_our_command_in_it",
        || {
            let (said, status) = finish(staging(WHO_IS_FIRST));
            assert_eq!(status, 0);
            let first = said.trim_end_matches('|');
            assert!(
                first.starts_with(&format!("notapipe {ARGUMENT}|")),
                "{said}"
            );
            for hidden in ["SECRET", "in=-", "cmdline"] {
                assert!(!said.contains(hidden), "{hidden} is in {said}");
            }
            assert!(said.contains("/dev/null\n/dev/null\n/\n"), "{said}");
            if !rustix::process::geteuid().is_root() {
                assert!(said.contains("CapEff:\t0000000000000000\n"), "{said}");
            }
        },
    );
}

#[test]
fn where_the_copy_was_killed_the_program_is_executed() {
    both(
        "forked_init::where_the_copy_was_killed_the_program_is_executed",
        || {
            let command = staging(WHO_IS_FIRST);
            eventually("a copy waits", || waiting(&command).len() == 1);
            let copy = Pid::from_raw(waiting(&command)[0]).unwrap();
            kill_process(copy, Signal::KILL).unwrap();
            let (said, status) = finish(command);
            assert_eq!(status, 0);
            assert!(said.starts_with(&format!("notapipe|{ARGUMENT}|")), "{said}");
        },
    );
}

/// It has entered the job's namespaces by then, and made a process.
#[test]
fn where_proc_is_refused_the_program_is_executed() {
    let name = "forked_init::where_proc_is_refused_the_program_is_executed";
    behind(HIDE_PART_OF_PROC, name, Who::User, || {
        let (said, status) = finish(staging("tr '\\0' '|' </proc/$PPID/cmdline; exit 5"));
        assert_eq!(status, 5);
        assert!(said.starts_with(&format!("notapipe|{ARGUMENT}|")), "{said}");
    });
}

#[test]
fn the_copy_ends_with_the_command() {
    both("forked_init::the_copy_ends_with_the_command", || {
        let mut command = staging("true");
        eventually("a copy waits", || waiting(&command).len() == 1);
        let copy = waiting(&command)[0];
        command.kill().unwrap();
        command.wait().unwrap();
        eventually("the copy has ended", || {
            !std::fs::exists(format!("/proc/{copy}")).unwrap()
        });
    });
}

//! `--follow`: a file on standard output while it is written.

use std::fs::File;
use std::io::{BufRead, BufReader};

use notapipe::Job;

use crate::support::site::{Call, Site, both};

#[test]
fn bytes_come_while_the_tool_still_writes() {
    both(|site| {
        site.mkfifo("go");
        let go = site.text("go");
        let work = "exec 3>log; echo one >&3; cat $0 >/dev/null; echo two >&3";
        let words = [
            "run", "--follow", "log", "-o", "log", "--", "sh", "-c", work, &go,
        ];
        let mut command = site.command(&words);
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        let call = Call::start(command);
        let mut lines = BufReader::new(reader).lines();
        // The tool waits for us: nothing of the second line exists.
        assert_eq!(lines.next().unwrap().unwrap(), "one");
        std::fs::write(site.path("go"), "").unwrap();
        call.finish().ended(0).silently();
        assert_eq!(lines.next().unwrap().unwrap(), "two");
        assert_eq!(site.read("log"), b"one\ntwo\n");
    });
}

#[test]
fn a_file_that_is_opened_again_and_again_is_followed_to_the_end() {
    both(|site| {
        let work = "echo out; for n in 1 2 3; do echo $n >> log; sleep 0.05; done";
        let steps = ["sh", "-c", work, "--then", "sh", "-c", "echo 4 >> log"];
        let told = site.run(&[&["--follow", "log", "--"][..], &steps].concat());
        // The tool's own standard output is out of the way.
        let told = told.ended(0).printing("1\n2\n3\n4\n");
        assert_eq!(told.stderr, "out\n");
    });
}

#[test]
fn a_failed_step_has_its_log_told() {
    both(|site| {
        let work = "echo reason > log; exit 3";
        site.run(&["--follow", "log", "--", "sh", "-c", work])
            .ended(3)
            .printing("reason\n");
        let work = format!("echo reason > log; {}", site.endless());
        site.run(&[
            "--timeout",
            "0.5",
            "--follow",
            "log",
            "--",
            "sh",
            "-c",
            &work,
        ])
        .ended(124)
        .printing("reason\n");
    });
}

#[test]
fn what_changed_afterwards_is_told_with_its_ranges() {
    both(|site| {
        site.mkfifo("go");
        let work = "exec 3>log; echo 0123456789 >&3; cat $0 >/dev/null; \
                    printf xy | dd of=log bs=1 seek=4 conv=notrunc 2>/dev/null";
        let go = site.text("go");
        let mut command = site.command(&["run", "--follow", "log", "--", "sh", "-c", work, &go]);
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        let call = Call::start(command);
        let mut lines = BufReader::new(reader).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "0123456789");
        std::fs::write(site.path("go"), "").unwrap();
        call.finish()
            .ended(0)
            .saying(&["warning: \"log\" changed after it was sent: bytes 4-5"]);
        assert!(lines.next().is_none());
    });
}

#[test]
fn a_file_that_nobody_writes_is_told() {
    both(|site| {
        site.write("log", "staged\n");
        let told = site.run(&["--follow", "log", "-i", "log", "--", "cat", "log"]);
        told.ended(0)
            .saying(&["staged", "no step wrote to \"log\""]);
        site.run(&["-q", "--follow", "log", "--", "true"])
            .ended(0)
            .silently();
    });
}

#[test]
fn who_reads_no_more_does_not_end_the_job() {
    both(|site| {
        let words = ["run", "--follow", "log", "-o", "log", "--", "seq", "100000"];
        let steps = ["--stdout", "log"];
        let words = [&words[..6], &steps, &words[6..]].concat();
        let mut command = site.command(&words);
        let (reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer);
        drop(reader);
        Call::start(command).finish().ended(0).silently();
        assert!(site.read("log").ends_with(b"\n100000\n"));
    });
}

#[test]
fn a_place_that_takes_not_all_fails_the_job_after_its_outputs() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let words = ["run", "--report", "report", "--follow", "log", "-o", "log"];
    let steps = ["--", "sh", "-c", "echo one > log"];
    let mut command = site.command(&[&words[..], &steps].concat());
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    Call::start(command)
        .finish()
        .ended(125)
        .saying(&["not all of \"log\" was sent", "No space left on device"]);
    assert_eq!(site.read("log"), b"one\n");
    let report: serde_json::Value = serde_json::from_slice(&site.read("report")).unwrap();
    assert_eq!(
        (&report["result"], &report["exit_status"]),
        (&"failed".into(), &125.into())
    );
}

#[test]
fn the_library_hands_on_to_any_writer() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let outcome = Job::new()
        .follow("log", writer)
        .step(["sh", "-c", "echo one > log; echo two >> log"])
        .run()
        .unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
    assert_eq!(text, "one\ntwo\n");
    let followed = &outcome.followed()[0];
    assert_eq!((followed.bytes, followed.rewritten.len()), (Some(8), 0));
}

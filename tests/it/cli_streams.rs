//! Standard input, output and error of a job.

use std::fs::File;
use std::io::{PipeReader, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_setfl};

use crate::support::site::{Call, Site, Told, both, until};

#[test]
fn the_steps_have_the_callers_streams() {
    both(|site| {
        let talk = "cat; echo out; echo err >&2";
        let told = site
            .run_reading(b"in\n", &["--", "sh", "-c", talk])
            .ended(0);
        assert_eq!(
            (told.text().as_str(), told.stderr.as_str()),
            ("in\nout\n", "err\n")
        );
    });
}

#[test]
fn what_a_step_left_of_standard_input_is_the_next_ones() {
    both(|site| {
        let words = ["--", "sh", "-c", "read line; echo $line", "--then", "cat"];
        site.run_reading(b"one\ntwo\nthree\n", &words)
            .ended(0)
            .printing("one\ntwo\nthree\n");
    });
}

#[test]
fn with_an_output_on_standard_output_the_steps_write_to_standard_error() {
    both(|site| {
        let talk = "echo progress; echo error >&2; printf 'a\\0b' > x; echo out2 > y";
        let told = site
            .run(&["-o", "x=-", "-o", "y", "--", "sh", "-c", talk])
            .ended(0);
        assert_eq!(told.stdout, b"a\0b");
        assert_eq!(told.stderr, "progress\nerror\n");
        assert_eq!(site.listing(), ["y: out2\\n"]);
    });
}

#[test]
fn with_an_input_from_standard_input_the_steps_read_nothing() {
    both(|site| {
        let look = "readlink /proc/self/fd/0; cat; cat x";
        let told = site.run_reading(b"bytes", &["-i", "x=-", "--", "sh", "-c", look]);
        told.ended(0).printing("/dev/null\nbytes");
    });
}

#[test]
fn bytes_go_in_and_out_unchanged() {
    both(|site| {
        let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
        let words = ["-i", "x=-", "-o", "y=-", "--", "cp", "x", "y"];
        let told = site.run_reading(&bytes, &words).ended(0);
        assert!(told.stdout == bytes, "{} bytes", told.stdout.len());
    });
}

#[test]
fn a_failed_job_writes_nothing_to_standard_output() {
    both(|site| {
        let told = site.run(&["-o", "x=-", "--", "sh", "-c", "echo half > x; exit 4"]);
        told.ended(4).silently();
        let told = site.run(&["-o", "x=-", "--", "true"]);
        told.ended(125).printing("").saying(&["no output \"x\""]);
    });
}

#[test]
fn nothing_is_printed_where_nobody_asked() {
    both(|site| {
        site.write("A", "a");
        let told = site.run(&["-i", "A", "-o", "B", "--", "cp", "A", "B", "--then", "true"]);
        told.ended(0).silently();
    });
}

/// A pipe that nobody reads.
fn broken_pipe() -> OwnedFd {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_reader_that_is_gone_fails_the_job_and_puts_back_its_files() {
    both(|site| {
        site.write("a", "old");
        let make = "head -c 1M /dev/zero > x; echo new > a; echo new > b";
        let words = [
            "run", "-o", "a", "-o", "x=-", "-o", "b", "--", "sh", "-c", make,
        ];
        let mut command = site.command(&words);
        command.stdout(broken_pipe());
        Call::start(command)
            .finish()
            .ended(125)
            .saying(&["notapipe: ", "\"x\"", "Broken pipe"]);
        assert_eq!(site.listing(), ["a: old"]);
    });
}

#[test]
fn a_full_device_on_standard_output_fails_the_job() {
    let Some(site) = Site::of_root() else {
        return;
    };
    let mut command = site.command(&["run", "-o", "x=-", "--", "sh", "-c", "echo > x"]);
    command.stdout(File::options().write(true).open("/dev/full").unwrap());
    Call::start(command)
        .finish()
        .ended(125)
        .saying(&["\"x\"", "No space left on device"]);
}

#[test]
fn a_step_sees_a_broken_pipe_as_without_us() {
    both(|site| {
        let mut command = site.command(&["run", "--", "sh", "-c", "yes; :"]);
        command.stdout(broken_pipe());
        // SIGPIPE ends `yes` silently: its default action has not been changed.
        let told = Call::start(command).finish().ended(0);
        assert_eq!(told.stderr, "");
    });
}

#[test]
fn a_file_on_standard_output_is_written_from_where_it_stands() {
    both(|site| {
        let program = site.text("../notapipe");
        let job =
            format!("echo before; {program} run -o x=- -- sh -c 'echo during > x'; echo after");
        let mut command = site.tool(&["sh", "-c", &job]);
        command.stdout(File::create(site.path("log")).unwrap());
        Call::start(command).finish().ended(0);
        assert_eq!(site.read("log"), b"before\nduring\nafter\n");
    });
}

#[test]
fn closed_streams_stay_out_of_the_way() {
    both(|site| {
        let program = site.text("../notapipe");
        // The first descriptors that are opened must not be taken for the streams.
        let job =
            format!("exec {program} run -o x -- sh -c 'echo made > x; echo lost' <&- >&- 2>&-");
        let mut command = site.tool(&["sh", "-c", &job]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Call::start(command).finish().ended(0);
        assert_eq!(site.listing(), ["x: made\\n"]);
    });
}

/// Runs `notapipe` with these words, and with these redirections of a shell.
fn redirected(site: &Site, words: &[&str], redirections: &str) -> Told {
    let script = format!("exec \"$@\" {redirections}");
    let program = site.text("../notapipe");
    let shell = [&["sh", "-c", &script, "sh", &program][..], words].concat();
    Call::start(site.tool(&shell)).finish()
}

#[test]
fn nothing_is_written_to_a_standard_output_that_is_closed() {
    both(|site| {
        site.create_dir("mount");
        let mount = ["mount", "--background", "mount"];
        site.call(&mount).ended(0);
        let make = ["--", "touch", "started", "x"];
        for words in [
            &["run", "-o", "x=-", "-o", "started"][..],
            &["run", "-o", "x=/dev/stdout", "-o", "started"],
            &["run", "--optional", "x=/dev/fd/1", "-o", "started"],
            &["run", "--follow", "x", "-o", "started"],
            &["run", "--report", "-", "-o", "started"],
            &["run", "--pack", "-", "-o", "x"],
            &["run", "--print-job"],
        ] {
            let told = redirected(site, &[words, &make].concat(), ">&-").ended(125);
            told.saying(&["notapipe: cannot write", "it is closed"]);
            assert!(!site.exists("started"), "{words:?}");
        }
        for words in [
            &["list"][..],
            &["list", "--json"],
            &["status", "mount"],
            &["status", "--json", "mount"],
            &["snapshot", "mount", "-o", "-"],
            &["completions", "bash"],
            &["man"],
            &["--help"],
            &["run", "--help"],
            &["--version"],
        ] {
            let told = redirected(site, words, ">&-").ended(125);
            told.saying(&["notapipe: cannot write", "it is closed"]);
        }
        site.call(&["umount", "mount"]).ended(0);
        // A job that writes nothing there does not need it; nor is an open /dev/null a closed one.
        redirected(site, &["run", "--", "true"], ">&-").ended(0);
        let words = ["run", "-o", "x=-", "--", "touch", "x"];
        redirected(site, &words, "1<>/dev/null").ended(0);
    });
}

#[test]
fn nothing_is_read_from_a_standard_input_that_is_closed() {
    both(|site| {
        for words in [
            &["run", "-i", "x=-", "--", "true"][..],
            &["run", "-i", "x=/dev/stdin", "--", "true"],
            &["run", "--unpack", "-", "--", "true"],
            &["run", "--job", "-"],
            &["mount", "--from", "-", "."],
        ] {
            let told = redirected(site, words, "<&-");
            assert!(matches!(told.status.code(), Some(2 | 125)), "{words:?}");
            told.saying(&["it is closed"]);
        }
        redirected(site, &["run", "--", "true"], "<&-").ended(0);
    });
}

/// A pipe whose other end, which is ours, has made it non-blocking for all.
fn non_blocking_pipe() -> (PipeReader, OwnedFd) {
    let (reader, writer) = std::io::pipe().unwrap();
    let writer = OwnedFd::from(writer);
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    (reader, writer)
}

/// Waits until the pipe is full, or its writers have gone; then reads all.
fn read_when_full(mut reader: PipeReader) -> Vec<u8> {
    let mut events = [PollFd::new(&reader, PollFlags::IN)];
    poll(&mut events, None).unwrap();
    let mut first = [0];
    let len = reader.read(&mut first).unwrap();
    let mut all = first[..len].to_vec();
    reader.read_to_end(&mut all).unwrap();
    all
}

#[test]
fn all_bytes_come_through_a_pipe_that_never_blocks() {
    const MANY: &str = "head -c 3000000 /dev/zero > x";
    both(|site| {
        // More than a pipe holds, whatever is told.
        let long: Vec<String> = (0..3000).map(|number| format!("{number:0100}")).collect();
        let mut many_words = vec!["run", "--report", "-", "--", "true"];
        many_words.extend(long.iter().map(String::as_str));
        let mut job = vec!["run", "--print-job", "--", "true"];
        job.extend(long.iter().map(String::as_str));
        for (words, least) in [
            (&["run", "-o", "x=-", "--", "sh", "-c", MANY][..], 3_000_000),
            (&["run", "--follow", "x", "--", "sh", "-c", MANY], 3_000_000),
            (
                &["run", "--pack", "-", "-o", "x", "--", "sh", "-c", MANY],
                3_000_000,
            ),
            (
                &[
                    "run",
                    "--output-to",
                    "x",
                    "cat",
                    "--",
                    "sh",
                    "-c",
                    "head -c 300 /dev/zero > x",
                ],
                300,
            ),
            (&many_words, 300_000),
            (&job, 300_000),
        ] {
            let (reader, writer) = non_blocking_pipe();
            let mut command = site.command(words);
            command.stdout(writer);
            let call = Call::start(command);
            let got = read_when_full(reader);
            call.finish().ended(0);
            assert!(got.len() >= least, "{}: {}", words[1], got.len());
        }
    });
}

#[test]
fn standard_input_that_never_blocks_is_read_to_its_end() {
    both(|site| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        let mut command = site.command(&["run", "-i", "x=-", "-o", "x", "--", "true"]);
        command.stdin(reader.try_clone().unwrap());
        let call = Call::start(command);
        writer.write_all(b"one\n").unwrap();
        until("the first line is read, and there is no other", || {
            rustix::io::ioctl_fionread(&reader).unwrap() == 0
        });
        writer.write_all(b"two\n").unwrap();
        drop(writer);
        call.finish().ended(0);
        assert_eq!(site.read("x"), b"one\ntwo\n");
    });
}

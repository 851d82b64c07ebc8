//! Reading files while tools write them.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use notapipe::fuse::Profile;
use notapipe::{Error, Event, Follow, Interrupt, Scratch, Step};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::support::as_ordinary_user;

/// Far longer than anything here takes; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(60);

fn observed() -> Scratch {
    let builder = Scratch::builder().profile(Profile::Observed);
    builder.build().unwrap()
}

fn follow(scratch: &Scratch, path: &str) -> Follow {
    scratch.follow(path).unwrap().timeout(PATIENCE)
}

fn text(follow: &mut Follow) -> String {
    let mut text = String::new();
    follow.read_to_string(&mut text).unwrap();
    text
}

/// The next `len` bytes.
fn next(follow: &mut Follow, len: usize) -> String {
    let mut bytes = vec![0; len];
    follow.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Runs `script`, which goes on with each line that `tell` gets, while `look` looks.
fn beside(scratch: &Scratch, script: &str, look: impl FnOnce(&mut dyn FnMut())) {
    let (stdin, mut writer) = std::io::pipe().unwrap();
    thread::scope(|scope| {
        let step = Step::new(["sh", "-c", script]).stdin_fd(stdin);
        let runs = scope.spawn(move || scratch.run(step).unwrap());
        look(&mut || writer.write_all(b"\n").unwrap());
        drop(writer);
        let report = runs.join().unwrap();
        let stderr = report.stderr.to_text();
        assert!(report.status.exit.success(), "{script}: {stderr}");
    });
}

#[test]
fn bytes_come_as_they_are_written_and_end_with_the_last_writer() {
    let play = || {
        let scratch = observed();
        let mut log = follow(&scratch, "log");
        let script = "exec > log; echo one; read x; echo two; read x; (read x; echo three) & wait";
        beside(&scratch, script, |go_on| {
            assert_eq!(next(&mut log, 4), "one\n");
            go_on();
            assert_eq!(next(&mut log, 4), "two\n");
            let mut none = [0; 8];
            assert_eq!(log.try_read(&mut none).unwrap(), None);
        });
        assert_eq!(text(&mut log), "three\n");
        assert_eq!(log.read(&mut [0; 8]).unwrap(), 0, "the end stays");
        assert_eq!(log.rewritten(), []);
        drop(log);
        scratch.unmount().unwrap();
    };
    play();
    as_ordinary_user(play);
}

#[test]
fn two_writers_must_both_be_done() {
    let scratch = observed();
    let mut log = follow(&scratch, "log");
    beside(
        &scratch,
        "exec 3> log 4>> log; echo a >&3; exec 3>&-; read x; echo b >&4",
        |go_on| {
            assert_eq!(next(&mut log, 2), "a\n");
            thread::sleep(Duration::from_millis(20));
            assert_eq!(log.try_read(&mut [0; 8]).unwrap(), None);
            go_on();
            assert_eq!(text(&mut log), "b\n");
        },
    );
}

#[test]
fn what_was_written_before_is_given_too_and_what_was_staged_is_not() {
    let scratch = observed();
    scratch.run(["sh", "-c", "echo old > out"]).unwrap();
    assert_eq!(text(&mut follow(&scratch, "out")), "old\n");

    scratch.write("api", "written").unwrap();
    assert_eq!(text(&mut follow(&scratch, "api")), "written");

    let tree = crate::support::tree_with(&[("out", b"staged")]);
    let scratch = Scratch::builder()
        .profile(Profile::Observed)
        .tree(tree)
        .build()
        .unwrap();
    let mut out = follow(&scratch, "out");
    scratch.run(["cat", "out"]).unwrap();
    assert_eq!(out.try_read(&mut [0; 8]).unwrap(), None);
    scratch
        .run(["sh", "-c", "rm out; echo made > new; mv new out"])
        .unwrap();
    assert_eq!(text(&mut out), "made\n");
}

#[test]
fn a_file_is_followed_whatever_becomes_of_its_name() {
    let scratch = observed();
    let mut log = follow(&scratch, "log");
    beside(
        &scratch,
        "exec 3> log; echo a >&3; read x; mv log old; echo b >&3; rm old; echo c >&3; echo other > log",
        |go_on| {
            assert_eq!(next(&mut log, 2), "a\n");
            go_on();
        },
    );
    assert_eq!(text(&mut log), "b\nc\n");
    let bytes = scratch.usage().bytes;
    drop(log);
    // Once the kernel has forgotten it as well, which it tells in its own time.
    let deadline = Instant::now() + PATIENCE;
    while scratch.usage().bytes >= bytes {
        assert!(
            Instant::now() < deadline,
            "the file goes with its last reader"
        );
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn what_is_written_again_is_reported() {
    let scratch = observed();
    let mut log = follow(&scratch, "log");
    let script = "exec /usr/bin/python3 -c \"
import os, sys
f = os.open('log', os.O_CREAT | os.O_WRONLY)
os.write(f, b'0123456789')
sys.stdin.readline()
os.pwrite(f, b'ab', 2)
os.pwrite(f, b'c', 7)
os.pwrite(f, b'tail', 10)
sys.stdin.readline()
os.pwrite(f, b'T', 10)
sys.stdin.readline()
os.ftruncate(f, 9)
os.lseek(f, 0, 2)
os.write(f, b'9TAIL+')
\"";
    beside(&scratch, script, |go_on| {
        assert_eq!(next(&mut log, 10), "0123456789");
        go_on();
        assert_eq!(next(&mut log, 1), "t");
        go_on();
        // The rest of the tail, and what was changed after it was given.
        assert_eq!(next(&mut log, 3), "ail");
        let began = Instant::now();
        while log.rewritten() != [2..4, 7..8, 10..11] {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{:?}",
                log.rewritten()
            );
            thread::sleep(Duration::from_millis(1));
        }
        go_on();
        assert_eq!(text(&mut log), "+");
    });
    assert_eq!(log.rewritten(), [2..4, 7..8, 9..14]);
}

#[test]
fn what_a_tool_maps_arrives_before_the_end() {
    let scratch = observed();
    let mut log = follow(&scratch, "log");
    let script = "import mmap, os
f = os.open('log', os.O_CREAT | os.O_RDWR)
os.ftruncate(f, 5)
m = mmap.mmap(f, 5)
os.close(f)
m[:] = b'hello'
";
    thread::scope(|scope| {
        let reader = scope.spawn(|| text(&mut log));
        scratch.run(["/usr/bin/python3", "-c", script]).unwrap();
        assert_eq!(reader.join().unwrap().len(), 5);
    });
    // The hole may have been given before the page came: then that is told.
    let rewritten = log.rewritten();
    assert!(
        rewritten.is_empty() || rewritten.iter().eq(&[0..5; 1]),
        "{rewritten:?}"
    );
    assert_eq!(scratch.read("log").unwrap(), "hello");
}

#[test]
fn nobody_opens_it_until_the_deadline() {
    let scratch = observed();
    let began = Instant::now();
    let mut never = scratch
        .follow("never")
        .unwrap()
        .timeout(Duration::from_millis(30));
    let error = never.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= Duration::from_millis(30));
}

#[test]
fn an_interrupt_ends_the_wait() {
    let scratch = observed();
    let interrupt = Interrupt::new().unwrap();
    let mut never = scratch
        .follow("never")
        .unwrap()
        .interrupt(interrupt.clone());
    thread::scope(|scope| {
        let reader = scope.spawn(move || never.read_to_end(&mut Vec::new()));
        interrupt.raise();
        let error = reader.join().unwrap().unwrap_err();
        let inside = error.get_ref().and_then(|it| it.downcast_ref::<Error>());
        assert!(matches!(inside, Some(Error::Cancelled)));
    });
}

#[test]
fn unmounting_ends_the_wait() {
    let scratch = observed();
    let mut never = follow(&scratch, "never");
    thread::scope(|scope| {
        let reader = scope.spawn(move || never.read(&mut [0; 8]));
        thread::sleep(Duration::from_millis(20));
        let began = Instant::now();
        scratch.unmount().unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    });
}

/// The kernel tells of closes in its own time, and takes down the mount without waiting for that.
#[test]
fn a_mount_that_goes_right_after_its_last_writer_is_the_end_too() {
    for _ in 0..40 {
        let scratch = observed();
        let mut log = follow(&scratch, "log");
        let watch = scratch.watch("log").unwrap();
        scratch.run(["sh", "-c", "echo hello > log"]).unwrap();
        scratch.unmount().unwrap();
        assert_eq!(text(&mut log), "hello\n");
        let events: Vec<_> = watch.collect();
        let last = events.last().unwrap();
        assert!(
            matches!(last, Event::Closed { writable: true, .. }),
            "{events:?}"
        );
    }
}

#[test]
fn a_directory_is_not_followed() {
    let scratch = observed();
    scratch.create_dir("d").unwrap();
    let error = follow(&scratch, "d").read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::IsADirectory);
}

#[test]
fn a_follower_is_readable_while_there_is_something() {
    let scratch = observed();
    let mut log = follow(&scratch, "log");
    let readable = |log: &Follow, timeout| {
        let mut events = [PollFd::from_borrowed_fd(log.as_fd(), PollFlags::IN)];
        poll(&mut events, Some(&Timespec::try_from(timeout).unwrap())).unwrap() > 0
    };
    assert_eq!(log.try_read(&mut [0; 8]).unwrap(), None);
    assert!(!readable(&log, Duration::ZERO));
    let mut file = scratch.create("log").unwrap();
    file.write_all(b"ab").unwrap();
    assert!(readable(&log, PATIENCE));
    assert_eq!(log.try_read(&mut [0; 1]).unwrap(), Some(1));
    assert!(readable(&log, Duration::ZERO), "there is more");
    assert_eq!(log.try_read(&mut [0; 8]).unwrap(), Some(1));
    assert_eq!(log.try_read(&mut [0; 8]).unwrap(), None);
    assert!(!readable(&log, Duration::ZERO));
    drop(file);
    assert!(readable(&log, PATIENCE));
    assert_eq!(log.try_read(&mut [0; 8]).unwrap(), Some(0));
}

#[test]
fn much_arrives_whole_while_it_is_written() {
    let scratch = observed();
    let mut followers = [follow(&scratch, "big"), follow(&scratch, "big")];
    thread::scope(|scope| {
        let readers = followers.each_mut().map(|it| {
            scope.spawn(move || {
                let mut all = Vec::new();
                it.read_to_end(&mut all).unwrap();
                all
            })
        });
        let made = "seq 1 2000000 > big";
        scratch.run(["sh", "-c", made]).unwrap();
        let expected = scratch.read("big").unwrap();
        for reader in readers {
            assert!(reader.join().unwrap() == expected);
        }
    });
    assert!(followers.iter().all(|it| it.rewritten().is_empty()));
}

//! Files that are made when a tool first reaches for them.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use notapipe::fuse::Profile;
use notapipe::store::Limits;
use notapipe::{Error, Job, Scratch, Source};

use crate::support::as_ordinary_user;
use crate::support::site::until;

/// Far longer than anything here takes; only a hang gets there.
const PATIENCE: Duration = Duration::from_secs(60);
/// For what must not wait for a source that takes for ever.
const SOON: Duration = Duration::from_millis(1500);

/// A scratch directory of either profile.
fn both(play: impl Fn(&Scratch)) {
    for profile in [Profile::Fast, Profile::Observed] {
        let scratch = Scratch::builder().profile(profile).build().unwrap();
        play(&scratch);
        scratch.unmount().unwrap();
    }
}

/// A source of these bytes, and how often it was asked for them.
fn counted(bytes: &'static str) -> (Source, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let source = Source::new(move || {
        counter.fetch_add(1, Ordering::SeqCst);
        Ok(bytes)
    });
    (source, count)
}

/// A source that waits until the sender is used or gone.
fn gated(bytes: &'static str) -> (Source, mpsc::Sender<()>) {
    let (open, gate) = mpsc::channel();
    let source = Source::new(move || {
        let _ = gate.recv();
        Ok(bytes)
    });
    (source, open)
}

fn said(scratch: &Scratch, script: &str) -> String {
    let report = scratch.run(["sh", "-c", script]).unwrap();
    let stderr = report.stderr.to_text();
    assert!(report.status.exit.success(), "{script}: {stderr}");
    report.stdout.to_text().to_string()
}

#[test]
fn a_source_runs_once_and_only_when_its_file_is_reached_for() {
    both(|scratch| {
        let (source, asked) = counted("hello");
        let (unused, never_asked) = counted("unused");
        scratch.write_source("dir/a", source).unwrap();
        scratch.write_source("dir/unused", unused).unwrap();
        assert_eq!(
            said(scratch, "ls dir; echo dir/*"),
            "a\nunused\ndir/a dir/unused\n"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 0, "listing is not reaching");
        assert_eq!(
            said(scratch, "cat dir/a; wc -c < dir/a; stat -c %s dir/a"),
            "hello5\n5\n"
        );
        assert_eq!(scratch.read("dir/a").unwrap(), "hello");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        assert_eq!(never_asked.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn it_works_as_an_ordinary_user() {
    as_ordinary_user(|| {
        both(|scratch| {
            scratch
                .write_source("a", Source::new(|| Ok("hello")))
                .unwrap();
            assert_eq!(said(scratch, "cat a"), "hello");
        })
    });
}

#[test]
fn every_first_request_waits_for_it() {
    let first_requests = [
        ("stat -c %s a", "5\n"),
        ("ls -l a | awk '{print $5}'", "5\n"),
        ("ls -l . | awk '/ a$/ {print $5}'", "5\n"),
        ("cat a", "hello"),
        ("printf ! >> a; cat a", "hello!"),
        ("truncate -s 2 a; cat a", "he"),
        (
            "dd if=/dev/zero bs=1 count=1 seek=1 conv=notrunc of=a 2>/dev/null; tr '\\0' _ < a",
            "h_llo",
        ),
        ("cp a b; cat b", "hello"),
        ("mv a b; cat b", "hello"),
        ("ln a b; cat b", "hello"),
        ("echo new > a; cat a", "new\n"),
        ("chmod 700 a; stat -c %a.%s a", "700.5\n"),
        ("tail -c 2 a", "lo"),
        ("tar c a | tar xO", "hello"),
        (
            "/usr/bin/python3 -c 'import mmap; f = open(\"a\", \"r+b\"); print(mmap.mmap(f.fileno(), 0)[:].decode())'",
            "hello\n",
        ),
        ("rm a; ls", ""),
    ];
    for size in [None, Some(5)] {
        for (script, expected) in first_requests {
            both(|scratch| {
                let source = Source::new(|| {
                    thread::sleep(Duration::from_millis(5));
                    Ok("hello")
                });
                let source = match size {
                    Some(size) => source.size(size),
                    None => source,
                };
                scratch.write_source("a", source).unwrap();
                assert_eq!(said(scratch, script), expected, "{script}, size {size:?}");
            });
        }
    }
}

#[test]
fn a_known_size_can_be_looked_at_without_making_it() {
    both(|scratch| {
        let (source, asked) = counted("0123456789");
        scratch.write_source("a", source.size(10)).unwrap();
        assert_eq!(
            said(
                scratch,
                "stat -c %s a; ls -l a | awk '{print $5}'; mv a b; du -b b | cut -f1"
            ),
            "10\n10\n10\n"
        );
        assert_eq!(scratch.metadata("b").unwrap().size, 10);
        assert_ne!(
            said(scratch, "stat -c %b b"),
            "0\n",
            "no hole, or cp would make one of it"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        assert_eq!(said(scratch, "tail -c 3 b"), "789");
        assert_eq!(said(scratch, "stat -c %s b"), "10\n");
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn others_go_on_while_one_waits() {
    both(|scratch| {
        let (source, open) = gated("late");
        scratch.write_source("slow", source).unwrap();
        scratch.write("fast", "fast").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| said(scratch, "cat slow & cat slow & wait; cat slow"));
            let api = scope.spawn(|| scratch.read("slow").unwrap());
            thread::sleep(Duration::from_millis(50));
            assert_eq!(scratch.read("fast").unwrap(), "fast");
            assert!(scratch.list(".").unwrap().len() == 2);
            assert!(!waiting.is_finished());
            open.send(()).unwrap();
            assert_eq!(waiting.join().unwrap(), "latelatelate");
            assert_eq!(api.join().unwrap(), "late");
        });
    });
}

#[test]
fn processes_of_the_mount_go_on_while_one_of_them_waits() {
    both(|scratch| {
        let (source, open) = gated("late");
        scratch.write_source("slow", source).unwrap();
        scratch.write("fast", "fast").unwrap();
        // The signal to go on comes from a process that has read in the directory where the other waits.
        let host = tempfile::tempdir().unwrap();
        let has_read = host.path().join("has-read");
        thread::scope(|scope| {
            let script = format!(
                "cat slow & cat fast; stat -c %s fast; : > {}; ls > /dev/null; wait",
                has_read.display()
            );
            let watcher = scope.spawn(move || {
                until("a process has read", || has_read.exists());
                open.send(()).unwrap();
            });
            let began = Instant::now();
            assert_eq!(said(scratch, &script), "fast4\nlate");
            assert!(began.elapsed() < SOON);
            watcher.join().unwrap();
        });
    });
}

#[test]
fn a_source_of_known_size_may_wait_for_another_file_of_the_mount() {
    both(|scratch| {
        let (tell, told) = mpsc::channel();
        let source = Source::new(move || {
            let _ = told.recv_timeout(PATIENCE);
            Ok("answer")
        });
        scratch.write_source("answer", source.size(6)).unwrap();
        thread::scope(|scope| {
            let looks = scope.spawn(move || {
                while !scratch.exists("question").unwrap() {
                    thread::sleep(Duration::from_millis(2));
                }
                tell.send(()).unwrap();
            });
            assert_eq!(
                said(scratch, "cat answer & sleep 0.05; echo ? > question; wait"),
                "answer"
            );
            looks.join().unwrap();
        });
    });
}

#[test]
fn more_sources_than_threads_are_all_made() {
    both(|scratch| {
        for n in 0..40 {
            let source = Source::reader(move || {
                thread::sleep(Duration::from_millis(3));
                Ok(io::Cursor::new(format!("{n}\n")))
            });
            scratch.write_source(format!("{n:02}"), source).unwrap();
        }
        let all: String = (0..40).map(|n| format!("{n}\n")).collect();
        assert_eq!(
            said(
                scratch,
                "for f in *; do cat $f > /dev/null & done; wait; cat *"
            ),
            all
        );
    });
}

#[test]
fn a_large_reader_arrives_whole() {
    both(|scratch| {
        let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_le_bytes).collect();
        let copy = io::Cursor::new(bytes.clone());
        scratch
            .write_source("big", Source::reader(move || Ok(copy)))
            .unwrap();
        assert_eq!(said(scratch, "wc -c < big"), "12000000\n");
        assert!(scratch.read("big").unwrap() == bytes);
    });
}

fn failing() -> Source {
    Source::new(|| Err::<&str, _>(io::Error::other("no such page")))
}

#[test]
fn a_source_that_fails_is_eio_for_the_tool_and_names_the_file_for_the_caller() {
    both(|scratch| {
        scratch.write_source("a", failing()).unwrap();
        scratch.write_source("b", failing().size(7)).unwrap();
        for name in ["a", "b"] {
            let report = scratch.run(["cat", name]).unwrap();
            assert!(report.stderr.to_text().contains("Input/output error"));
            let error = scratch.read(name).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the source of \"{name}\" failed: no such page")
            );
            let error = scratch.open(name).unwrap().read(&mut [0; 4]).unwrap_err();
            assert_eq!(error.to_string(), "no such page");
        }
        scratch.write("a", "better").unwrap();
        assert_eq!(said(scratch, "cat a"), "better");
        scratch.remove("b").unwrap();
    });
}

#[test]
fn a_source_that_fails_fails_its_job() {
    let ignored = Job::new()
        .input_source("in/page", failing())
        .step(["sh", "-c", "cat in/page; exit 3"])
        .run();
    let error = ignored.unwrap_err().error;
    assert!(matches!(&error, Error::Source { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "the source of \"in/page\" failed: no such page"
    );

    let unused = Job::new()
        .input_source("page", failing())
        .step(["sh", "-c", "echo 1 > out"])
        .output("out");
    assert_eq!(unused.run().unwrap().output("out").unwrap(), "1\n");
}

#[test]
fn a_panic_in_a_source_fails_that_file_alone() {
    let panicking = || Source::new(|| -> io::Result<&str> { panic!("the closure broke") });
    both(|scratch| {
        scratch.write_source("a", panicking()).unwrap();
        scratch
            .write_source("b", Source::new(|| Ok("whole")))
            .unwrap();
        assert!(!scratch.run(["cat", "a"]).unwrap().status.exit.success());
        assert_eq!(said(scratch, "cat b"), "whole");
    });
    let error = Job::new()
        .input_source("a", panicking())
        .step(["cat", "a"])
        .run()
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the source of \"a\" failed: it panicked: the closure broke"
    );
}

#[test]
fn a_wrong_size_is_a_failure() {
    both(|scratch| {
        for (name, size) in [("less", 9), ("more", 3)] {
            scratch
                .write_source(name, Source::new(|| Ok("hello")).size(size))
                .unwrap();
            let error = scratch.read(name).unwrap_err().to_string();
            assert!(
                error.contains(&format!("{name} than the {size} bytes")),
                "{error}"
            );
        }
    });
}

#[test]
fn what_does_not_fit_is_a_failure_that_says_so() {
    let limits = Limits {
        bytes: 1 << 20,
        inodes: 100,
    };
    let job = Job::new()
        .limits(limits)
        .input_source("big", Source::new(|| Ok(vec![1; 2 << 20])))
        .step(["cat", "big"]);
    let error = job.run().unwrap_err().to_string();
    assert_eq!(
        error,
        "the source of \"big\" failed: the limit on bytes is reached"
    );

    let unopened = Job::new()
        .limits(limits)
        .input_source("big", Source::new(|| Ok(vec![1; 2 << 20])).size(2 << 20))
        .step(["stat", "big"]);
    unopened.run().unwrap();
}

#[test]
fn a_source_does_not_outlive_the_deadline_of_its_job() {
    for size in [None, Some(4)] {
        for profile in [Profile::Fast, Profile::Observed] {
            let (mut source, _never) = gated("late");
            if let Some(size) = size {
                source = source.size(size);
            }
            let began = Instant::now();
            let job = Job::new()
                .profile(profile)
                .input_source("slow", source)
                .step(["sh", "-c", "cat slow & cat slow"])
                .timeout(Duration::from_millis(100));
            let error = job.run().unwrap_err().error;
            assert!(matches!(error, Error::Timeout { .. }), "{error}");
            assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
        }
    }
}

#[test]
fn what_waits_for_a_source_when_the_steps_are_done_is_ended() {
    let (source, _never) = gated("late");
    let began = Instant::now();
    let job = Job::new().input_source("slow", source).step([
        "sh",
        "-c",
        "cat slow >/dev/null 2>&1 & exit 0",
    ]);
    job.run().unwrap();
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
}

#[test]
fn unmounting_does_not_wait_for_a_source() {
    both(|scratch| drop(scratch.write_source("never", Source::new(|| Ok("")))));
    for profile in [Profile::Fast, Profile::Observed] {
        let scratch = Scratch::builder().profile(profile).build().unwrap();
        let (source, _never) = gated("late");
        let (other, open) = gated("late");
        scratch.write_source("slow", source.size(4)).unwrap();
        scratch.write_source("other", other).unwrap();
        let mut file = scratch.open("slow").unwrap();
        thread::scope(|scope| {
            let reader = scope.spawn(move || file.read(&mut [0; 4]));
            thread::sleep(Duration::from_millis(20));
            let began = Instant::now();
            scratch.unmount().unwrap();
            assert!(began.elapsed() < SOON);
            assert!(reader.join().unwrap().is_err());
        });
        drop(open);
    }
}

#[test]
fn what_was_not_made_is_not_in_the_tree_that_is_left() {
    let scratch = Scratch::new().unwrap();
    scratch
        .write_source("made", Source::new(|| Ok("1")))
        .unwrap();
    scratch
        .write_source("d/unmade", Source::new(|| Ok("2")).size(1))
        .unwrap();
    said(&scratch, "cat made; ln d/unmade d/also");
    let names = |tree| crate::support::names(&tree);
    assert_eq!(names(scratch.snapshot()), ["d", "made"]);
    let remains = scratch.into_remains().unwrap();
    assert_eq!(remains.tree.usage().inodes, 3);
    assert_eq!(names(remains.tree), ["d", "made"]);
}

#[test]
fn a_file_is_made_also_when_its_name_is_gone() {
    both(|scratch| {
        let (source, _) = counted("hello");
        scratch.write_source("a", source.size(5)).unwrap();
        assert_eq!(said(scratch, "exec 3< a; rm a; cat <&3"), "hello");
        let (source, _) = counted("hello");
        scratch.write_source("a", source.size(5)).unwrap();
        let mut file = scratch.open("a").unwrap();
        scratch.remove("a").unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
    });
}

#[test]
fn an_open_file_makes_its_content_when_it_is_used() {
    both(|scratch| {
        let (source, asked) = counted("hello");
        scratch.write_source("a", source).unwrap();
        let mut file = scratch.open("a").unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        assert_eq!(file.seek(SeekFrom::End(-1)).unwrap(), 4);
        file.write_all(b"O!").unwrap();
        assert_eq!(said(scratch, "cat a"), "hellO!");
        scratch.write_source("b", Source::new(|| Ok("x"))).unwrap();
        scratch.create("b").unwrap().write_all(b"y").unwrap();
        assert_eq!(said(scratch, "cat b"), "y");
        scratch.write_source("c", Source::new(|| Ok("x"))).unwrap();
        scratch.append("c", "y").unwrap();
        assert_eq!(said(scratch, "cat c"), "xy");
    });
}

#[test]
fn a_source_may_take_the_place_of_a_file_and_the_other_way_round() {
    both(|scratch| {
        scratch.write("a", "old").unwrap();
        assert_eq!(said(scratch, "cat a"), "old");
        scratch
            .write_source("a", Source::new(|| Ok("made")))
            .unwrap();
        assert_eq!(said(scratch, "cat a"), "made");
        let (source, asked) = counted("unused");
        scratch.write_source("a", source).unwrap();
        scratch.write("a", "new").unwrap();
        assert_eq!(said(scratch, "cat a"), "new");
        assert_eq!(asked.load(Ordering::SeqCst), 0);
        scratch.create_dir("d").unwrap();
        assert!(scratch.write_source("d", Source::new(|| Ok(""))).is_err());
    });
}

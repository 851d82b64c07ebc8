//! Open files of a scratch directory, and the rest of what one does with files: both sides see the same.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::thread;
use std::time::Duration;

use notapipe::fuse::Profile;
use notapipe::store::{Limits, StoreError};
use notapipe::{Error, Scratch, Step};

use crate::support::as_ordinary_user;

/// A scratch directory of either profile.
fn both(play: impl Fn(&Scratch)) {
    for profile in [Profile::Fast, Profile::Observed] {
        let scratch = Scratch::builder().profile(profile).build().unwrap();
        play(&scratch);
        scratch.unmount().unwrap();
    }
}

fn said(scratch: &Scratch, script: &str) -> String {
    let report = scratch.run(["sh", "-c", script]).unwrap();
    let stderr = report.stderr.to_text();
    assert!(report.status.exit.success(), "{script}: {stderr}");
    report.stdout.to_text().to_string()
}

fn text(mut file: impl Read) -> String {
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn it_reads_writes_and_seeks_as_a_file_does() {
    let play = |scratch: &Scratch| {
        let mut file = scratch.create("dir/a").unwrap();
        file.write_all(b"0123456789").unwrap();
        assert_eq!(file.seek(SeekFrom::Start(2)).unwrap(), 2);
        file.write_all(b"ab").unwrap();
        assert_eq!(file.stream_position().unwrap(), 4);
        assert_eq!(text(&file), "456789");
        assert_eq!(file.seek(SeekFrom::End(3)).unwrap(), 13);
        assert_eq!(file.read(&mut [0; 4]).unwrap(), 0);
        file.write_all(b"!").unwrap();
        assert_eq!(scratch.read("dir/a").unwrap(), "01ab456789\0\0\0!");
        assert_eq!(said(scratch, "tr '\\0' _ < dir/a"), "01ab456789___!");
        file.set_len(3).unwrap();
        assert_eq!(file.metadata().unwrap().size, 3);
        assert_eq!(said(scratch, "cat dir/a; stat -c %s dir/a"), "01a3\n");
        assert_eq!(
            file.seek(SeekFrom::Current(-100)).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    };
    both(play);
    as_ordinary_user(move || both(play));
}

#[test]
fn clones_share_the_position() {
    both(|scratch| {
        scratch.write("a", "abcdef").unwrap();
        let mut file = scratch.open("a").unwrap();
        let mut other = file.clone();
        file.read_exact(&mut [0; 2]).unwrap();
        assert_eq!(text(&mut other), "cdef");
        assert_eq!(file.stream_position().unwrap(), 6);
        let mut own = scratch.open("a").unwrap();
        assert_eq!(own.stream_position().unwrap(), 0);
    });
}

#[test]
fn options_mean_what_they_mean_elsewhere() {
    both(|scratch| {
        let refused = |result: Result<_, Error>| match result {
            Err(Error::Scratch { error, .. }) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(scratch.open("none")), StoreError::NotFound);
        scratch.create_dir("d").unwrap();
        assert_eq!(refused(scratch.open("d")), StoreError::IsDirectory);
        assert_eq!(refused(scratch.open("d/none/a")), StoreError::NotFound);
        scratch.symlink("s", "a").unwrap();
        assert_eq!(refused(scratch.open("s")), StoreError::NotSupported);
        scratch
            .options()
            .create_new(true)
            .write(true)
            .open("a")
            .unwrap();
        let again = scratch.options().create_new(true).write(true).open("a");
        assert_eq!(refused(again), StoreError::Exists);

        let mut reader = scratch.options().read(true).open("a").unwrap();
        assert!(reader.write(b"x").is_err());
        assert!(reader.set_len(1).is_err());
        let mut writer = scratch.options().write(true).open("a").unwrap();
        assert!(writer.read(&mut [0]).is_err());
        writer.write_all(b"abc").unwrap();
        assert_eq!(text(reader), "abc");
        let mut log = scratch.options().append(true).read(true).open("a").unwrap();
        said(scratch, "printf def >> a");
        log.write_all(b"ghi").unwrap();
        assert_eq!(said(scratch, "printf jkl >> a; cat a"), "abcdefghijkl");
        drop(
            scratch
                .options()
                .write(true)
                .truncate(true)
                .open("a")
                .unwrap(),
        );
        assert_eq!(scratch.read("a").unwrap(), "");
    });
}

#[test]
fn a_process_appends_at_the_end_that_is_there() {
    both(|scratch| {
        // Opened before, and looked at: what the kernel knows of the size is old. It is told after the write has
        // been answered, and takes what it is told of the size meanwhile for older than that: so soon, not at once.
        let program = "import time
def soon(what):
  late = time.monotonic() + 30
  while (seen := os.pread(f, 20000, 0)) != what: assert time.monotonic() < late, seen
f = os.open('a', os.O_RDWR | os.O_APPEND | os.O_CREAT)
os.write(f, b'long before')
assert os.fstat(f).st_size == 11
stop()
os.write(f, b'+one')
soon(b'short+one')
os.write(f, b'+two')
stop()
os.write(f, b'+three')
os.write(f, b'P' * 8192)
stop()
soon(b'much longer than before+three' + b'P' * 8192)";
        dialogue(scratch, program, |go_on| {
            scratch.write("a", "short").unwrap();
            go_on();
            assert_eq!(scratch.read("a").unwrap(), "short+one+two");
            scratch.write("a", "much longer than before").unwrap();
            go_on();
            let whole = format!("much longer than before+three{}", "P".repeat(8192));
            assert_eq!(scratch.read("a").unwrap(), whole);
        });
        scratch.write("b", "0123456789").unwrap();
        said(scratch, "cat b; stat b");
        scratch.write("b", "01").unwrap();
        assert_eq!(said(scratch, "printf ! >> b; cat b"), "01!");
        scratch.append("b", "23").unwrap();
        assert_eq!(said(scratch, "printf ! >> b; cat b"), "01!23!");
    });
}

/// Runs a python program that stops at each line that it reads, and says "ok" when it got there.
fn dialogue(scratch: &Scratch, program: &str, talk: impl FnOnce(&mut dyn FnMut())) {
    let (stdin, mut writer) = std::io::pipe().unwrap();
    let (mut reader, stdout) = std::io::pipe().unwrap();
    let program = format!(
        "import mmap, os, sys\ndef stop():\n  print('ok', flush=True)\n  sys.stdin.readline()\n{program}"
    );
    thread::scope(|scope| {
        let step = Step::new(["/usr/bin/python3", "-c", &program])
            .stdin_fd(stdin)
            .stdout_fd(stdout);
        let runs = scope.spawn(move || scratch.run(step).unwrap());
        let mut ok = [0; 3];
        reader.read_exact(&mut ok).unwrap();
        talk(&mut || {
            writer.write_all(b"\n").unwrap();
            reader.read_exact(&mut ok).unwrap();
        });
        drop(writer);
        let report = runs.join().unwrap();
        assert!(report.status.exit.success(), "{}", report.stderr.to_text());
    });
}

#[test]
fn it_reads_what_a_process_changed_through_a_mapping_that_stands() {
    both(|scratch| {
        scratch.write("a", "x".repeat(10_000)).unwrap();
        let mut file = scratch.open("a").unwrap();
        let program = "m = mmap.mmap(os.open('a', os.O_RDWR), 10000)
m[5000:5005] = b'hello'
stop()
m[5000:5005] = b'HELLO'
stop()";
        dialogue(scratch, program, |go_on| {
            let mut read = || {
                let mut bytes = [0; 5];
                file.seek(SeekFrom::Start(5000)).unwrap();
                file.read_exact(&mut bytes).unwrap();
                bytes
            };
            assert_eq!(&read(), b"hello");
            go_on();
            assert_eq!(&read(), b"HELLO");
        });
    });
}

#[test]
fn processes_see_what_is_written_also_in_mappings_that_stand() {
    both(|scratch| {
        scratch.write("a", "x".repeat(10_000)).unwrap();
        let mut file = scratch.open("a").unwrap();
        let program = "f = os.open('a', os.O_RDWR)
m = mmap.mmap(f, 10000)
m[0:1] = b'y'
assert m[5000:5005] == b'xxxxx' and os.pread(f, 5, 5000) == b'xxxxx'
stop()
assert m[5000:5005] == b'hello', m[5000:5005]
assert os.pread(f, 5, 5000) == b'hello'
assert os.fstat(f).st_size == 10001
stop()
assert os.fstat(f).st_size == 6000
assert os.pread(f, 9000, 5000) == b'hello' + b'x' * 995";
        dialogue(scratch, program, |go_on| {
            file.seek(SeekFrom::Start(5000)).unwrap();
            file.write_all(b"hello").unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b"!").unwrap();
            go_on();
            file.set_len(6000).unwrap();
        });
        assert_eq!(
            &scratch.read("a").unwrap()[..2],
            b"yx",
            "what was mapped is kept"
        );
    });
}

#[test]
fn it_lives_without_a_name_and_goes_with_its_last_handle() {
    both(|scratch| {
        let before = scratch.usage();
        let mut file = scratch.create("a").unwrap();
        file.write_all(&[b'x'; 100_000]).unwrap();
        said(scratch, "cat a > /dev/null; rm a");
        assert!(scratch.usage().bytes > before.bytes);
        let clone = file.clone();
        drop(file);
        (&clone).rewind().unwrap();
        assert_eq!(text(&clone).len(), 100_000);
        (&clone).write_all(b"more").unwrap();
        drop(clone);
        for _ in 0..200 {
            // The kernel forgets it in its own time.
            if scratch.usage() == before {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(scratch.usage(), before);
    });
}

#[test]
fn it_outlives_the_mount() {
    for profile in [Profile::Fast, Profile::Observed] {
        let scratch = Scratch::builder().profile(profile).build().unwrap();
        scratch.write("a", "hello").unwrap();
        let mut file = scratch.open("a").unwrap();
        scratch.unmount().unwrap();
        assert_eq!(text(&file), "hello");
        file.write_all(b"!").unwrap();
    }
}

#[test]
fn a_write_over_the_limit_is_short_and_then_refused() {
    let limits = Limits {
        bytes: 64 << 10,
        inodes: 10,
    };
    let scratch = Scratch::builder().limits(limits).build().unwrap();
    let mut file = scratch.create("a").unwrap();
    assert_eq!(file.write(&[1; 100_000]).unwrap(), 64 << 10);
    assert_eq!(file.write(&[1]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(matches!(
        scratch.append("a", "x"),
        Err(Error::Scratch {
            error: StoreError::NoSpace(_),
            ..
        })
    ));
    file.set_len((64 << 10) - 10).unwrap();
    assert!(scratch.append("a", [1; 20]).is_err());
    assert_eq!(
        scratch.metadata("a").unwrap().size,
        (64 << 10) - 10,
        "all or nothing"
    );
    scratch.append("a", [1; 10]).unwrap();
}

#[test]
fn names_and_modes_change_on_both_sides() {
    both(|scratch| {
        scratch.write("a", "1").unwrap();
        scratch.write("d/e/f", "2").unwrap();
        let look = "stat -c '%n %a %h' * 2>&1 | sort; cat d/e/f 2>/dev/null; true";
        said(scratch, look);
        scratch.rename("a", "b").unwrap();
        scratch.set_mode("b", 0o750).unwrap();
        scratch.rename("d", "n/d").unwrap();
        assert_eq!(said(scratch, look), "b 750 1\nn 755 3\n");
        assert_eq!(said(scratch, "cat n/d/e/f; cat n/d/../../b"), "21");
        assert!(!scratch.exists("a").unwrap() && scratch.exists("n/d/e/f").unwrap());
        scratch.write("c", "replaced").unwrap();
        said(scratch, "cat c b");
        scratch.rename("b", "c").unwrap();
        assert_eq!(said(scratch, "cat c; ls"), "1c\nn\n");
        assert!(scratch.rename("n", "n/x").is_err());
        assert!(scratch.rename("none", "x").is_err());
        scratch.symlink("s/l", "../c").unwrap();
        assert_eq!(said(scratch, "cat s/l; readlink s/l"), "1../c\n");
        assert_eq!(scratch.read_link("s/l").unwrap().to_str(), Some("../c"));
        assert!(scratch.symlink("s/l", "x").is_err());
    });
}

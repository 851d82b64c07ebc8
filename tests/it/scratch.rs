//! `Scratch`: a directory in RAM for programs.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notapipe::mount::{MountError, MountOptions, Visibility};
use notapipe::run::Exit;
use notapipe::store::{Kind, Limits, PAGE_SIZE, PathError, Resource, StoreError};
use notapipe::{Error, Scratch, Stdin, Step};

use crate::support::chain;
use crate::support::site::{Puppet, in_own_process, mounts_below};

/// What a shell script prints in it.
fn shell(scratch: &Scratch, script: &str) -> String {
    let report = scratch.run(["sh", "-c", script]).unwrap();
    let status = report.status.exit;
    assert!(
        status.success(),
        "{script}: {status:?}: {}",
        report.stderr.to_text()
    );
    report.stdout.to_text()
}

/// The meaning of a refusal, and the path that it names.
fn refusal<T: std::fmt::Debug>(result: Result<T, Error>) -> (StoreError, String) {
    match result {
        Err(Error::Scratch { path, error, .. }) => (error, path.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn programs_and_commands_share_its_files() {
    in_own_process(|| {
        let scratch = Scratch::new().unwrap();
        scratch.write("in/a.txt", "b\na\n").unwrap();
        let report = scratch.run(["sort", "in/a.txt", "-o", "sorted"]).unwrap();
        assert!(report.status.exit.success());
        assert_eq!(scratch.read("sorted").unwrap(), "a\nb\n");
        let path = shell(&scratch, "pwd");
        assert_eq!(Path::new(path.trim_end()), scratch.path());
        scratch.unmount().unwrap();
    });
}

#[test]
fn a_file_is_written_read_and_replaced() {
    let scratch = Scratch::new().unwrap();
    for content in ["first", "a longer one", "", "x"] {
        scratch.write("deep/er/file", content).unwrap();
        assert_eq!(scratch.read("deep/er/file").unwrap(), content);
        assert_eq!(shell(&scratch, "cat deep/er/file"), content);
    }
    let big: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    scratch.write("big", &big).unwrap();
    assert!(scratch.read("big").unwrap() == big);
    let sum = shell(&scratch, "wc -c < big; tail -c 4 big | od -An -tu4");
    assert_eq!(
        sum.split_whitespace().collect::<Vec<_>>(),
        ["12000000", "2999999"]
    );
}

#[test]
fn what_was_read_does_not_change_afterwards() {
    let scratch = Scratch::new().unwrap();
    scratch.write("x", "before").unwrap();
    let before = scratch.read("x").unwrap();
    shell(&scratch, "printf after > x");
    scratch.write("x", "later!").unwrap();
    assert_eq!(before, "before");
}

#[test]
fn directories_are_made_listed_and_removed() {
    let scratch = Scratch::new().unwrap();
    scratch.create_dir("b/deep").unwrap();
    scratch.create_dir("b/deep").unwrap();
    scratch.write("a", "").unwrap();
    shell(&scratch, "mkdir c; touch b/x");
    let names = |path: &str| {
        let names = scratch.list(path).unwrap().into_iter();
        names
            .map(|name| name.into_os_string().into_string().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names("."),
        ["b", "a", "c"],
        "in the order in which they were made"
    );
    assert_eq!(names("b"), ["deep", "x"]);
    assert_eq!(names("c"), [""; 0]);
    scratch.remove("b").unwrap();
    assert_eq!(names("."), ["a", "c"]);
    assert_eq!(shell(&scratch, "ls"), "a\nc\n");
}

#[test]
fn metadata_tells_what_stat_tells() {
    let scratch = Scratch::new().unwrap();
    shell(
        &scratch,
        "echo 12345 > file; chmod 640 file; ln file other; ln -s nowhere link; mkdir -m 1777 dir; truncate -s 1G sparse",
    );
    for name in ["file", "other", "link", "dir", "sparse", "."] {
        let attr = scratch.metadata(name).unwrap();
        let kind = match attr.kind {
            Kind::File => "regular file",
            Kind::Directory => "directory",
            Kind::Symlink => "symbolic link",
            other => panic!("{other:?}"),
        };
        let ours = format!(
            "{kind} {:o} {} {} {} {}\n",
            attr.mode, attr.nlink, attr.size, attr.uid, attr.gid
        );
        assert_eq!(
            shell(&scratch, &format!("stat -c '%F %a %h %s %u %g' {name}")),
            ours,
            "{name}"
        );
    }
    assert_eq!(scratch.metadata("sparse").unwrap().blocks, 0);
}

#[test]
fn refusals_name_the_path_and_the_reason() {
    let scratch = Scratch::new().unwrap();
    scratch.create_dir("dir/below").unwrap();
    scratch.write("file", "").unwrap();
    shell(&scratch, "ln -s file link; mkfifo fifo");
    assert_eq!(
        refusal(scratch.read("gone")),
        (StoreError::NotFound, "gone".to_owned())
    );
    assert_eq!(
        refusal(scratch.read("dir")),
        (StoreError::IsDirectory, "dir".to_owned())
    );
    assert_eq!(refusal(scratch.read("file/x")).0, StoreError::NotDirectory);
    assert_eq!(
        refusal(scratch.write("dir", "x")).0,
        StoreError::IsDirectory
    );
    assert_eq!(
        refusal(scratch.write("file/x", "x")).0,
        StoreError::NotDirectory
    );
    assert_eq!(refusal(scratch.list("file")).0, StoreError::NotDirectory);
    assert_eq!(refusal(scratch.list("gone")).0, StoreError::NotFound);
    assert_eq!(
        refusal(scratch.create_dir("file")).0,
        StoreError::NotDirectory
    );
    assert_eq!(
        refusal(scratch.create_dir("file/x")).0,
        StoreError::NotDirectory
    );
    assert_eq!(refusal(scratch.remove("gone")).0, StoreError::NotFound);
    assert_eq!(refusal(scratch.metadata("gone")).0, StoreError::NotFound);
    let error = scratch.read("dir/gone").unwrap_err();
    assert_eq!(
        chain(&error).split(": ").next(),
        Some("cannot read \"dir/gone\"")
    );
}

#[test]
fn names_that_lead_out_are_refused() {
    let scratch = Scratch::new().unwrap();
    for (name, reason) in [
        ("../x", PathError::Climbs),
        ("a/../../x", PathError::Climbs),
        ("/etc/passwd", PathError::Absolute),
        ("", PathError::Empty),
    ] {
        let results = [
            scratch.write(name, "x"),
            scratch.create_dir(name),
            scratch.remove(name),
            scratch.read(name).map(drop),
            scratch.list(name).map(drop),
            scratch.metadata(name).map(drop),
        ];
        for result in results {
            match result {
                Err(Error::Name {
                    name: told, error, ..
                }) => {
                    assert_eq!((told, error), (PathBuf::from(name), reason));
                }
                other => panic!("{name:?}: {other:?}"),
            }
        }
    }
    assert_eq!(scratch.usage().inodes, 1);
}

#[test]
fn a_write_over_the_limit_changes_nothing() {
    let limits = Limits {
        bytes: 4 * PAGE_SIZE,
        inodes: 3,
    };
    let scratch = Scratch::builder().limits(limits).build().unwrap();
    scratch
        .write("x", vec![b'x'; 3 * PAGE_SIZE as usize])
        .unwrap();
    let too_much = vec![b'y'; 4 * PAGE_SIZE as usize + 1];
    assert_eq!(
        refusal(scratch.write("x", &too_much)).0,
        StoreError::NoSpace(Resource::Bytes)
    );
    assert_eq!(
        scratch.read("x").unwrap(),
        vec![b'x'; 3 * PAGE_SIZE as usize]
    );
    // Its own pages count as free for what takes its place.
    scratch.write("x", &too_much[1..]).unwrap();
    assert_eq!(scratch.usage().bytes, 4 * PAGE_SIZE);
    scratch.write("y", "").unwrap();
    assert_eq!(
        refusal(scratch.write("z", "")).0,
        StoreError::NoSpace(Resource::Inodes)
    );
    scratch.remove("x").unwrap();
    assert_eq!(scratch.usage().bytes, 0);
    assert_eq!(scratch.usage().inodes, 2);
}

#[test]
fn a_limit_that_a_command_met_is_told() {
    let limits = Limits {
        bytes: 1 << 20,
        inodes: 100,
    };
    let scratch = Scratch::builder().limits(limits).build().unwrap();
    assert_eq!(scratch.limit_met(), None);
    let report = scratch
        .run(["sh", "-c", "head -c 2M /dev/zero > x"])
        .unwrap();
    assert_eq!(report.status.exit, Exit::Code(1));
    assert!(report.stderr.to_text().contains("No space left"));
    assert_eq!(scratch.limit_met(), Some(Resource::Bytes));
    assert_eq!(
        scratch.into_remains().unwrap().limit_met,
        Some(Resource::Bytes)
    );
}

#[test]
fn a_status_other_than_0_is_no_error() {
    let scratch = Scratch::new().unwrap();
    let status = |words: &[&str]| scratch.run(words.to_vec()).unwrap().status.exit;
    assert_eq!(status(&["sh", "-c", "exit 9"]), Exit::Code(9));
    assert_eq!(status(&["sh", "-c", "kill -TERM $$"]), Exit::Signal(15));
    assert!(
        matches!(scratch.run(["no-such-tool"]), Err(Error::Spawn(error)) if error.exit_code() == 127)
    );
    assert!(matches!(scratch.run(["/etc"]), Err(Error::Spawn(error)) if error.exit_code() == 126));
    // And it goes on.
    assert_eq!(shell(&scratch, "echo on"), "on\n");
}

#[test]
fn a_command_leaves_no_process_behind() {
    let scratch = Scratch::new().unwrap();
    // The run-away holds the pipe, and its end is seen when it is gone.
    let (mut reader, stdout) = std::io::pipe().unwrap();
    let step = Step::new(["sh", "-c", "setsid sleep 600 & echo started"]).stdout_fd(stdout);
    scratch.run(step).unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(&mut reader, &mut said).unwrap();
    assert_eq!(said, "started\n");
    scratch.unmount().unwrap();
}

#[test]
fn a_command_takes_its_input_from_bytes() {
    let scratch = Scratch::new().unwrap();
    let step = Step::new(["sh", "-c", "cat > copy"]).stdin(Stdin::Bytes("bytes".into()));
    scratch.run(step).unwrap();
    assert_eq!(scratch.read("copy").unwrap(), "bytes");
}

#[test]
fn made_on_a_thread_that_ends_it_lives_on() {
    in_own_process(|| {
        for visibility in [Visibility::Private, Visibility::Public] {
            let options = MountOptions {
                visibility,
                ..MountOptions::default()
            };
            let make = move || Scratch::builder().mount(options).build().unwrap();
            let scratch = std::thread::spawn(make).join().unwrap();
            scratch.write("x", "alive\n").unwrap();
            assert_eq!(shell(&scratch, "cat x; echo too > y"), "alive\n");
            assert_eq!(scratch.read("y").unwrap(), "too\n");
            scratch.unmount().unwrap();
        }
    });
}

#[test]
fn several_stand_side_by_side() {
    let scratches: Vec<_> = (0..5).map(|_| Scratch::new().unwrap()).collect();
    for (number, scratch) in scratches.iter().enumerate() {
        scratch.write("x", number.to_string()).unwrap();
    }
    for (number, scratch) in scratches.iter().enumerate() {
        assert_eq!(shell(scratch, "cat x"), number.to_string());
        // All at the same path, each in its own view.
        assert_eq!(scratch.path(), scratches[0].path());
    }
}

/// A public one over a directory of the host.
fn public(dir: &Path) -> Scratch {
    Scratch::builder().public_at(dir).build().unwrap()
}

#[test]
fn a_public_one_is_seen_by_everybody() {
    in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let scratch = public(dir.path());
        scratch.write("x", "ours").unwrap();
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"ours");
        fs::write(dir.path().join("y"), "theirs").unwrap();
        assert_eq!(scratch.read("y").unwrap(), "theirs");
        scratch.unmount().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    });
}

#[test]
fn dropping_it_unmounts_also_in_a_panic() {
    in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        drop(public(dir.path()));
        assert!(mounts_below(dir.path()).is_empty());
        let panicked = std::panic::catch_unwind(|| {
            let _scratch = public(dir.path());
            // No message on the test's output: it is not a failure.
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(panicked.is_err());
        assert!(mounts_below(dir.path()).is_empty());
    });
}

#[test]
fn a_public_one_in_use_is_not_unmounted() {
    in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let scratch = public(dir.path());
        let puppet = Puppet::start(dir.path());
        match scratch.unmount() {
            Err(Error::Mount(MountError::Busy { holders, .. })) => {
                assert!(
                    holders.iter().any(|holder| holder.pid == puppet.pid()),
                    "{holders:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

fn in_flight(directory: &Path) -> (UnixStream, UnixStream) {
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    let (from, to) = UnixStream::pair().unwrap();
    let opened = fs::File::open(directory).unwrap();
    let descriptors = [opened.as_fd()];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let bytes = [std::io::IoSlice::new(b"!")];
    sendmsg(&from, &bytes, &mut ancillary, SendFlags::empty()).unwrap();
    (from, to)
}

/// As a look into /proc does, which is over before one could see whose it was.
#[test]
fn who_uses_it_unseen_and_for_a_moment_does_not_hold_it() {
    in_own_process(|| {
        let dir = tempfile::tempdir().unwrap();
        let scratch = public(dir.path());
        // A descriptor that was sent and not received is in use, and of no process that /proc could tell.
        let sent = in_flight(dir.path());
        let moment = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            drop(sent);
        });
        scratch.unmount().unwrap();
        moment.join().unwrap();
    });
}

#[test]
fn what_is_left_can_be_looked_at() {
    let scratch = Scratch::new().unwrap();
    shell(&scratch, "echo left > x");
    let remains = scratch.into_remains().unwrap();
    assert_eq!(crate::support::read(&remains.tree, "x"), b"left\n");
    assert!(remains.lost_files.is_empty());
    // And go on in another one.
    let next = Scratch::builder().tree(remains.tree).build().unwrap();
    assert_eq!(shell(&next, "cat x"), "left\n");
}

#[test]
fn a_snapshot_stays_as_it_was() {
    let scratch = Scratch::new().unwrap();
    scratch.write("x", "then").unwrap();
    let snapshot = scratch.snapshot();
    shell(&scratch, "echo now > x; echo new > y");
    assert_eq!(crate::support::read(&snapshot, "x"), b"then");
    assert!(snapshot.resolve(&crate::support::path("y")).is_err());
}

//! From the host into a tree.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use notapipe::collect;
use notapipe::stage::{Source, Stage, StageError, Staged};
use notapipe::store::{AllocateMode, Kind, Limits, Resource, SetAttr, Timestamp, Tree, TreePath};

use crate::support::*;

fn stage(tree: &mut Tree, name: &str, host: &Path) -> Result<Staged, StageError> {
    let mut stage = Stage::new(tree, owner(), Timestamp::now());
    stage.host(&path(name), host)?;
    Ok(stage.finish())
}

fn names(tree: &Tree) -> Vec<String> {
    let found = collect::walk(tree, &TreePath::root()).unwrap();
    found
        .into_iter()
        .map(|found| found.path.to_string())
        .collect()
}

fn mkfifo(path: &Path) {
    rustix::fs::mknodat(
        rustix::fs::CWD,
        path,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
}

#[test]
fn a_file_keeps_its_mode_and_time() {
    let host = host_directory();
    let file = host.path().join("tool.sh");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4751)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    File::open(&file).unwrap().set_modified(time).unwrap();
    let mut tree = tree();
    let staged = stage(&mut tree, "bin/tool", &file).unwrap();
    let attr = attr(&tree, "bin/tool");
    assert_eq!(read(&tree, "bin/tool"), b"#!/bin/sh\n");
    assert_eq!(attr.mode, 0o751, "set-id bits are dropped");
    assert_eq!(attr.mtime, Timestamp::from(time));
    assert_eq!((attr.uid, attr.gid), (owner().uid, owner().gid));
    assert_eq!((staged.progress.files, staged.progress.bytes), (1, 10));
}

#[test]
fn a_directory_comes_whole() {
    let host = host_directory();
    let dir = host.path();
    fs::create_dir_all(dir.join("a/deep/er")).unwrap();
    fs::write(dir.join("a/deep/er/file"), "deep").unwrap();
    fs::write(dir.join("first"), "1").unwrap();
    fs::write(dir.join(std::ffi::OsStr::from_bytes(b"odd\xff\n")), "odd").unwrap();
    fs::hard_link(dir.join("first"), dir.join("a/second")).unwrap();
    symlink("../nowhere", dir.join("a/dangling")).unwrap();
    symlink("/etc", dir.join("escape")).unwrap();
    mkfifo(&dir.join("a/fifo"));
    fs::set_permissions(dir.join("a/deep"), fs::Permissions::from_mode(0o555)).unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::new(77, 5);
    File::open(dir.join("a"))
        .unwrap()
        .set_modified(time)
        .unwrap();

    let mut tree = tree();
    let staged = stage(&mut tree, "in", dir).unwrap();
    assert_eq!(
        names(&tree),
        [
            "in",
            "in/a",
            "in/a/dangling",
            "in/a/deep",
            "in/a/deep/er",
            "in/a/deep/er/file",
            "in/a/second",
            "in/escape",
            "in/first",
            "in/odd\\xff\\n"
        ]
    );
    assert_eq!(attr(&tree, "in/a").mtime, Timestamp::from(time));
    assert_eq!(attr(&tree, "in/a/deep").mode, 0o555);
    let link = tree.resolve(&path("in/escape")).unwrap();
    assert_eq!(&*tree.read_link(link).unwrap(), b"/etc");
    assert_eq!(attr(&tree, "in/first").ino, attr(&tree, "in/a/second").ino);
    assert_eq!(attr(&tree, "in/first").nlink, 2);
    assert_eq!(staged.skipped.count(), 1);
    assert_eq!(staged.skipped.first()[0].kind, Kind::Fifo);
    assert_eq!(staged.skipped.first()[0].path, dir.join("a/fifo"));
    assert!(
        staged
            .skipped
            .to_string()
            .ends_with("a/fifo\" is a FIFO: left behind")
    );
}

#[test]
fn the_root_is_filled_and_keeps_its_own_mode() {
    let host = host_directory();
    fs::write(host.path().join("x"), "x").unwrap();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut tree = tree();
    stage(&mut tree, ".", host.path()).unwrap();
    assert_eq!(names(&tree), ["x"]);
    assert_eq!(attr(&tree, ".").mode, 0o755);
}

#[test]
fn a_symlink_is_followed_where_it_is_named() {
    let host = host_directory();
    fs::create_dir(host.path().join("dir")).unwrap();
    fs::write(host.path().join("dir/x"), "x").unwrap();
    symlink("dir", host.path().join("link")).unwrap();
    symlink("link/x", host.path().join("file")).unwrap();
    let mut tree = tree();
    stage(&mut tree, "d", &host.path().join("link")).unwrap();
    stage(&mut tree, "f", &host.path().join("file")).unwrap();
    assert_eq!(names(&tree), ["d", "d/x", "f"]);
    assert_eq!(read(&tree, "f"), b"x");
}

#[test]
fn a_fifo_and_a_device_are_read_to_their_end() {
    let host = host_directory();
    let fifo = host.path().join("fifo");
    mkfifo(&fifo);
    let mut tree = tree();
    let big = vec![7_u8; 1_000_001];
    std::thread::scope(|scope| {
        scope.spawn(|| {
            fs::OpenOptions::new()
                .write(true)
                .open(&fifo)
                .unwrap()
                .write_all(&big)
                .unwrap()
        });
        stage(&mut tree, "from-fifo", &fifo).unwrap();
    });
    assert_eq!(read(&tree, "from-fifo"), big);
    assert_eq!(attr(&tree, "from-fifo").mode, 0o644);
    stage(&mut tree, "null", Path::new("/dev/null")).unwrap();
    assert_eq!(read(&tree, "null"), b"");
    let (reader, mut writer) = io::pipe().unwrap();
    writer.write_all(b"piped").unwrap();
    drop(writer);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&reader);
    stage(&mut tree, "fd", Path::new(&format!("/dev/fd/{fd}"))).unwrap();
    assert_eq!(read(&tree, "fd"), b"piped");
}

#[test]
fn a_source_without_end_stops_at_the_limit() {
    let mut tree = tree_of(Limits {
        bytes: 1 << 20,
        inodes: 10,
    });
    let error = stage(&mut tree, "zero", Path::new("/dev/zero")).unwrap_err();
    let StageError::Full {
        from,
        resource,
        limit,
        needed,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*from, Source::Host("/dev/zero".into()));
    assert_eq!(
        (*resource, *limit, *needed),
        (Resource::Bytes, 1 << 20, None)
    );
    let text = "no room for \"/dev/zero\" for \"zero\": the limit of 1 MiB is reached";
    assert_eq!(error.to_string(), text);
    assert_eq!(names(&tree), [""; 0], "no part of it stays");
    assert_eq!(tree.usage().bytes, 0);
}

#[test]
fn a_file_that_cannot_fit_is_refused_with_what_it_needs() {
    let host = host_directory();
    let file = host.path().join("big");
    fs::write(&file, vec![1; 3 << 20]).unwrap();
    let mut tree = tree_of(Limits {
        bytes: 2 << 20,
        inodes: 10,
    });
    let error = stage(&mut tree, "big", &file).unwrap_err();
    let StageError::Full { needed, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(*needed, Some(3 << 20));
    assert!(
        error
            .to_string()
            .ends_with("the limit of 2 MiB is reached, at least 3 MiB are needed")
    );
    let error = Stage::new(&mut tree, owner(), Timestamp::now())
        .bytes(&path("big"), vec![1; (2 << 20) + 1])
        .unwrap_err();
    let text = "no room for the input for \"big\": the limit of 2 MiB is reached, at least 2.1 MiB are needed";
    assert_eq!(error.to_string(), text);
}

#[test]
fn too_many_files_name_the_inode_limit() {
    let host = host_directory();
    for name in 0..10 {
        fs::write(host.path().join(name.to_string()), "").unwrap();
    }
    let mut tree = tree_of(Limits {
        bytes: 1 << 20,
        inodes: 5,
    });
    let error = stage(&mut tree, "d", host.path()).unwrap_err();
    let StageError::Full {
        resource: Resource::Inodes,
        limit: 5,
        path: at,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    // Told before anything of it is read.
    assert_eq!(*at, path("d"));
}

#[test]
fn holes_stay_holes() {
    let host = host_directory();
    let file = host.path().join("sparse");
    let opened = File::create(&file).unwrap();
    opened.write_all_at(b"begin", 0).unwrap();
    opened.write_all_at(b"middle", 100 << 20).unwrap();
    opened.set_len(1 << 40).unwrap();
    if allocated(&file) > 1 << 20 {
        return; // A file system without holes.
    }
    let mut tree = tree_of(Limits {
        bytes: 1 << 20,
        inodes: 10,
    });
    stage(&mut tree, "sparse", &file).unwrap();
    let attr = attr(&tree, "sparse");
    assert_eq!(attr.size, 1 << 40);
    assert!(tree.usage().bytes <= 2 << 16, "{}", tree.usage().bytes);
    assert_eq!(&*tree.read(attr.ino, 100 << 20, 6).unwrap(), b"middle");
    assert_eq!(&*tree.read(attr.ino, 0, 6).unwrap(), b"begin\0");
}

#[test]
fn what_is_missing_or_unreadable_is_named() {
    let mut tree = tree();
    let error = stage(&mut tree, "A.asm", Path::new("/nowhere/A.asm")).unwrap_err();
    let text =
        "cannot read \"/nowhere/A.asm\" for \"A.asm\": No such file or directory (os error 2)";
    assert_eq!(chain(&error), text);

    let host = host_directory();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(host.path().join("d")).unwrap();
    let secret = host.path().join("d/secret");
    fs::write(&secret, "").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o000)).unwrap();
    let error = as_ordinary_user(|| stage(&mut tree, "all", host.path()).unwrap_err());
    let StageError::Read {
        from,
        path: at,
        error,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*from, Source::Host(secret));
    assert_eq!(*at, path("all/d/secret"));
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_was_read_by_everybodys_right_can_be_read_by_its_owner() {
    if !crate::support::site::may_be_root("all of it") {
        return;
    }
    let host = host_directory();
    let file = host.path().join("public");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o044)).unwrap();
    let mut tree = tree();
    let user = notapipe::stage::Owner {
        uid: 65534,
        gid: 65534,
    };
    Stage::new(&mut tree, user, Timestamp::now())
        .host(&path("public"), &file)
        .unwrap();
    assert_eq!(attr(&tree, "public").mode, 0o444);
}

#[test]
fn later_files_replace_earlier_ones_and_directories_merge() {
    let host = host_directory();
    fs::create_dir_all(host.path().join("one/sub")).unwrap();
    fs::create_dir_all(host.path().join("two/sub")).unwrap();
    fs::write(host.path().join("one/sub/x"), "old").unwrap();
    fs::hard_link(host.path().join("one/sub/x"), host.path().join("one/same")).unwrap();
    fs::write(host.path().join("two/sub/x"), "new").unwrap();
    fs::write(host.path().join("two/sub/y"), "more").unwrap();
    let mut tree = tree();
    stage(&mut tree, ".", &host.path().join("one")).unwrap();
    stage(&mut tree, ".", &host.path().join("two")).unwrap();
    assert_eq!(names(&tree), ["same", "sub", "sub/x", "sub/y"]);
    assert_eq!(read(&tree, "sub/x"), b"new");
    assert_eq!(
        read(&tree, "same"),
        b"old",
        "another name of the replaced file is untouched"
    );
    assert_eq!(tree.usage().inodes, 5);
}

#[test]
fn a_file_in_the_way_is_named() {
    let mut tree = tree_with(&[("a", b""), ("d/x", b"")]);
    let host = host_directory();
    fs::create_dir(host.path().join("x")).unwrap();
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    let error = stage.bytes(&path("a/b/c"), b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot stage \"a/b/c\": \"a\" is a file already"
    );
    let error = stage.bytes(&path("d"), b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot stage \"d\": \"d\" is a directory already"
    );
    let error = stage.host(&path("d"), host.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot stage \"d/x\": \"d/x\" is a file already"
    );
    let error = stage.bytes(&TreePath::root(), b"").unwrap_err();
    assert!(matches!(
        error,
        StageError::Conflict {
            kind: Kind::Directory,
            ..
        }
    ));
    stage.directory(&TreePath::root()).unwrap();
    stage.directory(&path("d")).unwrap();
    stage.directory(&path("e/f/g")).unwrap();
    drop(stage);
    assert_eq!(names(&tree), ["a", "d", "d/x", "e", "e/f", "e/f/g"]);
}

#[test]
fn no_path_leads_through_a_staged_symlink() {
    let host = host_directory();
    symlink("elsewhere", host.path().join("link")).unwrap();
    let mut tree = tree();
    stage(&mut tree, ".", host.path()).unwrap();
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    let error = stage.bytes(&path("link/x"), b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot stage \"link/x\": \"link\" is a symlink already"
    );
}

#[test]
fn a_reader_is_streamed_in_whole_blocks() {
    /// Gives one byte at a time, and sometimes none for now.
    struct Trickle(u32);
    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                n if n % 7 == 0 => Err(io::ErrorKind::Interrupted.into()),
                n if n < 700_000 => {
                    buffer[0] = n as u8;
                    Ok(1)
                }
                _ => Ok(0),
            }
        }
    }
    let expected: Vec<u8> = (1..700_000_u32)
        .filter(|n| n % 7 != 0)
        .map(|n| n as u8)
        .collect();
    let mut tree = tree();
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    stage.reader(&path("t"), &mut Trickle(0)).unwrap();
    drop(stage);
    assert_eq!(read(&tree, "t"), expected);
}

#[test]
fn a_reader_that_fails_leaves_no_file() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }
    let mut tree = tree();
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    let mut reader = (&b"some"[..]).chain(Broken);
    let error = stage.reader(&path("t"), &mut reader).unwrap_err();
    assert_eq!(chain(&error), "cannot read the input for \"t\": no more");
    drop(stage);
    assert_eq!(names(&tree), [""; 0]);
}

#[test]
fn the_listener_sees_progress_and_can_stop() {
    let mut tree = tree();
    let mut seen = 0;
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now()).listen(|progress| {
        seen = progress.bytes;
        if progress.bytes > 1 << 20 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    let error = stage.reader(&path("t"), &mut io::repeat(1)).unwrap_err();
    assert!(matches!(error, StageError::Interrupted));
    drop(stage);
    assert!(seen > 1 << 20 && seen < 2 << 20);
    assert_eq!(names(&tree), [""; 0]);
}

#[test]
fn deep_directories_are_no_recursion() {
    let host = host_directory();
    let deep = host.path().join("d/".repeat(400));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "x").unwrap();
    let mut tree = tree();
    stage(&mut tree, ".", host.path()).unwrap();
    assert_eq!(read(&tree, &format!("{}bottom", "d/".repeat(400))), b"x");
}

#[test]
fn lent_bytes_are_in_memory_once() {
    let bytes = Bytes::from(
        (0..1_000_003_u32)
            .map(|n| (n % 251) as u8)
            .collect::<Vec<_>>(),
    );
    let mut trees = [tree(), tree()];
    for tree in &mut trees {
        let mut stage = Stage::new(tree, owner(), Timestamp::now());
        stage.shared(&path("lent"), &bytes).unwrap();
        stage.shared(&path("small"), &bytes.slice(..100)).unwrap();
        drop(stage);
        assert_eq!(
            tree.usage().bytes,
            1_000_003_u64.next_multiple_of(4096) + 4096
        );
    }
    let read_at = |tree: &Tree, offset: usize| {
        let ino = tree.resolve(&path("lent")).unwrap();
        tree.read(ino, offset as u64, 1000).unwrap()
    };
    for tree in &trees {
        assert_eq!(read(tree, "lent"), bytes);
        assert_eq!(read(tree, "small"), bytes[..100]);
        assert_eq!(read_at(tree, 300_000).as_ptr(), bytes[300_000..].as_ptr());
        // Over many chunks too: the rest behind the last whole one is the file's own.
        let ino = tree.resolve(&path("lent")).unwrap();
        let read = tree.read(ino, 100_000, 800_000).unwrap();
        assert_eq!(*read, bytes[100_000..900_000]);
        assert_eq!(read.as_ptr(), bytes[100_000..].as_ptr());
        assert_eq!(*tree.read(ino, 900_000, 200_000).unwrap(), bytes[900_000..]);
    }
    // Whoever writes gets bytes of their own, a chunk at a time.
    let [changed, other] = &mut trees;
    let ino = changed.resolve(&path("lent")).unwrap();
    let now = Timestamp::now();
    changed.write(ino, 299_999, b"written", now).unwrap();
    let cut = SetAttr {
        size: Some(700_001),
        ..SetAttr::default()
    };
    changed.set_attr(ino, &cut, now).unwrap();
    changed.write(ino, 900_000, b"end", now).unwrap();
    let mut expected = bytes[..700_001].to_vec();
    expected[299_999..300_006].copy_from_slice(b"written");
    expected.resize(900_000, 0);
    expected.extend(b"end");
    assert_eq!(read(changed, "lent"), expected);
    assert_eq!(read(other, "lent"), bytes);
    assert_eq!(
        read_at(changed, 500_000).as_ptr(),
        bytes[500_000..].as_ptr()
    );
    let hole = AllocateMode::PunchHole;
    changed.allocate(ino, 0..400_000, hole, now).unwrap();
    expected[..400_000].fill(0);
    assert_eq!(read(changed, "lent"), expected);
    assert_eq!(
        changed.usage().bytes,
        (700_001_u64.next_multiple_of(4096) - 397_312) + 4096 + 4096
    );
    assert_eq!(bytes[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn lent_bytes_that_do_not_fit_leave_nothing() {
    let limits = Limits {
        bytes: 512 << 10,
        inodes: 10,
    };
    let mut tree = tree_of(limits);
    let bytes = Bytes::from(vec![1; (512 << 10) + 1]);
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    let error = stage.shared(&path("x"), &bytes).unwrap_err();
    assert!(
        matches!(
            error,
            StageError::Full {
                needed: Some(_),
                ..
            }
        ),
        "{error}"
    );
    stage.shared(&path("x"), &bytes.slice(1..)).unwrap();
    drop(stage);
    assert_eq!(tree.usage().bytes, 512 << 10);
}

#[test]
fn a_large_file_that_is_staged_twice_is_in_memory_once() {
    let host = host_directory();
    let file = host.path().join("large");
    fs::write(&file, vec![7; 1 << 20]).unwrap();
    fs::create_dir(host.path().join("dir")).unwrap();
    fs::hard_link(&file, host.path().join("dir/again")).unwrap();
    let mut tree = tree();
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    stage.host(&path("one"), &file).unwrap();
    stage.host(&path("two"), &file).unwrap();
    stage.host(&path("dir"), &host.path().join("dir")).unwrap();
    // What was changed in between is not the same.
    fs::write(&file, vec![8; 1 << 20]).unwrap();
    stage.host(&path("three"), &file).unwrap();
    assert_eq!(stage.finish().progress.bytes, 4 << 20);
    assert_eq!(tree.usage().bytes, 4 << 20, "each is charged for");
    let at = |name: &str| {
        let ino = tree.resolve(&path(name)).unwrap();
        tree.read(ino, 300_000, 10).unwrap().as_ptr()
    };
    assert_eq!(at("one"), at("two"));
    assert_eq!(at("one"), at("dir/again"));
    assert_ne!(at("one"), at("three"));
    assert_eq!((read(&tree, "two")[0], read(&tree, "three")[0]), (7, 8));
}

/// It says 4096 bytes, and has no blocks.
#[test]
fn a_file_of_sys_has_the_bytes_that_can_be_read() {
    let file = Path::new("/sys/kernel/mm/transparent_hugepage/enabled");
    let file = match file.exists() {
        true => file,
        false => Path::new("/sys/kernel/uevent_seqnum"),
    };
    let proc = Path::new("/proc/self/cmdline");
    let mut tree = tree();
    stage(&mut tree, "sys", file).unwrap();
    stage(&mut tree, "proc", proc).unwrap();
    let expected = fs::read(file).unwrap();
    assert!((1..4096).contains(&expected.len()));
    assert!(fs::metadata(file).unwrap().len() > expected.len() as u64);
    assert_eq!(read(&tree, "sys"), expected);
    assert_eq!(attr(&tree, "sys").size, expected.len() as u64);
    assert_eq!(read(&tree, "proc"), fs::read(proc).unwrap());
}

#[test]
fn more_names_than_there_may_be_inodes_are_not_even_read() {
    let host = host_directory();
    for name in 0..2000 {
        let name = format!("{name}{}", "n".repeat(200));
        fs::write(host.path().join(name), "").unwrap();
    }
    let mut tree = tree_of(Limits {
        bytes: 1 << 20,
        inodes: 1000,
    });
    let error = stage(&mut tree, "d", host.path()).unwrap_err();
    assert!(error.to_string().contains("1000 inodes"), "{error}");
    assert_eq!(tree.usage().inodes, 2, "the root and the directory");
}

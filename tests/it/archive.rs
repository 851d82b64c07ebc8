//! Archives: what goes in comes out, other programs understand it, and hostile ones change nothing.

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use notapipe::archive::{ArchiveError, Format, Pack, Unpack};
use notapipe::collect;
use notapipe::stage::{Owner, Stage, Staged};
use notapipe::store::{Ino, Kind, Limits, NewKind, SetAttr, Timestamp, Tree, TreePath};

use crate::support::hostile::{Hostile, OLD, archives, create, good, pack, rich, spoiled};
use crate::support::{add, attr, chain, host_directory, owner, path, read, tree, tree_of};

const FORMATS: [Format; 5] = [
    Format::Tar,
    Format::TarGz,
    Format::TarZst,
    Format::TarXz,
    Format::Zip,
];

fn unpack(bytes: &[u8]) -> Result<Tree, ArchiveError> {
    let mut tree = tree();
    Unpack::new(&mut tree, owner(), Timestamp::now()).read(bytes)?;
    Ok(tree)
}

fn names(tree: &Tree) -> Vec<String> {
    let found = collect::walk(tree, &TreePath::root()).unwrap();
    found.iter().map(|found| found.path.to_string()).collect()
}

#[test]
fn what_is_packed_is_unpacked() {
    let tree = rich();
    for format in FORMATS {
        let bytes = pack(&tree, format);
        assert_eq!(Format::of_content(&bytes), Some(format));
        let back = unpack(&bytes).unwrap_or_else(|error| panic!("{format}: {}", chain(&error)));
        assert_eq!(names(&back), names(&tree), "{format}");
        for found in collect::walk(&tree, &TreePath::root()).unwrap() {
            let there = back.attr(back.resolve(&found.path).unwrap()).unwrap();
            let context = format!("{format}: {}", found.path);
            assert_eq!(there.kind, found.attr.kind, "{context}");
            // A zip's directories have no sticky bit.
            let kept = if format == Format::Zip { 0o777 } else { 0o7777 };
            assert_eq!(there.mode & kept, found.attr.mode & kept, "{context}");
            assert_eq!(there.mtime.secs, found.attr.mtime.secs, "{context}");
            if format != Format::Zip {
                assert_eq!(there.mtime, found.attr.mtime, "{context}");
                if found.attr.kind != Kind::Directory {
                    assert_eq!(there.nlink, found.attr.nlink, "{context}");
                }
            }
            match found.attr.kind {
                Kind::File => assert!(
                    collect::read(&tree, &found.path).unwrap()
                        == collect::read(&back, &found.path).unwrap(),
                    "{context}"
                ),
                Kind::Symlink => assert!(
                    *tree.read_link(found.attr.ino).unwrap() == *back.read_link(there.ino).unwrap(),
                    "{context}"
                ),
                _ => {}
            }
        }
    }
}

#[test]
fn the_same_tree_gives_the_same_archive() {
    let tree = rich();
    for format in FORMATS {
        assert!(
            pack(&tree, format) == pack(&tree.fork(), format),
            "{format}"
        );
    }
}

#[test]
fn an_empty_tree_is_an_archive_too() {
    for format in FORMATS {
        let back = unpack(&pack(&tree(), format)).unwrap();
        assert_eq!(names(&back), [""; 0], "{format}");
    }
}

#[test]
fn holes_stay_holes_in_a_tar() {
    let mut sparse = tree();
    // More pieces than a header and one block behind it hold.
    let ino = create(&mut sparse, Ino::ROOT, b"sparse", NewKind::File, 0o644);
    let now = Timestamp::now();
    for piece in 0..60_u64 {
        sparse.write(ino, piece << 20, b"island", now).unwrap();
    }
    let size = SetAttr {
        size: Some(1 << 40),
        ..SetAttr::default()
    };
    sparse.set_attr(ino, &size, now).unwrap();
    let only_hole = create(&mut sparse, Ino::ROOT, b"hole", NewKind::File, 0o644);
    sparse.set_attr(only_hole, &size, now).unwrap();
    for format in [Format::Tar, Format::TarZst] {
        let bytes = pack(&sparse, format);
        assert!(bytes.len() < 1 << 20, "{}", bytes.len());
        let back = unpack(&bytes).unwrap();
        let (there, was) = (attr(&back, "sparse"), attr(&sparse, "sparse"));
        assert_eq!((there.size, there.blocks), (was.size, was.blocks));
        assert_eq!(&*back.read(there.ino, 59 << 20, 8).unwrap(), b"island\0\0");
        assert_eq!(attr(&back, "hole").blocks, 0);
        assert_eq!(attr(&back, "hole").size, 1 << 40);
    }
    // GNU tar must agree, with holes of its own.
    let host = host_directory();
    fs::write(host.path().join("s.tar"), pack(&sparse, Format::Tar)).unwrap();
    tool(host.path(), &["tar", "xf", "s.tar"]);
    assert_eq!(
        fs::metadata(host.path().join("sparse")).unwrap().len(),
        1 << 40
    );
    assert!(crate::support::allocated(&host.path().join("sparse")) < 1 << 20);
}

fn tool(directory: &Path, words: &[&str]) -> Vec<u8> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", words[0]));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    output.stdout
}

/// What gnu tar, unzip and Python make of our archives, and we of theirs.
#[test]
fn other_programs_understand_ours() {
    let tree = rich();
    let python = "import sys, tarfile\n\
        t = tarfile.open(sys.argv[1])\n\
        m = t.getmember('src/A.asm')\n\
        assert t.extractfile(m).read() == b'nop\\n'\n\
        assert abs(m.mtime - 1234567890.123456789) < 1e-3, m.mtime\n\
        print(len(t.getmembers()))";
    for format in FORMATS {
        let host = host_directory();
        let name = format!("a.{format}");
        fs::write(host.path().join(&name), pack(&tree, format)).unwrap();
        let out = host.path().join("out");
        fs::create_dir(&out).unwrap();
        match format {
            Format::Zip => {
                tool(host.path(), &["unzip", "-q", &name, "-d", "out"]);
            }
            _ => {
                tool(host.path(), &["tar", "xf", &name, "-C", "out"]);
            }
        }
        assert_eq!(fs::read(out.join("src/A.asm")).unwrap(), b"nop\n");
        assert_eq!(
            fs::read_link(out.join("link")).unwrap(),
            Path::new("src/A.asm")
        );
        let meta = fs::metadata(out.join("src/A.asm")).unwrap();
        let (mode, mtime) = {
            use std::os::unix::fs::MetadataExt;
            (meta.mode() & 0o777, (meta.mtime(), meta.mtime_nsec()))
        };
        assert_eq!(mode, 0o754, "{format}");
        assert_eq!(mtime.0, OLD.secs, "{format}");
        if format != Format::Zip {
            assert_eq!(mtime.1, i64::from(OLD.nanos), "{format}");
            let count = if format == Format::TarZst {
                continue; // not every Python can
            } else {
                tool(host.path(), &["python3", "-c", python, &name])
            };
            let expected = names(&tree).len().to_string();
            assert_eq!(String::from_utf8(count).unwrap().trim(), expected);
        }
    }
}

#[test]
fn archives_of_other_programs_are_read() {
    let host = host_directory();
    let dir = host.path().join("in");
    fs::create_dir_all(dir.join("a/b")).unwrap();
    fs::write(dir.join("a/b/file"), "content").unwrap();
    fs::write(dir.join(format!("a/{}", "n".repeat(180))), "long").unwrap();
    fs::hard_link(dir.join("a/b/file"), dir.join("a/hard")).unwrap();
    std::os::unix::fs::symlink("b/file", dir.join("a/soft")).unwrap();
    let sparse = fs::File::create(dir.join("a/sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 64 << 20).unwrap();
    sparse.set_len(100 << 20).unwrap();
    tool(&dir, &["mkfifo", "a/fifo"]);
    let mut made = Vec::new();
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let name = format!("{format}.tar");
        let kind = format!("--format={format}");
        let mut words = vec!["tar", "cf", &name, &kind, "-C", "in"];
        match format {
            // These have no room for a long name, nor for holes, and v7 for a FIFO.
            "v7" => words.extend(["--exclude=nnn*", "--exclude=sparse", "--exclude=fifo"]),
            "ustar" => words.extend(["--exclude=nnn*", "--exclude=sparse"]),
            _ => words.push("-S"),
        }
        words.push("a");
        tool(host.path(), &words);
        made.push(name);
    }
    for version in ["0.1", "1.0"] {
        let name = format!("sparse-{version}.tar");
        let kind = format!("--sparse-version={version}");
        let words = [
            "tar",
            "cSf",
            &name,
            "--format=posix",
            &kind,
            "-C",
            "in",
            "a/sparse",
        ];
        tool(host.path(), &words);
        made.push(name);
    }
    for (name, program) in [
        ("x.tar.gz", "-z"),
        ("x.tar.zst", "--zstd"),
        ("x.tar.xz", "-J"),
    ] {
        tool(host.path(), &["tar", "cSf", name, program, "-C", "in", "a"]);
        made.push(name.to_owned());
    }
    tool(
        &dir,
        &["zip", "-qry", "../x.zip", "a", "-x", "a/fifo", "a/sparse"],
    );
    made.push("x.zip".to_owned());
    for name in made {
        let mut tree = tree();
        let unpacked =
            Unpack::new(&mut tree, owner(), Timestamp::now()).host(&host.path().join(&name));
        if name == "sparse-0.1.tar" {
            // The old way is refused rather than misread.
            let told = chain(&unpacked.unwrap_err());
            assert!(told.contains("sparse file of an old version"), "{told}");
            continue;
        }
        unpacked.unwrap_or_else(|error| panic!("{name}: {}", chain(&error)));
        let all = names(&tree);
        if all.contains(&"a/sparse".to_owned()) && name != "x.zip" {
            let sparse = attr(&tree, "a/sparse");
            assert_eq!(sparse.size, 100 << 20, "{name}");
            assert!(sparse.blocks < 100, "{name}: {}", sparse.blocks);
            assert_eq!(&*tree.read(sparse.ino, 64 << 20, 4).unwrap(), b"end\0");
        }
        if name.starts_with("sparse") {
            continue;
        }
        assert_eq!(read(&tree, "a/b/file"), b"content", "{name}");
        assert_eq!(read(&tree, "a/soft"), b"content", "{name}");
        let links = if name == "x.zip" { 1 } else { 2 };
        assert_eq!(attr(&tree, "a/hard").nlink, links, "{name}");
    }
}

#[test]
fn only_some_paths_below_a_directory() {
    let tree = rich();
    let mut bytes = Vec::new();
    let packed = Pack::new(&tree, Format::Tar)
        .only([path("src"), path("link")])
        .write(&mut bytes)
        .unwrap();
    assert_eq!(packed.progress.files, 3);
    let mut into = crate::support::tree();
    Unpack::new(&mut into, owner(), Timestamp::now())
        .below(path("x/y"))
        .read(&bytes[..])
        .unwrap();
    assert_eq!(
        names(&into),
        ["x", "x/y", "x/y/link", "x/y/src", "x/y/src/A.asm"]
    );
    // A symlink that is named is followed.
    assert_eq!(attr(&into, "x/y/link").kind, Kind::File);
    let missing = Pack::new(&tree, Format::Tar).only([path("absent")]);
    assert!(missing.write(std::io::sink()).is_err());
}

#[test]
fn a_zip_comes_through_a_pipe() {
    // A reader that cannot be sought and gives little at a time.
    struct Drip<'b>(&'b [u8]);
    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let part = buffer.len().min(7);
            self.0.read(&mut buffer[..part])
        }
    }
    let bytes = pack(&rich(), Format::Zip);
    let mut back = tree();
    Unpack::new(&mut back, owner(), Timestamp::now())
        .read(Drip(&bytes))
        .unwrap();
    assert_eq!(names(&back), names(&rich()));
}

#[test]
fn fifos_sockets_and_devices_are_left_out_with_a_word() {
    let mut tree = tree();
    create(&mut tree, Ino::ROOT, b"socket", NewKind::Socket, 0o644);
    create(
        &mut tree,
        Ino::ROOT,
        b"device",
        NewKind::CharDevice(259),
        0o644,
    );
    create(&mut tree, Ino::ROOT, b"fifo", NewKind::Fifo, 0o640);
    let fifo = attr(&tree, "fifo").ino;
    let name = notapipe::store::Name::new(b"pipe").unwrap();
    tree.link(fifo, Ino::ROOT, name, Timestamp::now()).unwrap();
    for format in [Format::Tar, Format::TarZst, Format::Zip] {
        let mut bytes = Vec::new();
        let packed = Pack::new(&tree, format).write(&mut bytes).unwrap();
        assert_eq!(
            told(&packed.skipped),
            [
                "\"device\" is a device: left behind",
                "\"fifo\" is a FIFO: left behind",
                "\"pipe\" is a FIFO: left behind",
                "\"socket\" is a socket: left behind"
            ],
            "{format:?}"
        );
        assert_eq!(names(&unpack(&bytes).unwrap()), [""; 0], "{format:?}");
    }
}

fn told(skipped: &notapipe::stage::LeftBehind) -> Vec<String> {
    skipped.first().iter().map(ToString::to_string).collect()
}

/// As other programs write them; also under a second name, of which the archive has no content.
#[test]
fn fifos_in_an_archive_are_left_behind_with_a_word() {
    let host = host_directory();
    tool(host.path(), &["mkdir", "in"]);
    tool(host.path(), &["mkfifo", "in/fifo"]);
    fs::hard_link(host.path().join("in/fifo"), host.path().join("in/pipe")).unwrap();
    fs::write(host.path().join("in/x"), "x").unwrap();
    tool(host.path(), &["tar", "cf", "x.tar", "--sort=name", "in"]);
    let mut tree = tree();
    let staged = Unpack::new(&mut tree, owner(), Timestamp::now())
        .host(&host.path().join("x.tar"))
        .unwrap();
    assert_eq!(names(&tree), ["in", "in/x"]);
    assert_eq!(
        told(&staged.skipped),
        [
            "\"in/fifo\" is a FIFO: left behind",
            "\"in/pipe\" is a FIFO: left behind"
        ]
    );
}

#[test]
fn a_listener_can_stop_both_ways() {
    let tree = rich();
    let stopped = Pack::new(&tree, Format::Tar)
        .listen(|progress| match progress.bytes {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        })
        .write(std::io::sink());
    assert!(matches!(stopped, Err(ArchiveError::Interrupted)));
    let bytes = pack(&tree, Format::Tar);
    let mut into = crate::support::tree();
    let stopped = Unpack::new(&mut into, owner(), Timestamp::now())
        .listen(|progress| match progress.files {
            0..3 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        })
        .read(&bytes[..]);
    assert!(stopped.is_err());
    assert_eq!(names(&into), [""; 0]);
}

// Hostile archives.

#[test]
fn hostile_archives_change_nothing() {
    let mut told = Vec::new();
    for (what, bytes, expected) in archives() {
        let mut into = tree();
        add(&mut into, &[("before", b"was here")]);
        let usage = into.usage();
        let result = Unpack::new(&mut into, owner(), Timestamp::now()).read(&bytes[..]);
        match result {
            Ok(Staged { progress, .. }) if what == "the root as a file" => {
                // `./` is how tar tells of the directory that was packed.
                assert_eq!(progress.files, 1);
                continue;
            }
            Ok(staged) => panic!("{what} was let in: {staged:?}"),
            Err(error) => {
                let error = chain(&error);
                assert!(error.contains(expected), "{what}: {error}");
                told.push(format!("{what}: {error}"));
            }
        }
        assert_eq!(names(&into), ["before"], "{what}");
        assert_eq!(into.usage(), usage, "{what}");
        assert_eq!(read(&into, "before"), b"was here", "{what}");
    }
    // Shown with --nocapture: the messages as people meet them.
    println!("{}", told.join("\n"));
}

/// Every cut and many a turned bit: an error or the whole, never a panic and never a part.
#[test]
fn no_damage_goes_through_as_a_part() {
    let mut small = tree();
    add(
        &mut small,
        &[("a/b", b"content"), ("c", &b"x".repeat(3000))],
    );
    for format in FORMATS {
        let bytes = pack(&small, format);
        for left in (0..bytes.len()).step_by(7) {
            let Ok(tree) = unpack(&bytes[..left]) else {
                continue;
            };
            // Only bytes behind the end mark can be missing.
            assert_eq!(names(&tree), names(&small), "{format} cut at {left}");
        }
        for at in (0..bytes.len()).step_by(3) {
            let _ = unpack(&spoiled(bytes.clone(), at));
        }
    }
}

#[test]
fn the_limit_names_what_would_be_enough() {
    let mut small = tree_of(Limits {
        bytes: 1 << 20,
        inodes: 100,
    });
    let bytes = pack(&rich(), Format::TarGz);
    let error = Unpack::new(&mut small, owner(), Timestamp::now())
        .read(&bytes[..])
        .unwrap_err();
    let told = chain(&error);
    assert!(
        told.contains("the limit of 1 MiB is reached, at least"),
        "{told}"
    );
}

/// A zstd frame with a window of 2^31 bytes, as `zstd --long=31` makes it of a stream (RFC 8878, 3.1.1).
fn with_a_large_window(content: &[u8]) -> Vec<u8> {
    const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();
    let mut frame = [&MAGIC[..], &[0, (31 - 10) << 3]].concat();
    let blocks = content.chunks(64 << 10);
    let last = blocks.len() - 1;
    for (index, block) in blocks.enumerate() {
        let header = u32::from(index == last) | (block.len() as u32) << 3;
        frame.extend(&header.to_le_bytes()[..3]);
        frame.extend(block);
    }
    frame
}

#[test]
fn a_large_window_is_unpacked_where_the_limit_has_room_for_it() {
    let content = good().end();
    let unpack = |bytes| {
        let mut tree = tree_of(Limits { bytes, inodes: 100 });
        Unpack::new(&mut tree, owner(), Timestamp::now())
            .read(&with_a_large_window(&content)[..])?;
        Ok::<_, ArchiveError>(tree)
    };
    let tree = unpack(4 << 30).unwrap();
    assert_eq!(names(&tree), names(&self::unpack(&content).unwrap()));
    let refused = unpack((4 << 30) - 4096).unwrap_err();
    assert!(matches!(refused, ArchiveError::Window { .. }), "{refused}");
    assert!(chain(&refused).contains("zstd --long"), "{refused}");
}

#[test]
fn a_symlink_out_of_the_tree_is_kept_and_never_followed() {
    let bytes = Hostile::default()
        .member(b"out", b'2', b"/etc/passwd", b"")
        .member(b"loop", b'2', b"loop", b"")
        .end();
    let tree = unpack(&bytes).unwrap();
    assert!(matches!(
        collect::read(&tree, &path("out")),
        Err(collect::CollectError::Symlink { .. })
    ));
    assert!(collect::read(&tree, &path("loop")).is_err());
}

#[test]
fn a_later_member_takes_the_place_of_an_earlier_one() {
    let bytes = Hostile::default()
        .member(b"a", b'0', b"", b"first")
        .member(b"b", b'1', b"a", b"")
        .member(b"./a", b'0', b"", b"second")
        .end();
    let tree = unpack(&bytes).unwrap();
    assert_eq!(read(&tree, "a"), b"second");
    assert_eq!(read(&tree, "b"), b"first");
}

#[test]
fn owners_are_the_stagers() {
    let mut into = tree();
    let owner = Owner { uid: 7, gid: 8 };
    Unpack::new(&mut into, owner, Timestamp::now())
        .read(&good().end()[..])
        .unwrap();
    let there = attr(&into, "good");
    assert_eq!((there.uid, there.gid), (7, 8));
    let mut stage = Stage::new(&mut into, owner, Timestamp::now());
    stage.bytes(&path("other"), "x").unwrap();
}

/// A header of a member, of no content unless said.
fn header(kind: u8, size: usize) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path("m").unwrap();
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size as u64);
    header.set_cksum();
    header.as_bytes().to_vec()
}

/// A pax header with one record.
fn pax(kind: u8, key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let digits = (1..)
        .find(|digits| (body.len() + digits).to_string().len() == *digits)
        .unwrap();
    let record = [(body.len() + digits).to_string().as_bytes(), &body].concat();
    let padding = vec![0; record.len().next_multiple_of(512) - record.len()];
    [header(kind, record.len()), record, padding].concat()
}

/// Nothing else bounds what is left behind: it makes no inode.
#[test]
fn what_an_archive_leaves_behind_is_counted_and_not_kept() {
    let mut bytes = Vec::new();
    for number in 0..3000 {
        let name = format!("{}{number}", "a/".repeat(2000));
        bytes.extend(pax(b'x', "path", name.as_bytes()));
        bytes.extend(header(b'6', 0));
    }
    bytes.extend([0; 1024]);
    let mut tree = tree_of(Limits {
        bytes: 1 << 20,
        inodes: 10,
    });
    let staged = Unpack::new(&mut tree, owner(), Timestamp::now())
        .read(&bytes[..])
        .unwrap();
    assert_eq!(staged.skipped.count(), 3000);
    assert!(staged.skipped.first().len() < 10);
    let told = staged.skipped.to_string();
    assert!(
        told.ends_with("left behind, and so are 2999 more FIFOs"),
        "{told}"
    );
    assert_eq!(tree.usage().inodes, 1);
}

/// What a program needs for an archive must not grow with what the archive claims.
#[test]
fn archives_that_would_take_memory_are_refused_or_cost_none() {
    let megabyte = vec![b'n'; 1 << 20];
    let deep = b"d/".repeat(500_000);
    let end = vec![0; 1024];
    let file = || header(b'0', 0);
    let many = |member: Vec<u8>| member.repeat(20_000);
    let good = |bytes: Vec<u8>| [bytes, end.clone()].concat();
    // Each with what is said of it, or nothing where it is let in.
    let archives = [
        (
            good([pax(b'x', "path", &megabyte[..900_000]), file()].concat()),
            "longer than",
        ),
        (
            good([pax(b'x', "path", &deep), file()].concat()),
            "longer than",
        ),
        (
            good([pax(b'x', "path", &megabyte), file()].concat()),
            "longer than 1024 KiB",
        ),
        (good(many(pax(b'g', "comment", &megabyte[..1000]))), ""),
        (good(many(header(b'5', 0))), ""),
        (
            good(many(pax(b'x', "linkpath", &megabyte[..4000]))),
            "missing",
        ),
        (
            good([pax(b'x', "linkpath", &megabyte[..5000]), header(b'2', 0)].concat()),
            "symlink",
        ),
        (
            good([pax(b'x', "linkpath", b"none"), header(b'1', 0)].concat()),
            "hard link",
        ),
    ];
    for (at, (bytes, told)) in archives.into_iter().enumerate() {
        let mut tree = tree_of(Limits::of_bytes(1 << 20));
        let read = Unpack::new(&mut tree, owner(), Timestamp::now()).read(&bytes[..]);
        match read {
            Ok(_) => assert_eq!(told, "", "archive {at} was let in"),
            Err(error) => {
                let said = chain(&error);
                assert!(
                    !told.is_empty() && said.contains(told),
                    "{at}: {}",
                    &said[..said.len().min(300)]
                );
            }
        }
        assert!(tree.usage().inodes < 10, "archive {at}");
    }
}

/// The directory at its end is held in memory, whatever the limits are.
#[test]
fn a_zip_that_is_much_longer_than_the_tree_could_hold_is_refused_unread() {
    let host = host_directory();
    let file = host.path().join("x.zip");
    let mut bytes = pack(&rich(), Format::Zip);
    bytes.splice(0..0, b"PK\x03\x04".iter().copied());
    fs::write(&file, &bytes).unwrap();
    let opened = fs::File::options().write(true).open(&file).unwrap();
    opened.set_len(64 << 20).unwrap();
    let mut tree = tree_of(Limits::of_bytes(1 << 20));
    let error = Unpack::new(&mut tree, owner(), Timestamp::now())
        .host(&file)
        .unwrap_err();
    assert!(
        chain(&error).contains("the limit of 1 MiB is reached"),
        "{error}"
    );
}

//! From a tree to the host.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use notapipe::collect::{self, CollectError, Delivered, Delivery, Destination, MissingOutputs};
use notapipe::stage::Stage;
use notapipe::store::{
    Ino, Kind, Name, NewInode, NewKind, RenameMode, SetAttr, Timestamp, Tree, TreePath,
};

use crate::support::*;

fn orders(outputs: &[(&str, PathBuf)]) -> Vec<(TreePath, Destination)> {
    outputs
        .iter()
        .map(|(name, to)| (path(name), Destination::Host(to.clone())))
        .collect()
}

/// Delivers outputs of a tree whose files are all made by tools.
fn deliver(tree: &Tree, outputs: &[(&str, PathBuf)]) -> Result<Delivered, CollectError> {
    Delivery::preflight(orders(outputs))?
        .prepare(tree, &crate::support::tree())?
        .commit()
}

fn preflight(outputs: &[(&str, PathBuf)]) -> Result<(), CollectError> {
    Delivery::preflight(orders(outputs)).map(drop)
}

fn make(tree: &mut Tree, name: &[u8], kind: NewKind) {
    let new = NewInode {
        kind,
        mode: 0o644,
        uid: owner().uid,
        gid: owner().gid,
    };
    tree.create(Ino::ROOT, Name::new(name).unwrap(), new, Timestamp::now())
        .unwrap();
}

fn link(tree: &mut Tree, name: &str, target: &str) {
    make(tree, name.as_bytes(), NewKind::Symlink(target.into()));
}

/// A writer whose bytes can be looked at.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A writer whose reader has gone.
struct Gone;

impl Write for Gone {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_new_file_has_content_mode_and_time() {
    let host = host_directory();
    let mut tree = tree_with(&[("A.gb", b"rom")]);
    let mtime = Timestamp {
        secs: 1_234_567,
        nanos: 89,
    };
    let change = SetAttr {
        mode: Some(0o4640),
        mtime: Some(mtime),
        ..SetAttr::default()
    };
    let ino = attr(&tree, "A.gb").ino;
    tree.set_attr(ino, &change, Timestamp::now()).unwrap();
    let to = host.path().join("out.gb");
    let delivered = deliver(&tree, &[("A.gb", to.clone())]).unwrap();
    assert_eq!((delivered.progress.files, delivered.progress.bytes), (1, 3));
    assert_eq!(listing(host.path()), ["out.gb: rom"]);
    let there = fs::metadata(&to).unwrap();
    assert_eq!(there.mode() & 0o7777, 0o640);
    assert_eq!((there.mtime(), there.mtime_nsec()), (1_234_567, 89));
}

#[test]
fn an_old_file_is_replaced_whole() {
    let host = host_directory();
    let to = host.path().join("A.gb");
    fs::write(&to, "old").unwrap();
    let mut still_open = File::open(&to).unwrap();
    deliver(&tree_with(&[("A.gb", b"new")]), &[("A.gb", to)]).unwrap();
    assert_eq!(listing(host.path()), ["A.gb: new"]);
    let mut seen = String::new();
    still_open.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "old", "who has it open keeps the old file");
}

#[test]
fn names_of_any_bytes_are_delivered() {
    let host = host_directory();
    let name = TreePath::parse(b"o\xffd \n=").unwrap();
    let mut tree = tree();
    Stage::new(&mut tree, owner(), Timestamp::now())
        .bytes(&name, b"x")
        .unwrap();
    let to = Destination::Host(host.path().join(""));
    let delivery = Delivery::preflight([(name, to)]).unwrap();
    delivery
        .prepare(&tree, &crate::support::tree())
        .unwrap()
        .commit()
        .unwrap();
    assert!(
        host.path()
            .join(std::ffi::OsStr::from_bytes(b"o\xffd \n="))
            .exists()
    );
}

#[test]
fn a_directory_takes_the_file_under_its_name() {
    let host = host_directory();
    fs::create_dir(host.path().join("dir")).unwrap();
    let tree = tree_with(&[("sub/A.gb", b"rom"), ("B.gb", b"b")]);
    deliver(
        &tree,
        &[
            ("sub/A.gb", host.path().join("dir")),
            ("B.gb", host.path().join("new/deep/")),
        ],
    )
    .unwrap();
    let expected = [
        "dir/",
        "dir/A.gb: rom",
        "new/",
        "new/deep/",
        "new/deep/B.gb: b",
    ];
    assert_eq!(listing(host.path()), expected);
}

#[test]
fn a_symlinks_target_is_replaced_and_not_the_link() {
    let host = host_directory();
    fs::create_dir(host.path().join("real")).unwrap();
    fs::write(host.path().join("real/file"), "old").unwrap();
    symlink("real/file", host.path().join("link")).unwrap();
    symlink("real/absent", host.path().join("dangling")).unwrap();
    symlink("real", host.path().join("dir")).unwrap();
    let tree = tree_with(&[("a", b"a"), ("b", b"b"), ("c", b"c")]);
    deliver(
        &tree,
        &[
            ("a", host.path().join("link")),
            ("b", host.path().join("dangling")),
            ("c", host.path().join("dir")),
        ],
    )
    .unwrap();
    assert_eq!(
        listing(host.path()),
        [
            "dangling -> real/absent",
            "dir -> real",
            "link -> real/file",
            "real/",
            "real/absent: b",
            "real/c: c",
            "real/file: a"
        ]
    );
    symlink("loop", host.path().join("loop")).unwrap();
    let error = preflight(&[("a", host.path().join("loop"))]).unwrap_err();
    assert!(
        chain(&error).contains("Too many levels of symbolic links"),
        "{}",
        chain(&error)
    );
}

#[test]
fn a_failure_puts_everything_back() {
    let host = host_directory();
    let at = |name: &str| host.path().join(name);
    fs::write(at("old"), "old").unwrap();
    symlink("old", at("link")).unwrap();
    fs::write(at("target"), "t").unwrap();
    fs::write(at("third"), "3").unwrap();
    let before = listing(host.path());
    let old_inode = fs::metadata(at("old")).unwrap().ino();
    let tree = tree_with(&[("a", b"A"), ("b", b"B"), ("c", b"C"), ("d", b"D")]);
    let outputs = [
        ("a", at("old")),
        ("b", at("new/deep/b")),
        ("c", at("target")),
        ("d", at("third")),
    ];
    let prepared = Delivery::preflight(orders(&outputs))
        .unwrap()
        .prepare(&tree, &crate::support::tree())
        .unwrap();
    assert_eq!(
        listing(host.path()),
        before,
        "nothing is seen before the commit"
    );
    // What no preflight can know: the last destination becomes a directory with something in it.
    fs::remove_file(at("third")).unwrap();
    fs::create_dir(at("third")).unwrap();
    fs::write(at("third/x"), "").unwrap();
    let error = prepared.commit().unwrap_err();
    let CollectError::Destination {
        name, destination, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((name, destination), (&path("d"), &at("third")));
    assert!(
        chain(&error).contains("Is a directory"),
        "{}",
        chain(&error)
    );
    let after = [
        "link -> old",
        "old: old",
        "target: t",
        "third/",
        "third/x: ",
    ];
    assert_eq!(listing(host.path()), after);
    assert_eq!(
        fs::metadata(at("old")).unwrap().ino(),
        old_inode,
        "the very same file"
    );
}

#[test]
fn a_writer_that_fails_puts_everything_back() {
    let host = host_directory();
    fs::write(host.path().join("old"), "old").unwrap();
    let mut tree = tree_with(&[("a", b"A"), ("b", b"B"), ("dir/x", b"x")]);
    let ino = attr(&tree, "dir").ino;
    let change = SetAttr {
        mode: Some(0o555),
        ..SetAttr::default()
    };
    tree.set_attr(ino, &change, Timestamp::now()).unwrap();
    let mut wanted = orders(&[
        ("a", host.path().join("old")),
        ("dir", host.path().join("new/dir")),
    ]);
    wanted.push((path("b"), Destination::Writer(Box::new(Gone))));
    let delivery = Delivery::preflight(wanted).unwrap();
    let error = delivery
        .prepare(&tree, &crate::support::tree())
        .unwrap()
        .commit()
        .unwrap_err();
    assert!(error.is_broken_pipe());
    assert_eq!(chain(&error), "cannot write out \"b\": broken pipe");
    assert_eq!(listing(host.path()), ["old: old"]);
}

#[test]
fn what_is_prepared_and_dropped_leaves_nothing() {
    let host = host_directory();
    fs::write(host.path().join("old"), "old").unwrap();
    let mut tree = tree_with(&[("dir/a", b"A"), ("b", b"B")]);
    link(&mut tree, "dir2", "dir");
    let delivery = Delivery::preflight(orders(&[
        ("dir2", host.path().join("new")),
        ("b", host.path().join("old")),
    ]));
    drop(
        delivery
            .unwrap()
            .prepare(&tree, &crate::support::tree())
            .unwrap(),
    );
    assert_eq!(listing(host.path()), ["old: old"]);
}

#[test]
fn writers_get_raw_bytes_last() {
    let host = host_directory();
    let bytes: Vec<u8> = (0..3_000_000_u32)
        .map(|n| (n.wrapping_mul(n) >> 3) as u8)
        .collect();
    let mut tree = tree_with(&[("a", &bytes), ("b", b"B")]);
    // A hole in the middle reads as zeros.
    let ino = attr(&tree, "b").ino;
    tree.write(ino, 10 << 20, b"end", Timestamp::now()).unwrap();
    let (first, second) = (Kept::default(), Kept::default());
    let delivery = Delivery::preflight([
        (path("a"), Destination::Writer(Box::new(first.clone()))),
        (path("b"), Destination::Writer(Box::new(second.clone()))),
        (path("b"), Destination::Host(host.path().join("b"))),
    ]);
    delivery
        .unwrap()
        .prepare(&tree, &crate::support::tree())
        .unwrap()
        .commit()
        .unwrap();
    assert!(*first.0.lock().unwrap() == bytes);
    let second = second.0.lock().unwrap();
    assert_eq!(second.len(), (10 << 20) + 3);
    assert!(second.starts_with(b"B\0\0") && second.ends_with(b"\0\0end"));
    assert!(fs::read(host.path().join("b")).unwrap() == *second);
    let mut copied = Vec::new();
    assert_eq!(
        collect::copy(&tree, &path("b"), &mut copied).unwrap(),
        (10 << 20) + 3
    );
    assert!(copied == *second);
}

#[test]
fn holes_stay_holes() {
    let host = host_directory();
    let probe = host.path().join("probe");
    File::create(&probe).unwrap().set_len(1 << 30).unwrap();
    let mut tree = tree_with(&[("s", b"begin")]);
    let ino = attr(&tree, "s").ino;
    tree.write(ino, 100 << 20, b"middle", Timestamp::now())
        .unwrap();
    let change = SetAttr {
        size: Some(1 << 30),
        ..SetAttr::default()
    };
    tree.set_attr(ino, &change, Timestamp::now()).unwrap();
    let to = host.path().join("s");
    deliver(&tree, &[("s", to.clone())]).unwrap();
    assert_eq!(fs::metadata(&to).unwrap().len(), 1 << 30);
    if allocated(&probe) == 0 {
        assert!(allocated(&to) < 1 << 20, "{}", allocated(&to));
    }
    let mut bytes = [0; 6];
    std::os::unix::fs::FileExt::read_exact_at(&File::open(&to).unwrap(), &mut bytes, 100 << 20)
        .unwrap();
    assert_eq!(&bytes, b"middle");
}

#[test]
fn fifos_and_devices_are_written_into() {
    let host = host_directory();
    let fifo = host.path().join("fifo");
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let tree = tree_with(&[("a", b"through the fifo"), ("b", b"B"), ("c", b"C")]);
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(|| fs::read(&fifo).unwrap());
        let outputs = [
            ("a", fifo.clone()),
            ("b", PathBuf::from("/dev/null")),
            ("c", PathBuf::from("/dev/null")),
        ];
        deliver(&tree, &outputs).unwrap();
        reader.join().unwrap()
    });
    assert_eq!(read, b"through the fifo");
    assert_eq!(listing(host.path()), ["fifo: special"]);
    let (mut reader, writer) = io::pipe().unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&writer);
    deliver(&tree, &[("b", format!("/dev/fd/{fd}").into())]).unwrap();
    drop(writer);
    let mut read = Vec::new();
    reader.read_to_end(&mut read).unwrap();
    assert_eq!(read, b"B");
}

/// Run by the next test in a process of its own, whose standard output is a file.
#[test]
#[ignore = "no test but a part of the next one"]
fn deliver_to_dev_stdout() {
    let tree = tree_with(&[("a", b"<delivered>")]);
    deliver(&tree, &[("a", PathBuf::from("/dev/stdout"))]).unwrap();
}

/// `> file` and `/dev/stdout` share one offset: what was there before stays, what comes after
/// follows, and the file is the same one.
#[test]
fn dev_stdout_is_written_on_and_not_replaced() {
    let host = host_directory();
    let to = host.path().join("redirected");
    let mut file = File::create(&to).unwrap();
    let inode = file.metadata().unwrap().ino();
    file.write_all(b"<before>").unwrap();
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "collect::deliver_to_dev_stdout",
            "--ignored",
            "--nocapture",
        ])
        .stdout(file.try_clone().unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    file.write_all(b"<after>").unwrap();
    let text = fs::read_to_string(&to).unwrap();
    let place = text.find("<delivered>").unwrap();
    assert!(
        text.starts_with("<before>") && text.ends_with("<after>"),
        "{text}"
    );
    assert!(
        text[place..].contains("test result: ok"),
        "the offset is shared: {text}"
    );
    assert_eq!(fs::metadata(&to).unwrap().ino(), inode);
}

#[test]
fn a_directory_is_merged_into_what_is_there() {
    let host = host_directory();
    let at = |name: &str| host.path().join(name);
    fs::create_dir_all(at("out/sub")).unwrap();
    fs::write(at("out/keep"), "kept").unwrap();
    fs::write(at("out/sub/x"), "old").unwrap();
    let mut tree = tree_with(&[("build/sub/x", b"new"), ("build/new/y", b"y")]);
    make(&mut tree, b"fifo", NewKind::Fifo);
    let (fifo, build) = (attr(&tree, "fifo").ino, attr(&tree, "build").ino);
    tree.link(fifo, build, Name::new(b"pipe").unwrap(), Timestamp::now())
        .unwrap();
    let new = attr(&tree, "build/new").ino;
    let mtime = Timestamp { secs: 99, nanos: 1 };
    let change = SetAttr {
        mode: Some(0o750),
        mtime: Some(mtime),
        ..SetAttr::default()
    };
    tree.set_attr(new, &change, Timestamp::now()).unwrap();
    let delivered = deliver(&tree, &[("build", at("out"))]).unwrap();
    let expected = [
        "out/",
        "out/keep: kept",
        "out/new/",
        "out/new/y: y",
        "out/sub/",
        "out/sub/x: new",
    ];
    assert_eq!(listing(host.path()), expected);
    assert_eq!(delivered.skipped.first()[0].kind, Kind::Fifo);
    assert_eq!(delivered.skipped.first()[0].path, Path::new("build/pipe"));
    let there = fs::metadata(at("out/new")).unwrap();
    assert_eq!(
        (there.mode() & 0o777, there.mtime(), there.mtime_nsec()),
        (0o750, 99, 1)
    );
    // Again, which finds everything there; and with a slash, into a directory of its own name.
    deliver(&tree, &[("build", at("out"))]).unwrap();
    assert_eq!(listing(host.path()), expected);
    deliver(&tree, &[("build", at("all/"))]).unwrap();
    assert_eq!(
        listing(&at("all")),
        [
            "build/",
            "build/new/",
            "build/new/y: y",
            "build/sub/",
            "build/sub/x: new"
        ]
    );
}

#[test]
fn the_whole_tree_can_be_delivered() {
    let host = host_directory();
    let tree = tree_with(&[("a", b"A"), ("d/b", b"B")]);
    deliver(&tree, &[(".", host.path().join("all"))]).unwrap();
    assert_eq!(
        listing(host.path()),
        ["all/", "all/a: A", "all/d/", "all/d/b: B"]
    );
}

#[test]
fn symlinks_in_a_directory_stay_and_lead_nowhere() {
    let host = host_directory();
    let at = |name: &str| host.path().join(name);
    let secret = host_directory();
    let mut tree = tree();
    link(&mut tree, "sub", secret.path().to_str().unwrap());
    link(&mut tree, "dangling", "nowhere");
    deliver(&tree, &[(".", at("out"))]).unwrap();
    let there = format!("out/sub -> {}", secret.path().display());
    assert_eq!(
        listing(host.path()),
        ["out/", "out/dangling -> nowhere", &there]
    );
    // The next run makes a directory of that name: it must not write through the link.
    let tree = tree_with(&[("sub/passwd", b"x"), ("a", b"a")]);
    let error = deliver(&tree, &[(".", at("out"))]).unwrap_err();
    assert!(
        chain(&error).contains("Not a directory"),
        "{}",
        chain(&error)
    );
    assert_eq!(listing(secret.path()), [""; 0]);
    assert_eq!(
        listing(host.path()),
        ["out/", "out/dangling -> nowhere", &there]
    );
    // A file of that name replaces the link itself.
    deliver(&tree_with(&[("dangling", b"file")]), &[(".", at("out"))]).unwrap();
    assert_eq!(listing(host.path()), ["out/", "out/dangling: file", &there]);
}

#[test]
fn a_named_symlink_is_followed_within_the_tree() {
    let host = host_directory();
    let mut tree = tree_with(&[("out/v2/A.gb", b"rom")]);
    link(&mut tree, "latest", "out/./v2");
    link(&mut tree, "up", "latest/../v2/A.gb");
    link(&mut tree, "outside", "/etc/passwd");
    link(&mut tree, "above", "../x");
    link(&mut tree, "nothing", "gone");
    link(&mut tree, "circle", "circle");
    assert_eq!(read(&tree, "latest/A.gb"), b"rom");
    assert_eq!(read(&tree, "up"), b"rom");
    deliver(&tree, &[("latest/A.gb", host.path().join(""))]).unwrap();
    assert_eq!(listing(host.path()), ["A.gb: rom"]);
    for name in ["outside", "above", "nothing", "circle"] {
        let error = collect::read(&tree, &path(name)).unwrap_err();
        assert!(
            matches!(error, CollectError::Symlink { .. }),
            "{name}: {error:?}"
        );
        let error = deliver(&tree, &[(name, host.path().join("x"))]).unwrap_err();
        assert!(
            matches!(error, CollectError::Symlink { .. }),
            "{name}: {error:?}"
        );
    }
    let text = "cannot collect \"outside\": its symlink to \"/etc/passwd\" leads out of the mount or to nothing";
    assert_eq!(
        collect::read(&tree, &path("outside"))
            .unwrap_err()
            .to_string(),
        text
    );
}

#[test]
fn what_is_no_file_has_no_content() {
    let host = host_directory();
    let mut tree = tree_with(&[("dir/x", b"")]);
    make(&mut tree, b"fifo", NewKind::Fifo);
    let error = collect::read(&tree, &path("dir")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot collect \"dir\": it is a directory"
    );
    let error = deliver(&tree, &[("fifo", host.path().join("f"))]).unwrap_err();
    assert_eq!(error.to_string(), "cannot collect \"fifo\": it is a FIFO");
    let error = Delivery::preflight([(path("dir"), Destination::Writer(Box::new(Gone)))])
        .unwrap()
        .prepare(&tree, &crate::support::tree())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot collect \"dir\": it is a directory"
    );
    let error = deliver(&tree, &[("dir", PathBuf::from("/dev/null"))]).unwrap_err();
    assert!(
        chain(&error).contains("the output is a directory"),
        "{}",
        chain(&error)
    );
}

#[test]
fn missing_outputs_name_what_is_near_and_what_was_made() {
    let mut tree = tree_with(&[("A.asm", b"source"), ("patched", b"1"), ("lib/B.o", b"o")]);
    let before = tree.fork();
    add(
        &mut tree,
        &[("Game.gb", b"rom"), ("Game.map", b"map"), ("patched", b"2")],
    );
    let check = |names: &[&str]| {
        let names: Vec<_> = names.iter().map(|name| path(name)).collect();
        MissingOutputs::check(&tree, &before, &names).map_err(|missing| missing.to_string())
    };
    let made = "made: Game.gb, Game.map, patched";
    assert_eq!(check(&["Game.gb", "A.asm"]), Ok(()));
    for (name, nearest) in [
        ("game.gb", Some("Game.gb")),
        ("Gaem.gb", Some("Game.gb")),
        ("out/Game.gb", Some("Game.gb")),
        ("B.o", Some("lib/B.o")),
        ("Game.gb/x", Some("Game.gb")),
        ("zzz", None),
    ] {
        let expected = match nearest {
            Some(nearest) => {
                format!("no output \"{name}\"; did you mean \"{nearest}\"? The tools {made}")
            }
            None => format!("no output \"{name}\"; the tools {made}"),
        };
        assert_eq!(check(&[name]).unwrap_err(), expected);
    }
    assert_eq!(
        check(&["zzz", "Game.gb", "game.map"]).unwrap_err(),
        format!("no outputs \"zzz\", \"game.map\" (did you mean \"Game.map\"?); the tools {made}")
    );
    let nothing = MissingOutputs::check(&before, &before, [&path("x")]).unwrap_err();
    assert_eq!(
        nothing.to_string(),
        "no output \"x\"; the tools made no files"
    );
    for index in 0..20 {
        add(&mut tree, &[(&format!("many/{index:02}"), b"")]);
    }
    let many = MissingOutputs::check(&tree, &before, [&path("x")])
        .unwrap_err()
        .to_string();
    assert!(many.ends_with("many/07 and 13 more"), "{many}");
}

#[test]
fn a_missing_output_leaves_the_host_alone() {
    let host = host_directory();
    fs::write(host.path().join("a"), "old").unwrap();
    let tree = tree_with(&[("a", b"new")]);
    let error = deliver(
        &tree,
        &[("a", host.path().join("a")), ("b", host.path().join("x/b"))],
    );
    assert!(matches!(error, Err(CollectError::Missing(_))));
    assert_eq!(listing(host.path()), ["a: old"]);
}

#[test]
fn made_is_what_is_new_or_changed() {
    let mut tree = tree_with(&[
        ("same", b"1"),
        ("changed", b"1"),
        ("replaced", b"1"),
        ("moved", b"1"),
    ]);
    let before = tree.fork();
    let now = Timestamp::now();
    let changed = attr(&tree, "changed").ino;
    tree.write(changed, 0, b"2", now).unwrap();
    // A tool that sets the old time again has changed it all the same.
    let mtime = before.attr(changed).unwrap().mtime;
    tree.set_attr(
        changed,
        &SetAttr {
            mtime: Some(mtime),
            ..SetAttr::default()
        },
        now,
    )
    .unwrap();
    add(&mut tree, &[("replaced", b"1"), ("new/file", b"")]);
    let name = Name::new(b"moved to").unwrap();
    let mode = notapipe::store::RenameMode::Replace;
    tree.rename((Ino::ROOT, b"moved"), (Ino::ROOT, name), mode, now)
        .unwrap();
    let made: Vec<_> = collect::made(&before, &tree)
        .iter()
        .map(|found| found.path.to_string())
        .collect();
    assert_eq!(made, ["changed", "moved to", "new/file", "replaced"]);
}

#[test]
fn two_outputs_of_one_place_are_refused_before_anything_runs() {
    let host = host_directory();
    let at = |name: &str| host.path().join(name);
    fs::create_dir(at("dir")).unwrap();
    symlink("dir", at("same")).unwrap();
    symlink("x", at("link")).unwrap();
    for (first, second) in [
        (at("x"), at("x")),
        (at("x"), at("./dir/../x")),
        (at("dir/x"), at("same/x")),
        (at("x"), at("link")),
        (at("dir"), at("dir/a")),
        (at("n/x"), at("n/x")),
        (at("n"), at("n/x")),
        (at("n/x"), at("n")),
    ] {
        let error = preflight(&[("a", first.clone()), ("b", second.clone())]).unwrap_err();
        assert!(
            matches!(error, CollectError::Twice { .. }),
            "{first:?} {second:?}: {error:?}"
        );
    }
    preflight(&[("a", at("dir")), ("b", at("dir"))]).unwrap();
    // Only seen when the directory is known.
    let tree = tree_with(&[("d/b", b"1"), ("b", b"2")]);
    let error = deliver(&tree, &[("d", at("dir")), ("b", at("dir"))]).unwrap_err();
    assert!(matches!(error, CollectError::Twice { .. }), "{error:?}");
    assert_eq!(listing(&at("dir")), [""; 0]);
}

#[test]
fn destinations_that_cannot_be_are_refused_before_anything_runs() {
    let host = host_directory();
    let at = |name: &str| host.path().join(name);
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("locked")).unwrap();
    fs::write(at("locked/old"), "old").unwrap();
    fs::set_permissions(at("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    as_ordinary_user(|| {
        for (to, problem) in [
            (at("file/x"), "Not a directory"),
            (at("file/"), "is a file"),
            (at("locked/new"), "files cannot be made in the directory"),
            (at("locked/old"), "files cannot be made in the directory"),
            (at("locked"), "files cannot be made in the directory"),
            (at("locked/a/b/c"), "files cannot be made in the directory"),
            (at("missing/../x"), "No such file"),
            (PathBuf::new(), "empty"),
        ] {
            let error = preflight(&[("a", to.clone())]).unwrap_err();
            let told = chain(&error);
            assert!(told.contains(problem), "{to:?}: {told}");
            assert!(told.contains("\"a\""), "{to:?}: {told}");
        }
    });
}

#[test]
fn a_directory_that_is_closed_meanwhile_fails_and_changes_nothing() {
    let host = host_directory();
    let at = |name: &str| host.path().join(name);
    for name in ["one", "two"] {
        fs::create_dir(at(name)).unwrap();
        fs::write(at(name).join("f"), "old").unwrap();
        fs::set_permissions(at(name), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::set_permissions(host.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let tree = tree_with(&[("a", b"A"), ("b", b"B")]);
    let outputs = [("a", at("one/f")), ("b", at("two/f"))];
    let prepare = || {
        let delivery = Delivery::preflight(orders(&outputs)).unwrap();
        delivery.prepare(&tree, &crate::support::tree())
    };
    // This thread still owns the directories and closes one in between.
    let prepared = as_ordinary_user(|| prepare().unwrap());
    fs::set_permissions(at("two"), fs::Permissions::from_mode(0o555)).unwrap();
    let error = as_ordinary_user(|| prepared.commit().unwrap_err());
    assert!(
        chain(&error).contains("Permission denied"),
        "{}",
        chain(&error)
    );
    assert_eq!(
        listing(host.path()),
        ["one/", "one/f: old", "two/", "two/f: old"]
    );
}

#[test]
fn several_file_systems_are_one_delivery() {
    let (here, Ok(there)) = (host_directory(), tempfile::tempdir_in("/dev/shm")) else {
        return;
    };
    fs::write(here.path().join("a"), "old").unwrap();
    fs::write(there.path().join("b"), "old").unwrap();
    let tree = tree_with(&[("a", b"A"), ("b", b"B"), ("c", b"C")]);
    let outputs = [
        ("a", here.path().join("a")),
        ("b", there.path().join("b")),
        ("c", there.path().join("new/c")),
    ];
    deliver(&tree, &outputs).unwrap();
    assert_eq!(listing(here.path()), ["a: A"]);
    assert_eq!(listing(there.path()), ["b: B", "new/", "new/c: C"]);
}

#[test]
fn more_files_than_descriptors_are_delivered() {
    let host = host_directory();
    let mut tree = tree();
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    for index in 0..3000 {
        stage
            .bytes(&path(&format!("d/{index}")), index.to_string())
            .unwrap();
    }
    drop(stage);
    for _ in 0..2 {
        let delivered = deliver(&tree, &[("d", host.path().join("d"))]).unwrap();
        assert_eq!(delivered.progress.files, 3000);
        let listed = listing(host.path());
        assert_eq!(listed.len(), 3001);
        assert!(listed.contains(&"d/2999: 2999".to_owned()));
    }
}

#[test]
fn a_file_that_root_replaces_keeps_its_owner() {
    if !crate::support::site::may_be_root("all of it") {
        return;
    }
    let host = host_directory();
    let to = host.path().join("a");
    fs::write(&to, "old").unwrap();
    std::os::unix::fs::chown(&to, Some(1234), Some(4321)).unwrap();
    deliver(&tree_with(&[("a", b"new")]), &[("a", to.clone())]).unwrap();
    let there = fs::metadata(&to).unwrap();
    assert_eq!((there.uid(), there.gid()), (1234, 4321));
}

#[test]
fn the_listener_can_stop_a_delivery() {
    let host = host_directory();
    let tree = tree_with(&[("a", &vec![1; 5 << 20])]);
    let delivery = Delivery::preflight(orders(&[("a", host.path().join("a"))])).unwrap();
    let error = delivery
        .listen(|progress| {
            if progress.bytes > 2 << 20 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .prepare(&tree, &crate::support::tree())
        .unwrap_err();
    assert!(matches!(error, CollectError::Interrupted));
    assert_eq!(listing(host.path()), [""; 0]);
}

#[test]
fn directories_are_listed_in_order() {
    let mut tree = tree_with(&[("b/y", b"1"), ("b/x", b"12"), ("a", b"")]);
    link(&mut tree, "c", "b");
    let names = |found: Vec<collect::Found>| -> Vec<String> {
        found
            .into_iter()
            .map(|found| found.path.to_string())
            .collect()
    };
    assert_eq!(
        names(collect::list(&tree, &TreePath::root()).unwrap()),
        ["a", "b", "c"]
    );
    assert_eq!(
        names(collect::list(&tree, &path("c")).unwrap()),
        ["c/x", "c/y"]
    );
    assert_eq!(
        names(collect::walk(&tree, &TreePath::root()).unwrap()),
        ["a", "b", "b/x", "b/y", "c"]
    );
    assert!(collect::list(&tree, &path("a")).is_err());
}

/// As it is told by comparing all paths of both trees.
fn changed_slowly(before: &Tree, after: &Tree) -> Vec<String> {
    let mut changed = Vec::new();
    for found in collect::walk(after, &TreePath::root()).unwrap() {
        let then = before.resolve(&found.path).and_then(|ino| before.attr(ino));
        let same = then.is_ok_and(|then| {
            then.ino == found.attr.ino
                && (then.kind == Kind::Directory || then.ctime == found.attr.ctime)
        });
        let in_new = changed.iter().any(|above: &TreePath| {
            found.path.starts_with(above) && after.resolve(above) != before.resolve(above)
        });
        if !same || in_new {
            changed.push(found.path);
        }
    }
    changed.iter().map(ToString::to_string).collect()
}

/// Changes of all kinds, at random, against the comparison of everything.
#[test]
fn changes_are_found_without_looking_at_the_rest() {
    let mut random = 1_u32;
    let mut below = move |most: u32| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) % most
    };
    for round in 0..200 {
        let mut before = tree();
        let mut clock = 0;
        for _ in 0..40 {
            change(&mut before, &mut below, &mut clock);
        }
        let mut after = before.fork();
        for _ in 0..round % 25 {
            change(&mut after, &mut below, &mut clock);
        }
        let found = collect::changed(&before, &after);
        let names: Vec<_> = found.iter().map(|found| found.path.to_string()).collect();
        assert_eq!(names, changed_slowly(&before, &after), "round {round}");
        for found in found {
            assert_eq!(after.resolve(&found.path), Ok(found.attr.ino));
        }
    }
}

/// One change somewhere; what cannot be done is not.
fn change(tree: &mut Tree, below: &mut impl FnMut(u32) -> u32, clock: &mut i64) {
    *clock += 1;
    let now = Timestamp {
        secs: *clock,
        nanos: 0,
    };
    let all = collect::walk(tree, &TreePath::root()).unwrap();
    let directories: Vec<Ino> = all
        .iter()
        .filter(|found| found.attr.kind == Kind::Directory)
        .map(|found| found.attr.ino)
        .chain([Ino::ROOT])
        .collect();
    let directory = directories[below(directories.len() as u32) as usize];
    let name = Name::new(format!("n{}", below(6)).as_bytes()).unwrap();
    let new = |kind| NewInode {
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    let chosen = (!all.is_empty()).then(|| all[below(all.len() as u32) as usize].clone());
    match (below(8), chosen) {
        (0 | 1, _) => {
            let _ = tree.create(directory, name, new(NewKind::File), now);
        }
        (2, _) => {
            let _ = tree.create(directory, name, new(NewKind::Directory), now);
        }
        (3, Some(found)) => {
            let _ = tree.write(found.attr.ino, 0, b"new", now);
        }
        (4, Some(found)) => {
            let mode = SetAttr {
                mode: Some(0o700),
                ..SetAttr::default()
            };
            let _ = tree.set_attr(found.attr.ino, &mode, now);
        }
        (5, Some(found)) => {
            let _ = tree.link(found.attr.ino, directory, name, now);
        }
        (6, Some(found)) => {
            let (parent, old) = (
                found.path.parent().unwrap(),
                found.path.file_name().unwrap(),
            );
            let parent = tree.resolve(&parent).unwrap();
            let mode = RenameMode::Replace;
            let renamed = tree.rename((parent, old.as_bytes()), (directory, name), mode, now);
            if let Ok(Some(lost)) = renamed {
                tree.free(lost.ino);
            }
        }
        (_, Some(found)) => {
            let (parent, old) = (
                found.path.parent().unwrap(),
                found.path.file_name().unwrap(),
            );
            let parent = tree.resolve(&parent).unwrap();
            let removed = match found.attr.kind {
                Kind::Directory => tree.rmdir(parent, old.as_bytes(), now),
                _ => tree.unlink(parent, old.as_bytes(), now),
            };
            if let Ok(lost) = removed {
                tree.free(lost.ino);
            }
        }
        (_, None) => {}
    }
}

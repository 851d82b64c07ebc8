//! Directories nested deeper than a path can say, than a stack allows, and than there may be descriptors.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::Path;

use notapipe::collect::{self, Delivery, Destination, Wanted};
use notapipe::stage::{Stage, StageError};
use notapipe::store::{Ino, Limits, Name, NewInode, NewKind, Timestamp, Tree, TreePath};
use notapipe::{Job, Scratch};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use crate::support::{host_directory, owner, tree_of};

const LEVELS: usize = 20_000;

fn deep_tree() -> (Tree, Tree) {
    let mut tree = tree_of(Limits::of_bytes(1 << 30));
    let before = tree.fork();
    let mut at = Ino::ROOT;
    for _ in 0..LEVELS {
        let mut make = |kind, name: &[u8]| {
            let (uid, gid) = (owner().uid, owner().gid);
            let new = NewInode {
                kind,
                mode: 0o755,
                uid,
                gid,
            };
            let made = tree.create(at, Name::new(name).unwrap(), new, Timestamp::now());
            made.unwrap().ino
        };
        make(NewKind::File, b"f");
        at = make(NewKind::Directory, b"d");
    }
    (before, tree)
}

/// Each of these took the square of the depth in memory: at this depth, some gigabytes.
#[test]
fn a_deep_tree_is_walked_compared_packed_and_dropped() {
    let (before, tree) = deep_tree();
    let all = collect::walk(&tree, &TreePath::root()).unwrap();
    assert_eq!(all.len(), 2 * LEVELS);
    assert_eq!(all.iter().map(|it| it.path.depth()).max(), Some(LEVELS));
    assert!(all.is_sorted_by(|a, b| a.path < b.path));
    assert_eq!(collect::changed(&before, &tree), all);
    let found = collect::select(&tree, &before, &[Wanted::Changed]).unwrap();
    assert_eq!(found.len(), 2);
    let absent = Wanted::Named(TreePath::parse("absent").unwrap());
    assert!(collect::select(&tree, &before, &[absent]).is_err());
}

#[test]
fn delivering_a_deep_tree_ends_when_it_is_asked_to() {
    let host = host_directory();
    let (before, tree) = deep_tree();
    let out = Destination::Host(host.path().join("out"));
    let mut calls = 0;
    let delivery = Delivery::preflight([(TreePath::parse("d").unwrap(), out)]).unwrap();
    let stopped = delivery
        .listen(|_| {
            calls += 1;
            if calls > 50 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .prepare(&tree, &before)
        .and_then(|prepared| prepared.commit());
    assert!(matches!(stopped, Err(collect::CollectError::Interrupted)));
    assert!(!host.path().join("out").exists());
}

#[test]
fn what_a_step_does_far_down_is_told_in_full() {
    let script = "import os
for i in range(3000):
    os.mkdir('d'); os.chdir('d')
open('f', 'w').write('x')";
    let outcome = Job::new()
        .profile(notapipe::Profile::Observed)
        .step(["python3", "-c", script])
        .run()
        .unwrap();
    let touched = outcome.steps()[0].touched.as_ref().unwrap();
    assert_eq!(touched.created.len(), 3001);
    assert_eq!(touched.created[3000].depth(), 3001);
}

fn enter(at: &OwnedFd, name: &str) -> OwnedFd {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).unwrap()
}

/// Makes a directory of the host in which `levels` stand one in another, each with a file.
fn deep_host(at: &Path, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, at, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
        rustix::fs::symlinkat("target", &at, "l").unwrap();
        at = enter(&at, "d");
    }
}

/// The standard library would take a descriptor for each level.
fn remove_deep(host: &Path, levels: usize) {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, host, flags, Mode::empty()).unwrap();
    for _ in 0..levels {
        rustix::fs::unlinkat(&at, "l", AtFlags::empty()).unwrap();
        at = enter(&at, "d");
    }
    for _ in 0..levels {
        at = enter(&at, "..");
        rustix::fs::unlinkat(&at, "d", AtFlags::REMOVEDIR).unwrap();
    }
}

/// Deeper than descriptors may be held, and than a path reaches.
#[test]
fn a_deep_directory_of_the_host_is_staged() {
    const LEVELS: usize = 5_000;
    let host = host_directory();
    deep_host(host.path(), LEVELS);
    let mut tree = tree_of(Limits::of_bytes(1 << 30));
    let mut stage = Stage::new(&mut tree, owner(), Timestamp::now());
    let staged = stage.host(&TreePath::parse("in").unwrap(), host.path());
    drop(stage);
    // A limit that is met far down is told with the whole path, without a panic.
    let mut small = tree_of(Limits {
        bytes: 1 << 20,
        inodes: 6_000,
    });
    let mut stage = Stage::new(&mut small, owner(), Timestamp::now());
    let full = stage.host(&TreePath::parse("in").unwrap(), host.path());
    remove_deep(host.path(), LEVELS);
    staged.unwrap();
    let all = collect::walk(&tree, &TreePath::root()).unwrap();
    assert_eq!(all.len(), 1 + 2 * LEVELS);
    assert_eq!(all.last().unwrap().path.names()[1].as_bytes(), b"l");
    let Err(StageError::Full { path, .. }) = full else {
        panic!("{full:?}")
    };
    assert!(path.depth() > 2_900, "{}", path.depth());
}

#[test]
fn a_deep_directory_is_removed_from_a_scratch() {
    let scratch = Scratch::new().unwrap();
    let script = "import os
for i in range(5000):
    os.mkdir('d'); os.chdir('d')";
    scratch.run(["python3", "-c", script]).unwrap();
    assert_eq!(scratch.usage().inodes, 5001);
    scratch.remove("d").unwrap();
    assert!(!scratch.exists("d").unwrap());
}

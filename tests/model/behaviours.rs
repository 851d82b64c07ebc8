//! Properties of the store that random operations on small files do not show.

use std::collections::BTreeSet;

use bytes::Bytes;
use notapipe::store::{
    AllocateMode, Cookie, Data, Ino, Limits, Name, NewInode, NewKind, RenameMode, Resource,
    SetAttr, StoreError, Timestamp, Tree,
};

const NOW: Timestamp = Timestamp { secs: 1, nanos: 0 };
const PAGE: u64 = 4096;
const CHUNK: u64 = 128 * 1024;
const TIB: u64 = 1 << 40;
const MAX_SIZE: u64 = i64::MAX as u64;
const NO_SPACE: StoreError = StoreError::NoSpace(Resource::Bytes);

fn tree_of(pages: u64) -> Tree {
    Tree::new(
        Limits {
            bytes: pages * PAGE,
            inodes: 1 << 20,
        },
        0o755,
        0,
        0,
        NOW,
    )
}

fn name(name: &str) -> Name {
    Name::new(name.as_bytes()).unwrap()
}

fn create(tree: &mut Tree, dir: Ino, file_name: &str, kind: NewKind) -> Ino {
    let new = NewInode {
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
    };
    tree.create(dir, name(file_name), new, NOW).unwrap().ino
}

/// A tree of so many pages with one empty file.
fn tree_with_file(pages: u64) -> (Tree, Ino) {
    let mut tree = tree_of(pages);
    let file = create(&mut tree, Ino::ROOT, "file", NewKind::File);
    (tree, file)
}

fn resize(tree: &mut Tree, file: Ino, size: u64) -> Result<u64, StoreError> {
    let change = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    tree.set_attr(file, &change, NOW).map(|attr| attr.size)
}

fn used_pages(tree: &Tree) -> u64 {
    tree.usage().bytes / PAGE
}

/// Where bytes lie in memory: the same place means that they are shared.
fn address(data: &[u8]) -> usize {
    data.as_ptr() as usize
}

#[test]
fn growing_by_small_appends_never_moves_what_fills_a_chunk() {
    let (mut tree, file) = tree_with_file(1 << 18);
    let piece = [7; PAGE as usize];
    let mut addresses = Vec::new();
    let size = 64 << 20;
    for offset in (0..size).step_by(piece.len()) {
        tree.write(file, offset, &piece, NOW).unwrap();
        if (offset + PAGE).is_multiple_of(CHUNK) {
            addresses.push(address(&tree.read(file, offset + PAGE - CHUNK, 1).unwrap()));
        }
    }
    // Copying is therefore bounded by the chunk that is being filled, whatever the file's size.
    for (chunk, before) in addresses.into_iter().enumerate() {
        assert_eq!(
            address(&tree.read(file, chunk as u64 * CHUNK, 1).unwrap()),
            before
        );
    }
}

#[test]
fn a_terabyte_of_hole_is_free() {
    let (mut tree, file) = tree_with_file(10);
    assert_eq!(resize(&mut tree, file, TIB), Ok(TIB));
    assert_eq!(used_pages(&tree), 0);
    assert_eq!(tree.seek_data(file, 0), Err(StoreError::NoData));
    assert_eq!(tree.seek_hole(file, 5), Ok(5));
    assert_eq!(&*tree.read(file, TIB - 3, 100).unwrap(), &[0; 3]);
    tree.write(file, TIB - 1, b"x", NOW).unwrap();
    tree.write(file, TIB / 2, b"y", NOW).unwrap();
    assert_eq!(used_pages(&tree), 2);
    assert_eq!(tree.seek_data(file, 0), Ok(TIB / 2));
    assert_eq!(tree.seek_data(file, TIB / 2 + PAGE), Ok(TIB - PAGE));

    let copy = create(&mut tree, Ino::ROOT, "copy", NewKind::File);
    assert_eq!(
        tree.copy_range((file, 0), (copy, 0), u64::MAX, NOW),
        Ok(TIB)
    );
    assert_eq!(
        tree.copy_range((file, 1), (copy, 1 << 62), TIB, NOW),
        Ok(TIB - 1)
    );
    assert_eq!(tree.seek_data(copy, 0), Ok(TIB / 2));
    assert_eq!(
        used_pages(&tree),
        8,
        "a page that is moved by a byte touches two"
    );

    assert_eq!(resize(&mut tree, file, 0), Ok(0));
    assert_eq!(resize(&mut tree, copy, 0), Ok(0));
    assert_eq!(used_pages(&tree), 0);
}

#[test]
fn the_largest_offset_is_the_end() {
    let (mut tree, file) = tree_with_file(100);
    assert_eq!(tree.write(file, MAX_SIZE - 1, b"xy", NOW), Ok(1));
    assert_eq!(tree.attr(file).unwrap().size, MAX_SIZE);
    assert_eq!(
        tree.write(file, MAX_SIZE, b"x", NOW),
        Err(StoreError::TooLarge)
    );
    assert_eq!(
        tree.write(file, u64::MAX, b"x", NOW),
        Err(StoreError::TooLarge)
    );
    assert_eq!(tree.write(file, u64::MAX, b"", NOW), Ok(0));
    assert_eq!(&*tree.read(file, MAX_SIZE - 1, usize::MAX).unwrap(), b"x");
    assert_eq!(&*tree.read(file, u64::MAX, 1).unwrap(), b"");
    assert_eq!(
        resize(&mut tree, file, MAX_SIZE + 1),
        Err(StoreError::TooLarge)
    );
    for mode in [AllocateMode::Extend, AllocateMode::PunchHole] {
        let range = MAX_SIZE - 1..MAX_SIZE + 1;
        assert_eq!(
            tree.allocate(file, range, mode, NOW),
            Err(StoreError::TooLarge)
        );
    }
    let (from, to) = ((file, MAX_SIZE - 1), (file, MAX_SIZE));
    assert_eq!(tree.copy_range(from, to, 1, NOW), Err(StoreError::TooLarge));
    tree.allocate(file, MAX_SIZE - 5..MAX_SIZE, AllocateMode::PunchHole, NOW)
        .unwrap();
    assert_eq!(tree.seek_data(file, 0), Ok(MAX_SIZE + 1 - PAGE));
    assert_eq!(tree.seek_data(file, u64::MAX), Err(StoreError::NoData));
    assert_eq!(tree.seek_hole(file, u64::MAX), Err(StoreError::NoData));
    tree.allocate(file, 0..MAX_SIZE, AllocateMode::PunchHole, NOW)
        .unwrap();
    assert_eq!(
        used_pages(&tree),
        1,
        "the last page is not wholly inside the largest range"
    );
    assert_eq!(resize(&mut tree, file, 0), Ok(0));
    assert_eq!(used_pages(&tree), 0);
}

#[test]
fn a_write_at_the_limit_is_short_at_a_page_and_the_rest_is_refused() {
    let (mut tree, file) = tree_with_file(3);
    assert_eq!(
        tree.write(file, 100, &[1; 20_000], NOW),
        Ok(3 * PAGE as usize - 100)
    );
    assert_eq!(tree.write(file, 3 * PAGE, &[1], NOW), Err(NO_SPACE));
    assert_eq!(tree.write(file, 3 * PAGE - 1, &[1; 2], NOW), Ok(1));
    assert_eq!(tree.attr(file).unwrap().size, 3 * PAGE);

    resize(&mut tree, file, PAGE).unwrap();
    assert_eq!(
        tree.write(file, 100 * PAGE, &[1; 20_000], NOW),
        Ok(2 * PAGE as usize)
    );
}

#[test]
fn a_refused_write_leaves_size_and_times() {
    let (mut tree, file) = tree_with_file(0);
    let before = tree.attr(file);
    let later = Timestamp { secs: 2, nanos: 0 };
    assert_eq!(tree.write(file, 0, &[1; 10], later), Err(NO_SPACE));
    assert_eq!(
        tree.allocate(file, 0..1, AllocateMode::Extend, later),
        Err(NO_SPACE)
    );
    assert_eq!(tree.write(file, 9, &[], later), Ok(0));
    assert_eq!(tree.attr(file), before);
    assert_eq!(tree.seek_data(file, 0), Err(StoreError::NoData));
}

#[test]
fn allocating_over_the_limit_changes_nothing() {
    let (mut tree, file) = tree_with_file(5);
    tree.write(file, PAGE, b"x", NOW).unwrap();
    let before = tree.attr(file);
    for mode in [
        AllocateMode::Extend,
        AllocateMode::ZeroRange,
        AllocateMode::KeepSize,
    ] {
        assert_eq!(tree.allocate(file, 0..TIB, mode, NOW), Err(NO_SPACE));
    }
    assert_eq!(tree.attr(file), before);
    assert_eq!(&*tree.read(file, PAGE, 1).unwrap(), b"x");
    tree.allocate(file, 0..5 * PAGE, AllocateMode::Extend, NOW)
        .unwrap();
    assert_eq!(
        tree.write(file, 0, &[1; 5 * PAGE as usize], NOW),
        Ok(5 * PAGE as usize)
    );
}

#[test]
fn reading_shares_and_keeps_what_was_there() {
    let (mut tree, file) = tree_with_file(1000);
    tree.write(file, 0, &vec![1; CHUNK as usize], NOW).unwrap();
    let (a, b) = (
        tree.read(file, 0, 5000).unwrap(),
        tree.read(file, 100, 50).unwrap(),
    );
    assert_eq!(address(&a) + 100, address(&b));
    let bytes = Bytes::from(a.clone());
    assert_eq!(address(&bytes), address(&a));

    tree.write(file, 0, &[2; 200], NOW).unwrap();
    assert!(a.iter().chain(&*b).chain(&bytes).all(|&byte| byte == 1));
    assert_eq!(&*tree.read(file, 199, 2).unwrap(), &[2, 1]);
    drop((tree, a));
    assert!(bytes.iter().all(|&byte| byte == 1));
}

#[test]
fn reading_over_chunks_tells_the_same_bytes_whether_or_not_they_lie_together() {
    let (mut tree, file) = tree_with_file(1000);
    let other = create(&mut tree, Ino::ROOT, "other", NewKind::File);
    let content: Vec<u8> = (0..5 * CHUNK + 77).map(|at| (at / 100) as u8).collect();
    tree.write(file, 0, &content, NOW).unwrap();
    for (at, piece) in content.chunks(3 * PAGE as usize).enumerate() {
        tree.write(other, at as u64 * 3 * PAGE, piece, NOW).unwrap();
        tree.write(file, at as u64 * 3 * PAGE, piece, NOW).unwrap();
    }
    for (offset, len) in [
        (0, 5 * CHUNK),
        (CHUNK - 1, 2),
        (4000, CHUNK),
        (3 * CHUNK, CHUNK + 1),
    ] {
        let expected = &content[offset as usize..][..len as usize];
        let piece = tree.read(file, offset, len as usize).unwrap();
        assert!(
            *piece == *expected && *tree.read(other, offset, len as usize).unwrap() == *expected
        );
        assert!(Bytes::from(piece.clone()) == *expected);
        tree.write(file, offset, &vec![0; len as usize], NOW)
            .unwrap();
        assert!(*piece == *expected, "what was read has changed");
        tree.write(file, offset, expected, NOW).unwrap();
    }
}

#[test]
fn forks_share_bytes_until_they_write() {
    let (mut tree, file) = tree_with_file(1000);
    tree.write(file, 0, &vec![1; 2 * CHUNK as usize], NOW)
        .unwrap();
    let mut fork = tree.fork();
    assert_eq!(fork.usage(), tree.usage());
    fork.write(file, 0, b"x", NOW).unwrap();
    let at = |tree: &Tree, offset| address(&tree.read(file, offset, 1).unwrap());
    assert_ne!(at(&tree, 0), at(&fork, 0));
    assert_eq!(at(&tree, CHUNK), at(&fork, CHUNK));
    assert_eq!(fork.usage(), tree.usage(), "overwriting charges nothing");
    drop(tree);
    assert_eq!(&*fork.read(file, 0, 2).unwrap(), &[b'x', 1]);
}

#[test]
fn a_fork_leaves_orphans_behind() {
    let (mut tree, file) = tree_with_file(1000);
    tree.write(file, 0, &[1; 5000], NOW).unwrap();
    let unlinked = tree.unlink(Ino::ROOT, b"file", NOW).unwrap();
    assert!(unlinked.orphaned);
    let fork = tree.fork();
    assert_eq!((used_pages(&fork), fork.usage().inodes), (0, 1));
    assert_eq!(fork.attr(file).err(), Some(StoreError::NotFound));
    assert_eq!((used_pages(&tree), tree.usage().inodes), (2, 2));
    assert_eq!(tree.write(file, 5000, &[1; 5000], NOW), Ok(5000));
    tree.free(file);
    assert_eq!((used_pages(&tree), tree.usage().inodes), (0, 1));
}

#[test]
fn nothing_can_be_made_in_a_removed_directory() {
    let mut tree = tree_of(10);
    let dir = create(&mut tree, Ino::ROOT, "dir", NewKind::Directory);
    let file = create(&mut tree, Ino::ROOT, "file", NewKind::File);
    tree.rmdir(Ino::ROOT, b"dir", NOW).unwrap();
    let new = NewInode {
        kind: NewKind::File,
        mode: 0,
        uid: 0,
        gid: 0,
    };
    assert_eq!(
        tree.create(dir, name("a"), new, NOW),
        Err(StoreError::NotFound)
    );
    assert_eq!(
        tree.link(file, dir, name("a"), NOW),
        Err(StoreError::NotFound)
    );
    let moved = tree.rename(
        (Ino::ROOT, b"file"),
        (dir, name("a")),
        RenameMode::Replace,
        NOW,
    );
    assert_eq!(moved, Err(StoreError::NotFound));
    assert_eq!(tree.parent(dir), Err(StoreError::NotFound));
    assert_eq!(tree.attr(dir).unwrap().nlink, 0);
    assert_eq!(tree.entries(dir, Cookie::default()).unwrap().count(), 0);
}

#[test]
fn copying_whole_chunks_shares_them() {
    let (mut tree, file) = tree_with_file(1000);
    tree.write(file, 0, &vec![1; 2 * CHUNK as usize + 77], NOW)
        .unwrap();
    let copy = create(&mut tree, Ino::ROOT, "copy", NewKind::File);
    assert_eq!(
        tree.copy_range((file, 0), (copy, 0), TIB, NOW),
        Ok(2 * CHUNK + 77)
    );
    for offset in [0, CHUNK, 2 * CHUNK] {
        let (a, b) = (
            tree.read(file, offset, 1).unwrap(),
            tree.read(copy, offset, 1).unwrap(),
        );
        assert_eq!(address(&a), address(&b));
    }
    assert_eq!(used_pages(&tree), 2 * 65);
    tree.write(copy, 2 * CHUNK, b"x", NOW).unwrap();
    assert_eq!(&*tree.read(file, 2 * CHUNK, 1).unwrap(), &[1]);
}

#[test]
fn a_copy_at_the_limit_is_short() {
    let (mut tree, file) = tree_with_file(50);
    tree.write(file, 0, &[1; 40 * PAGE as usize], NOW).unwrap();
    let copy = create(&mut tree, Ino::ROOT, "copy", NewKind::File);
    assert_eq!(
        tree.copy_range((file, 0), (copy, 0), 40 * PAGE, NOW),
        Ok(10 * PAGE)
    );
    assert_eq!(
        tree.copy_range((file, 0), (copy, 10 * PAGE), PAGE, NOW),
        Err(NO_SPACE)
    );
    assert_eq!(
        tree.copy_range((file, 0), (file, PAGE - 1), PAGE, NOW),
        Err(StoreError::InvalidArgument)
    );
    assert_eq!(
        tree.copy_range((file, 0), (file, PAGE), PAGE, NOW),
        Ok(PAGE)
    );
}

#[test]
fn extended_attributes_do_not_escape_the_limit() {
    let (mut tree, file) = tree_with_file(20);
    let value = [1; 65_536];
    assert_eq!(
        tree.set_xattr(file, b"user.a", &value, false, false, NOW),
        Ok(())
    );
    assert_eq!(used_pages(&tree), 17, "the name takes the seventeenth page");
    assert_eq!(
        tree.set_xattr(file, b"user.b", &value, false, false, NOW),
        Err(NO_SPACE)
    );
    assert_eq!(tree.attr(file).unwrap().blocks, 0);
    assert_eq!(
        tree.write(file, 0, &[1; 20_000], NOW),
        Ok(3 * PAGE as usize)
    );
    tree.remove_xattr(file, b"user.a", NOW).unwrap();
    assert_eq!(used_pages(&tree), 3);

    tree.set_limits(Limits {
        bytes: u64::MAX,
        inodes: 10,
    });
    let set = |tree: &mut Tree, number: u32| {
        tree.set_xattr(
            file,
            format!("user.{number:0>250}").as_bytes(),
            b"",
            false,
            false,
            NOW,
        )
    };
    assert_eq!(
        (0..256)
            .map(|number| set(&mut tree, number))
            .find(Result::is_err),
        None
    );
    assert_eq!(
        set(&mut tree, 256),
        Err(NO_SPACE),
        "listxattr could not tell it"
    );
    assert_eq!(set(&mut tree, 0), Ok(()));
}

#[test]
fn a_very_deep_tree_is_dropped_without_deep_recursion() {
    let mut tree = tree_of(0);
    let mut dir = Ino::ROOT;
    for _ in 0..100_000 {
        dir = create(&mut tree, dir, "d", NewKind::Directory);
    }
    let fork = tree.fork();
    let back = tree.rename(
        (Ino::ROOT, b"d"),
        (dir, name("d")),
        RenameMode::Replace,
        NOW,
    );
    assert_eq!(back, Err(StoreError::InvalidArgument));
    drop(tree);
    drop(fork);
}

#[test]
fn a_reader_sees_every_name_that_stays_once_while_others_come_and_go() {
    let mut tree = tree_of(0);
    for number in 0..1000 {
        create(
            &mut tree,
            Ino::ROOT,
            &format!("stays{number}"),
            NewKind::Fifo,
        );
        create(
            &mut tree,
            Ino::ROOT,
            &format!("goes{number}"),
            NewKind::Fifo,
        );
    }
    let (mut seen, mut cookie, mut round) = (BTreeSet::new(), Cookie::default(), 0);
    loop {
        let piece: Vec<_> = tree
            .entries(Ino::ROOT, cookie)
            .unwrap()
            .take(7)
            .map(|entry| (entry.cookie, entry.name.clone()))
            .collect();
        let Some((last, _)) = piece.last() else { break };
        cookie = *last;
        for (_, name) in piece {
            assert!(seen.insert(name.as_bytes().to_vec()), "{name:?} came twice");
        }
        if round < 1000 {
            let stays = format!("stays{round}");
            let new = format!("new{round}");
            tree.unlink(Ino::ROOT, format!("goes{round}").as_bytes(), NOW)
                .unwrap();
            create(&mut tree, Ino::ROOT, &new, NewKind::Fifo);
            // Replaced, as editors and compilers do: it stays.
            let to = (Ino::ROOT, name(&stays));
            tree.rename((Ino::ROOT, new.as_bytes()), to, RenameMode::Replace, NOW)
                .unwrap();
            create(&mut tree, Ino::ROOT, &new, NewKind::Fifo);
        }
        round += 1;
    }
    let stayed = seen
        .iter()
        .filter(|name| name.starts_with(b"stays"))
        .count();
    assert_eq!(stayed, 1000);
}

#[test]
fn what_was_read_can_go_to_another_thread_while_the_tree_is_written() {
    let (mut tree, file) = tree_with_file(1000);
    tree.write(file, 0, &[1; 9000], NOW).unwrap();
    let data: Data = tree.read(file, 0, 9000).unwrap();
    let reader = std::thread::spawn(move || data.iter().all(|&byte| byte == 1));
    for number in 0..100 {
        tree.write(file, number, &[2; 5000], NOW).unwrap();
    }
    assert!(reader.join().unwrap());
}

#[test]
fn the_inode_limit_counts_names_beyond_the_first() {
    let mut tree = Tree::new(
        Limits {
            bytes: 0,
            inodes: 3,
        },
        0o755,
        0,
        0,
        NOW,
    );
    let file = create(&mut tree, Ino::ROOT, "a", NewKind::File);
    tree.link(file, Ino::ROOT, name("b"), NOW).unwrap();
    let full = Err(StoreError::NoSpace(Resource::Inodes));
    assert_eq!(tree.link(file, Ino::ROOT, name("c"), NOW), full);
    assert_eq!(
        tree.unlink(Ino::ROOT, b"a", NOW).map(|gone| gone.orphaned),
        Ok(false)
    );
    assert_eq!(tree.usage().inodes, 2);
    assert!(tree.link(file, Ino::ROOT, name("c"), NOW).is_ok());
}

//! Does the same to the store and to the reference, and compares all that can be seen.

use std::collections::{BTreeMap, BTreeSet};

use notapipe::store::{
    Cookie, Data, Ino, Kind, Limits, Name, NewInode, NewKind, RenameMode, SetAttr, StoreError,
    Timestamp, Tree,
};

use crate::operations::Op;
use crate::reference::{Model, Node};

const PAGE: u64 = 4096;
/// More would only make the test slow.
const MAX_TREES: usize = 4;

/// A tree and what it should be.
struct Pair {
    tree: Tree,
    model: Model,
    /// By directory: the cookies seen last, and the greatest ever seen.
    cookies: BTreeMap<u64, (BTreeMap<Vec<u8>, u64>, u64)>,
}

/// The trees of one run, all forks of the first.
struct World {
    pairs: Vec<Pair>,
    current: usize,
    /// Every inode number ever given out: none comes twice in all forks.
    inos: BTreeSet<u64>,
    /// What was read, and what it must still be.
    held: Vec<(Data, Vec<u8>)>,
    clock: i64,
}

/// Does all of `ops`, on a tree with a file and a directory in it.
pub fn run(ops: &[Op]) {
    let limits = Limits {
        bytes: 300 * PAGE,
        inodes: 50,
    };
    let mut world = World {
        pairs: vec![Pair {
            tree: Tree::new(limits, 0o755, 0, 0, at(0)),
            model: Model::new(limits, 0o755, at(0)),
            cookies: BTreeMap::new(),
        }],
        current: 0,
        inos: BTreeSet::from([1]),
        held: Vec::new(),
        clock: 0,
    };
    for (name, kind) in [(0, Kind::File), (1, Kind::Directory), (2, Kind::File)] {
        world.step(&Op::Create {
            dir: 0,
            name,
            kind,
            mode: 0o644,
            target: 0,
        });
    }
    for op in ops {
        world.step(op);
    }
    for pair in &mut world.pairs {
        pair.check(true);
    }
    for (data, expected) in &world.held {
        assert_eq!(&**data, expected, "what was read has changed since");
    }
}

fn at(secs: i64) -> Timestamp {
    Timestamp { secs, nanos: 7 }
}

fn file_name(number: u8) -> Vec<u8> {
    if number == 5 {
        vec![0xff; 255]
    } else {
        vec![b'a' + number]
    }
}

fn xattr_name(number: u8) -> Vec<u8> {
    match number {
        3 => vec![b'x'; 255],
        4 => vec![b'x'; 256],
        _ => format!("user.{number}").into_bytes(),
    }
}

/// Bytes that differ from write to write and from page to page.
fn pattern(seed: i64, len: usize) -> Vec<u8> {
    (0..len)
        .map(|at| (at as i64 * 7 + (at / 4096) as i64 + seed * 31) as u8 | 1)
        .collect()
}

fn pick<T: Copy>(number: u8, from: impl Iterator<Item = T>) -> Option<T> {
    let all: Vec<T> = from.collect();
    (!all.is_empty()).then(|| all[usize::from(number) % all.len()])
}

impl World {
    fn step(&mut self, op: &Op) {
        self.clock += 1;
        match *op {
            Op::Fork if self.pairs.len() < MAX_TREES => {
                let pair = &self.pairs[self.current];
                let fork = Pair {
                    tree: pair.tree.fork(),
                    model: pair.model.fork(),
                    cookies: pair.cookies.clone(),
                };
                self.pairs.push(fork);
                self.current = self.pairs.len() - 1;
            }
            Op::Switch { tree } => self.current = usize::from(tree) % self.pairs.len(),
            Op::Drop { tree } if self.pairs.len() > 1 => {
                self.pairs.remove(usize::from(tree) % self.pairs.len());
                self.current = 0;
            }
            Op::Fork | Op::Drop { .. } => {}
            Op::Create { .. } => self.create(op),
            Op::Hold { file, offset, len } => self.hold(file, offset, len),
            _ => self.pairs[self.current].apply(op, at(self.clock)),
        }
        self.pairs[self.current].check(false);
    }

    fn create(&mut self, op: &Op) {
        let Op::Create {
            dir,
            name,
            kind,
            mode,
            target,
        } = *op
        else {
            return;
        };
        let now = at(self.clock);
        let Pair { tree, model, .. } = &mut self.pairs[self.current];
        let dir = pick_dir(model, dir);
        let name = file_name(name);
        let target = vec![b't'; target];
        let rdev = if kind == Kind::CharDevice { 259 } else { 0 };
        let owner = (self.clock as u32 % 3, self.clock as u32 % 5);
        let new_kind = match kind {
            Kind::File => NewKind::File,
            Kind::Directory => NewKind::Directory,
            Kind::Symlink => NewKind::Symlink(target.clone()),
            Kind::CharDevice => NewKind::CharDevice(rdev),
            _ => NewKind::Fifo,
        };
        let new = NewInode {
            kind: new_kind,
            mode,
            uid: owner.0,
            gid: owner.1,
        };
        let made = tree.create(Ino(dir), Name::new(&name).unwrap(), new, now);
        let expected = model.check_create(dir, &name, kind, &target);
        assert_eq!(made.map(|_| ()), expected);
        if let Ok(attr) = made {
            assert!(
                self.inos.insert(attr.ino.0),
                "{:?} was used before",
                attr.ino
            );
            let mut node = Node::new(kind, mode, owner, rdev, now);
            if kind == Kind::Symlink {
                node.bytes = target;
            }
            model.insert(attr.ino.0, dir, &name, node, now);
            assert_eq!(Ok(attr), model.attr(attr.ino.0));
        }
    }

    fn hold(&mut self, file: u8, offset: u64, len: usize) {
        let Pair { tree, model, .. } = &self.pairs[self.current];
        if let Some(ino) = pick_file(model, file) {
            let data = tree.read(Ino(ino), offset, len).unwrap();
            let expected = model.nodes[&ino].read(offset, len).to_vec();
            assert_eq!(&*data, &expected);
            self.held.push((data, expected));
        }
    }
}

/// A directory, now and then something else.
fn pick_dir(model: &Model, number: u8) -> u64 {
    if number > 250 {
        return pick_any(model, number);
    }
    let dirs = model
        .nodes
        .iter()
        .filter(|(_, node)| node.kind == Kind::Directory);
    pick(number, dirs.map(|(ino, _)| *ino)).unwrap_or(1)
}

/// A regular file, now and then something else.
fn pick_file(model: &Model, number: u8) -> Option<u64> {
    let files = model
        .nodes
        .iter()
        .filter(|(_, node)| node.kind == Kind::File);
    pick(number, files.map(|(ino, _)| *ino))
}

/// An inode, now and then one that is not there.
fn pick_any(model: &Model, number: u8) -> u64 {
    if number == 77 {
        1 << 40
    } else {
        pick(number, model.nodes.keys().copied()).unwrap_or(1)
    }
}

impl Pair {
    fn apply(&mut self, op: &Op, now: Timestamp) {
        match *op {
            Op::Write { .. } | Op::Resize { .. } | Op::Allocate { .. } | Op::Copy { .. } => {
                self.apply_to_content(op, now);
            }
            Op::Chmod { .. } | Op::Utimes { .. } | Op::SetXattr { .. } | Op::RemoveXattr { .. } => {
                self.apply_to_attributes(op, now);
            }
            Op::SetLimits { pages, inodes } => {
                // Odd, so that a limit that is no multiple of a page is met as well.
                let limits = Limits {
                    bytes: pages * PAGE + 17,
                    inodes,
                };
                self.tree.set_limits(limits);
                self.model.limits = limits;
            }
            _ => self.apply_to_names(op, now),
        }
    }

    fn apply_to_names(&mut self, op: &Op, now: Timestamp) {
        let Self { tree, model, .. } = self;
        match *op {
            Op::Link { ino, dir, name } => {
                let (ino, dir, name) =
                    (pick_any(model, ino), pick_dir(model, dir), file_name(name));
                let linked = tree.link(Ino(ino), Ino(dir), Name::new(&name).unwrap(), now);
                let expected = model.link(ino, dir, &name, now);
                assert_eq!(linked, expected.and_then(|()| model.attr(ino)));
            }
            Op::Unlink { dir, name } => {
                let (dir, name) = (pick_dir(model, dir), file_name(name));
                assert_eq!(
                    tree.unlink(Ino(dir), &name, now),
                    model.unlink(dir, &name, now)
                );
            }
            Op::Rmdir { dir, name } => {
                let (dir, name) = (pick_dir(model, dir), file_name(name));
                assert_eq!(
                    tree.rmdir(Ino(dir), &name, now),
                    model.rmdir(dir, &name, now)
                );
            }
            Op::Rename { from, to, mode } => {
                let (from_dir, from_name) = (pick_dir(model, from.0), file_name(from.1));
                let (to_dir, to_name) = (pick_dir(model, to.0), file_name(to.1));
                let new_name = Name::new(&to_name).unwrap();
                let renamed = tree.rename(
                    (Ino(from_dir), &from_name),
                    (Ino(to_dir), new_name),
                    mode,
                    now,
                );
                let expected = model.rename((from_dir, &from_name), (to_dir, &to_name), mode, now);
                assert_eq!(renamed, expected);
                if let (Ok(_), RenameMode::Whiteout { owner, .. }) = (expected, mode)
                    && model.lookup(from_dir, &from_name).is_err()
                {
                    let ino = tree.lookup(Ino(from_dir), &from_name).unwrap();
                    let node = Node::new(Kind::CharDevice, 0, owner, 0, now);
                    model.insert(ino.0, from_dir, &from_name, node, now);
                }
            }
            Op::Free { ino } => {
                let orphans = model
                    .nodes
                    .keys()
                    .copied()
                    .filter(|ino| model.is_orphan(*ino));
                let ino = pick(ino, orphans).unwrap_or_else(|| pick_any(model, ino));
                tree.free(Ino(ino));
                model.free(ino);
            }
            ref op => unreachable!("{op:?} is not about names"),
        }
    }

    fn apply_to_content(&mut self, op: &Op, now: Timestamp) {
        let Self { tree, model, .. } = self;
        let pick = |model: &Model, number| {
            if number > 245 {
                pick_any(model, number)
            } else {
                pick_file(model, number).unwrap_or(1)
            }
        };
        match *op {
            Op::Write { file, offset, len } => {
                let ino = pick(model, file);
                let data = pattern(now.secs, len);
                let written = tree.write(Ino(ino), offset, &data, now);
                assert_eq!(written, model.write(ino, offset, &data, now));
            }
            Op::Resize { file, size } => {
                let ino = pick(model, file);
                let change = SetAttr {
                    size: Some(size),
                    ..SetAttr::default()
                };
                assert_eq!(
                    tree.set_attr(Ino(ino), &change, now),
                    model.set_attr(ino, &change, now)
                );
            }
            Op::Allocate {
                file,
                offset,
                len,
                mode,
            } => {
                let ino = pick(model, file);
                let range = offset..offset + len;
                let allocated = tree.allocate(Ino(ino), range.clone(), mode, now);
                assert_eq!(allocated, model.allocate(ino, range, mode, now));
            }
            Op::Copy { from, to, len } => {
                let (from, to) = ((pick(model, from.0), from.1), (pick(model, to.0), to.1));
                let copied = tree.copy_range((Ino(from.0), from.1), (Ino(to.0), to.1), len, now);
                assert_eq!(copied, model.copy(from, to, len, now));
            }
            ref op => unreachable!("{op:?} is not about content"),
        }
    }

    fn apply_to_attributes(&mut self, op: &Op, now: Timestamp) {
        let Self { tree, model, .. } = self;
        match *op {
            Op::Chmod { ino, mode, uid } => {
                let ino = pick_any(model, ino);
                let gid = (uid > 1).then_some(uid);
                let change = SetAttr {
                    mode: Some(mode),
                    uid: Some(uid),
                    gid,
                    ..SetAttr::default()
                };
                assert_eq!(
                    tree.set_attr(Ino(ino), &change, now),
                    model.set_attr(ino, &change, now)
                );
            }
            Op::Utimes { ino, atime, ctime } => {
                let ino = pick_any(model, ino);
                let change = SetAttr {
                    atime: Some(at(atime)),
                    ctime: ctime.map(at),
                    ..SetAttr::default()
                };
                assert_eq!(
                    tree.set_attr(Ino(ino), &change, now),
                    model.set_attr(ino, &change, now)
                );
            }
            Op::SetXattr {
                ino,
                name,
                len,
                create,
                replace,
            } => {
                let (ino, name) = (pick_any(model, ino), xattr_name(name));
                let value = vec![len as u8; len];
                let set = tree.set_xattr(Ino(ino), &name, &value, create, replace, now);
                assert_eq!(
                    set,
                    model.set_xattr(ino, &name, &value, (create, replace), now)
                );
            }
            Op::RemoveXattr { ino, name } => {
                let (ino, name) = (pick_any(model, ino), xattr_name(name));
                let removed = tree.remove_xattr(Ino(ino), &name, now);
                assert_eq!(removed, model.remove_xattr(ino, &name, now));
            }
            ref op => unreachable!("{op:?} is not about attributes"),
        }
    }

    /// Compares everything; files' holes only when asked to be thorough.
    fn check(&mut self, thorough: bool) {
        assert_eq!(self.tree.usage(), self.model.usage());
        let orphans: Vec<u64> = self.tree.orphans().map(|ino| ino.0).collect();
        let expected = self
            .model
            .nodes
            .keys()
            .copied()
            .filter(|ino| self.model.is_orphan(*ino));
        assert_eq!(orphans, expected.collect::<Vec<_>>());
        for (&ino, node) in &self.model.nodes {
            assert_eq!(self.tree.attr(Ino(ino)), self.model.attr(ino));
            check_xattrs(&self.tree, ino, node);
            match node.kind {
                Kind::Directory => {
                    check_names(&self.tree, &self.model, ino);
                    check_cookies(&self.tree, ino, self.cookies.entry(ino).or_default());
                }
                Kind::File => check_content(&self.tree, ino, node, thorough),
                Kind::Symlink => assert_eq!(*self.tree.read_link(Ino(ino)).unwrap(), *node.bytes),
                _ => assert_eq!(
                    self.tree.read(Ino(ino), 0, 1).err(),
                    Some(StoreError::InvalidArgument)
                ),
            }
        }
    }
}

fn check_xattrs(tree: &Tree, ino: u64, node: &Node) {
    let names: Vec<_> = tree.xattr_names(Ino(ino)).unwrap().collect();
    assert_eq!(names, node.xattrs.keys().collect::<Vec<_>>());
    for (name, value) in &node.xattrs {
        assert_eq!(
            tree.xattr(Ino(ino), name).map(|value| &**value),
            Ok(&**value)
        );
    }
    assert_eq!(
        tree.xattr(Ino(ino), b"user.none"),
        Err(StoreError::NoAttribute)
    );
}

fn check_names(tree: &Tree, model: &Model, dir: u64) {
    let node = &model.nodes[&dir];
    assert_eq!(tree.parent(Ino(dir)).map(|ino| ino.0), model.parent(dir));
    let listed: Vec<_> = tree
        .entries(Ino(dir), Cookie::default())
        .unwrap()
        .map(|entry| (entry.name.as_bytes().to_vec(), entry.ino.0, entry.kind))
        .collect();
    let expected = node
        .names
        .iter()
        .map(|(name, ino)| (name.clone(), *ino, model.nodes[ino].kind));
    assert_eq!(listed, expected.collect::<Vec<_>>());
    for number in 0..6 {
        let name = file_name(number);
        assert_eq!(
            tree.lookup(Ino(dir), &name).map(|ino| ino.0),
            model.lookup(dir, &name)
        );
    }
}

/// Names that stay keep their cookies, new ones come behind all that ever were, and reading goes on
/// behind any cookie.
fn check_cookies(tree: &Tree, dir: u64, seen: &mut (BTreeMap<Vec<u8>, u64>, u64)) {
    let entries: Vec<_> = tree.entries(Ino(dir), Cookie(2)).unwrap().collect();
    let mut now = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        let (name, cookie) = (entry.name.as_bytes().to_vec(), entry.cookie.0);
        assert!(cookie >= 3);
        match seen.0.get(&name) {
            // A name that went and came again between two looks counts as new.
            Some(old) if *old != cookie => assert!(cookie > seen.1, "a cookie changed"),
            Some(_) => {}
            None => assert!(cookie > seen.1, "a new name among old cookies"),
        }
        now.insert(name, cookie);
        let rest = tree
            .entries(Ino(dir), entry.cookie)
            .unwrap()
            .map(|entry| entry.cookie);
        assert!(rest.eq(entries[at + 1..].iter().map(|entry| entry.cookie)));
    }
    let greatest = now.values().copied().max().unwrap_or(0).max(seen.1);
    *seen = (now, greatest);
}

fn check_content(tree: &Tree, ino: u64, node: &Node, thorough: bool) {
    let size = node.bytes.len();
    assert!(
        *tree.read(Ino(ino), 0, size + 1).unwrap() == *node.bytes,
        "the bytes differ"
    );
    let step = if thorough { PAGE as usize / 2 } else { 40_000 };
    for offset in (0..size + 2).step_by(step) {
        let offset = offset as u64;
        assert_eq!(
            tree.seek_data(Ino(ino), offset),
            node.seek(offset, true),
            "data from {offset}"
        );
        assert_eq!(
            tree.seek_hole(Ino(ino), offset),
            node.seek(offset, false),
            "hole from {offset}"
        );
        let piece = tree.read(Ino(ino), offset, 5000).unwrap();
        assert!(
            *piece == *node.read(offset, 5000),
            "the bytes at {offset} differ"
        );
    }
}

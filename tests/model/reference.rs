//! What a tree should do, written as plainly as possible: whole byte vectors, sets of pages, and
//! lists of names that are searched from end to end. Link counts and usage are counted anew each time.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use notapipe::store::{
    AllocateMode, Attr, Ino, Kind, Limits, RenameMode, Resource, SetAttr, StoreError, Timestamp,
    Unlinked, Usage,
};

const PAGE: u64 = 4096;
const CHUNK: u64 = 128 * 1024;

type Result<T> = std::result::Result<T, StoreError>;

/// A tree.
#[derive(Clone)]
pub struct Model {
    pub nodes: BTreeMap<u64, Node>,
    pub limits: Limits,
}

/// An inode.
#[derive(Clone)]
pub struct Node {
    pub kind: Kind,
    mode: u32,
    uid: u32,
    gid: u32,
    rdev: u32,
    times: [Timestamp; 4],
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// A directory's names, in the order in which they are listed.
    pub names: Vec<(Vec<u8>, u64)>,
    /// A file's bytes or a symlink's target.
    pub bytes: Vec<u8>,
    allocated: BTreeSet<u64>,
    data: BTreeSet<u64>,
}

const ATIME: usize = 0;
const MTIME: usize = 1;
const CTIME: usize = 2;

impl Node {
    pub fn new(kind: Kind, mode: u32, (uid, gid): (u32, u32), rdev: u32, now: Timestamp) -> Self {
        Self {
            kind,
            mode,
            uid,
            gid,
            rdev,
            times: [now; 4],
            xattrs: BTreeMap::new(),
            names: Vec::new(),
            bytes: Vec::new(),
            allocated: BTreeSet::new(),
            data: BTreeSet::new(),
        }
    }

    fn find(&self, name: &[u8]) -> Option<u64> {
        self.names
            .iter()
            .find(|(found, _)| found == name)
            .map(|(_, ino)| *ino)
    }

    fn modified(&mut self, now: Timestamp) {
        self.times[MTIME] = now;
        self.times[CTIME] = now;
    }

    fn blocks(&self) -> u64 {
        let long_target = self.kind == Kind::Symlink && self.bytes.len() >= 128;
        8 * (self.allocated.len() as u64 + u64::from(long_target))
    }

    fn xattr_pages(&self) -> u64 {
        let total: usize = self
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + 1 + value.len() + 128)
            .sum();
        (total as u64).div_ceil(PAGE)
    }

    pub fn read(&self, offset: u64, len: usize) -> &[u8] {
        let start = (offset as usize).min(self.bytes.len());
        &self.bytes[start..start.saturating_add(len).min(self.bytes.len())]
    }

    pub fn seek(&self, offset: u64, data: bool) -> Result<u64> {
        let size = self.bytes.len() as u64;
        let page_starts = (offset / PAGE + 1..size.div_ceil(PAGE)).map(|page| page * PAGE);
        std::iter::once(offset)
            .chain(page_starts)
            .find(|at| *at < size && self.data.contains(&(at / PAGE)) == data)
            .or((!data && offset < size).then_some(size))
            .ok_or(StoreError::NoData)
    }

    fn grow(&mut self, size: u64) {
        self.bytes.resize(self.bytes.len().max(size as usize), 0);
    }

    fn zero(&mut self, range: Range<u64>) {
        let end = (range.end as usize).min(self.bytes.len());
        if let Some(bytes) = self.bytes.get_mut(range.start as usize..end) {
            bytes.fill(0);
        }
    }

    fn free_pages(&mut self, gone: impl Fn(u64) -> bool) {
        for set in [&mut self.allocated, &mut self.data] {
            set.retain(|page| !gone(*page));
        }
    }

    fn punch(&mut self, range: Range<u64>) {
        self.zero(range.clone());
        let whole = range.start.div_ceil(PAGE)..range.end / PAGE;
        self.free_pages(|page| whole.contains(&page));
    }
}

/// The pages that hold any byte of a range.
fn touching(range: &Range<u64>) -> Range<u64> {
    range.start / PAGE..range.end.div_ceil(PAGE)
}

impl Model {
    pub fn new(limits: Limits, mode: u32, now: Timestamp) -> Self {
        Self {
            nodes: BTreeMap::from([(1, Node::new(Kind::Directory, mode, (0, 0), 0, now))]),
            limits,
        }
    }

    pub fn node(&self, ino: u64) -> Result<&Node> {
        self.nodes.get(&ino).ok_or(StoreError::NotFound)
    }

    fn node_mut(&mut self, ino: u64) -> &mut Node {
        self.nodes.get_mut(&ino).unwrap()
    }

    fn names_of(&self, ino: u64) -> u64 {
        self.nodes
            .values()
            .flat_map(|node| &node.names)
            .filter(|(_, named)| *named == ino)
            .count() as u64
    }

    pub fn nlink(&self, ino: u64) -> u64 {
        let node = &self.nodes[&ino];
        if node.kind != Kind::Directory {
            return self.names_of(ino);
        }
        let alive = ino == 1 || self.names_of(ino) > 0;
        let below = node
            .names
            .iter()
            .filter(|(_, named)| self.nodes[named].kind == Kind::Directory);
        if alive { 2 + below.count() as u64 } else { 0 }
    }

    pub fn is_orphan(&self, ino: u64) -> bool {
        ino != 1 && self.names_of(ino) == 0
    }

    pub fn parent(&self, dir: u64) -> Result<u64> {
        self.live_dir(dir)?;
        let holds = |node: &Node| node.names.iter().any(|(_, named)| *named == dir);
        Ok(self
            .nodes
            .iter()
            .find(|(_, node)| holds(node))
            .map_or(1, |(ino, _)| *ino))
    }

    pub fn usage(&self) -> Usage {
        let pages: u64 = self
            .nodes
            .values()
            .map(|node| node.blocks() / 8 + node.xattr_pages())
            .sum();
        let extra_names: u64 = self
            .nodes
            .iter()
            .filter(|(_, node)| node.kind != Kind::Directory)
            .map(|(ino, _)| self.names_of(*ino).saturating_sub(1))
            .sum();
        Usage {
            bytes: pages * PAGE,
            inodes: self.nodes.len() as u64 + extra_names,
            limits: self.limits,
        }
    }

    fn free_page_count(&self) -> u64 {
        (self.limits.bytes / PAGE).saturating_sub(self.usage().bytes / PAGE)
    }

    fn check_pages(&self, wanted: u64) -> Result<()> {
        if wanted > self.free_page_count() {
            Err(StoreError::NoSpace(Resource::Bytes))
        } else {
            Ok(())
        }
    }

    fn check_inodes(&self) -> Result<()> {
        let full = self.usage().inodes >= self.limits.inodes;
        if full {
            Err(StoreError::NoSpace(Resource::Inodes))
        } else {
            Ok(())
        }
    }

    pub fn attr(&self, ino: u64) -> Result<Attr> {
        let node = self.node(ino)?;
        let [atime, mtime, ctime, btime] = node.times;
        Ok(Attr {
            ino: Ino(ino),
            kind: node.kind,
            mode: node.mode,
            uid: node.uid,
            gid: node.gid,
            nlink: self.nlink(ino) as u32,
            rdev: node.rdev,
            size: match node.kind {
                Kind::Directory => 40 + 20 * node.names.len() as u64,
                _ => node.bytes.len() as u64,
            },
            blocks: node.blocks(),
            atime,
            mtime,
            ctime,
            btime,
        })
    }

    fn dir(&self, ino: u64) -> Result<&Node> {
        let node = self.node(ino)?;
        if node.kind == Kind::Directory {
            Ok(node)
        } else {
            Err(StoreError::NotDirectory)
        }
    }

    fn live_dir(&self, ino: u64) -> Result<&Node> {
        let node = self.dir(ino)?;
        if self.is_orphan(ino) {
            Err(StoreError::NotFound)
        } else {
            Ok(node)
        }
    }

    pub fn lookup(&self, dir: u64, name: &[u8]) -> Result<u64> {
        self.dir(dir)?.find(name).ok_or(StoreError::NotFound)
    }

    fn file(&self, ino: u64) -> Result<&Node> {
        let node = self.node(ino)?;
        match node.kind {
            Kind::File => Ok(node),
            Kind::Directory => Err(StoreError::IsDirectory),
            _ => Err(StoreError::InvalidArgument),
        }
    }

    /// Whether a node could be made here; `insert` then makes it.
    pub fn check_create(&self, dir: u64, name: &[u8], kind: Kind, target: &[u8]) -> Result<()> {
        if self.live_dir(dir)?.find(name).is_some() {
            return Err(StoreError::Exists);
        }
        match (kind, target.len()) {
            (Kind::Symlink, 0) => return Err(StoreError::InvalidArgument),
            (Kind::Symlink, 4096..) => return Err(StoreError::NameTooLong),
            _ => {}
        }
        self.check_inodes()?;
        self.check_pages(u64::from(kind == Kind::Symlink && target.len() >= 128))
    }

    pub fn insert(&mut self, ino: u64, dir: u64, name: &[u8], mut node: Node, now: Timestamp) {
        let parent = self.node_mut(dir);
        node.mode = if node.kind == Kind::Symlink {
            0o777
        } else {
            node.mode & 0o7777
        };
        if parent.mode & 0o2000 != 0 {
            node.gid = parent.gid;
            node.mode |= if node.kind == Kind::Directory {
                0o2000
            } else {
                0
            };
        }
        parent.names.push((name.to_vec(), ino));
        parent.modified(now);
        self.nodes.insert(ino, node);
    }

    pub fn link(&mut self, ino: u64, dir: u64, name: &[u8], now: Timestamp) -> Result<()> {
        if self.node(ino)?.kind == Kind::Directory {
            return Err(StoreError::NotPermitted);
        }
        if self.is_orphan(ino) {
            return Err(StoreError::NotFound);
        }
        if self.live_dir(dir)?.find(name).is_some() {
            return Err(StoreError::Exists);
        }
        self.check_inodes()?;
        let parent = self.node_mut(dir);
        parent.names.push((name.to_vec(), ino));
        parent.modified(now);
        self.node_mut(ino).times[CTIME] = now;
        Ok(())
    }

    fn remove(&mut self, dir: u64, name: &[u8], now: Timestamp) {
        let parent = self.node_mut(dir);
        parent.names.retain(|(found, _)| found != name);
        parent.modified(now);
    }

    fn unlinked(&mut self, ino: u64, now: Timestamp) -> Unlinked {
        self.node_mut(ino).times[CTIME] = now;
        Unlinked {
            ino: Ino(ino),
            orphaned: self.is_orphan(ino),
        }
    }

    pub fn unlink(&mut self, dir: u64, name: &[u8], now: Timestamp) -> Result<Unlinked> {
        let ino = self.lookup(dir, name)?;
        if self.nodes[&ino].kind == Kind::Directory {
            return Err(StoreError::IsDirectory);
        }
        self.remove(dir, name, now);
        Ok(self.unlinked(ino, now))
    }

    pub fn rmdir(&mut self, dir: u64, name: &[u8], now: Timestamp) -> Result<Unlinked> {
        let ino = self.lookup(dir, name)?;
        if !self.dir(ino)?.names.is_empty() {
            return Err(StoreError::NotEmpty);
        }
        self.remove(dir, name, now);
        Ok(self.unlinked(ino, now))
    }

    fn is_within(&self, dir: u64, ancestor: u64) -> bool {
        let below = &self.nodes[&ancestor].names;
        dir == ancestor || below.iter().any(|(_, ino)| self.is_within(dir, *ino))
    }

    pub fn rename(
        &mut self,
        from: (u64, &[u8]),
        to: (u64, &[u8]),
        mode: RenameMode,
        now: Timestamp,
    ) -> Result<Option<Unlinked>> {
        self.live_dir(from.0)?;
        self.live_dir(to.0)?;
        let moved = self.lookup(from.0, from.1)?;
        let taken = self.lookup(to.0, to.1).ok();
        let (replaces, leaves_whiteout) = match mode {
            RenameMode::Replace => (true, false),
            RenameMode::NoReplace | RenameMode::Exchange => (false, false),
            RenameMode::Whiteout { replace, .. } => (replace, true),
        };
        match (mode, taken) {
            (_, Some(_)) if !replaces && mode != RenameMode::Exchange => {
                return Err(StoreError::Exists);
            }
            (RenameMode::Exchange, None) => return Err(StoreError::NotFound),
            _ if self.is_within(to.0, moved) => return Err(StoreError::InvalidArgument),
            (RenameMode::Exchange, Some(taken)) if self.is_within(from.0, taken) => {
                return Err(StoreError::InvalidArgument);
            }
            (_, Some(taken)) if self.is_within(from.0, taken) => return Err(StoreError::NotEmpty),
            _ => {}
        }
        if taken == Some(moved) {
            return Ok(None);
        }
        if let (Some(taken), true) = (taken, replaces) {
            let is_dir = |ino| self.nodes[&ino].kind == Kind::Directory;
            match (is_dir(moved), is_dir(taken)) {
                (true, false) => return Err(StoreError::NotDirectory),
                (false, true) => return Err(StoreError::IsDirectory),
                (true, true) if !self.nodes[&taken].names.is_empty() => {
                    return Err(StoreError::NotEmpty);
                }
                _ => {}
            }
        }
        if leaves_whiteout {
            self.check_inodes()?; // whoever drives this makes it
        }
        if mode == RenameMode::Exchange {
            self.point(from, taken.unwrap());
            self.node_mut(taken.unwrap()).times[CTIME] = now;
        } else {
            self.remove(from.0, from.1, now);
        }
        self.point(to, moved);
        self.node_mut(moved).times[CTIME] = now;
        self.node_mut(from.0).modified(now);
        self.node_mut(to.0).modified(now);
        let replaced = taken.filter(|_| replaces);
        Ok(replaced.map(|ino| self.unlinked(ino, now)))
    }

    /// Lets a name lead to an inode: in its place when it is there, otherwise at the end.
    fn point(&mut self, (dir, name): (u64, &[u8]), ino: u64) {
        let names = &mut self.node_mut(dir).names;
        match names.iter_mut().find(|(found, _)| found == name) {
            Some(entry) => entry.1 = ino,
            None => names.push((name.to_vec(), ino)),
        }
    }

    pub fn free(&mut self, ino: u64) {
        if self.nodes.contains_key(&ino) && self.is_orphan(ino) {
            self.nodes.remove(&ino);
        }
    }

    pub fn fork(&self) -> Self {
        let mut fork = self.clone();
        fork.nodes.retain(|ino, _| !self.is_orphan(*ino));
        fork
    }

    pub fn set_attr(&mut self, ino: u64, change: &SetAttr, now: Timestamp) -> Result<Attr> {
        let kind = self.node(ino)?.kind;
        if change.mode.is_some() && kind == Kind::Symlink {
            return Err(StoreError::NotSupported);
        }
        if change.size.is_some() {
            self.file(ino)?;
        }
        let node = self.node_mut(ino);
        if let Some(size) = change.size {
            if size <= node.bytes.len() as u64 {
                node.free_pages(|page| page >= size.div_ceil(PAGE));
            }
            node.bytes.resize(size as usize, 0);
            node.times[MTIME] = now;
        }
        node.mode = change.mode.unwrap_or(node.mode) & 0o7777;
        node.uid = change.uid.unwrap_or(node.uid);
        node.gid = change.gid.unwrap_or(node.gid);
        node.times[ATIME] = change.atime.unwrap_or(node.times[ATIME]);
        node.times[MTIME] = change.mtime.unwrap_or(node.times[MTIME]);
        node.times[CTIME] = change.ctime.unwrap_or(now);
        self.attr(ino)
    }

    pub fn write(&mut self, ino: u64, offset: u64, data: &[u8], now: Timestamp) -> Result<usize> {
        self.file(ino)?;
        if data.is_empty() {
            return Ok(0);
        }
        let wrote = self.write_bytes(ino, offset, data);
        if wrote == 0 {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        self.node_mut(ino).modified(now);
        Ok(wrote)
    }

    /// Byte by byte what fits, page after page.
    fn write_bytes(&mut self, ino: u64, offset: u64, data: &[u8]) -> usize {
        let mut free = self.free_page_count();
        let node = self.node_mut(ino);
        let mut end = offset + data.len() as u64;
        for page in touching(&(offset..end)) {
            if node.allocated.contains(&page) {
                continue;
            }
            if free == 0 {
                end = (page * PAGE).max(offset);
                break;
            }
            free -= 1;
        }
        if end == offset {
            return 0;
        }
        for set in [&mut node.allocated, &mut node.data] {
            set.extend(touching(&(offset..end)));
        }
        node.grow(end);
        let len = (end - offset) as usize;
        node.bytes[offset as usize..end as usize].copy_from_slice(&data[..len]);
        len
    }

    pub fn allocate(
        &mut self,
        ino: u64,
        range: Range<u64>,
        mode: AllocateMode,
        now: Timestamp,
    ) -> Result<()> {
        let node = self.file(ino)?;
        if range.is_empty() {
            return Err(StoreError::InvalidArgument);
        }
        if mode == AllocateMode::PunchHole {
            self.node_mut(ino).punch(range);
            self.node_mut(ino).modified(now);
            return Ok(());
        }
        let pages = touching(&range);
        self.check_pages(
            pages
                .clone()
                .filter(|page| !node.allocated.contains(page))
                .count() as u64,
        )?;
        let node = self.node_mut(ino);
        for page in pages {
            if !node.allocated.insert(page) {
                node.data.insert(page);
            }
        }
        if matches!(
            mode,
            AllocateMode::ZeroRange | AllocateMode::ZeroRangeKeepSize
        ) {
            node.zero(range.clone());
            for page in range.start.div_ceil(PAGE)..range.end / PAGE {
                node.data.remove(&page);
            }
        }
        if matches!(mode, AllocateMode::Extend | AllocateMode::ZeroRange) {
            node.grow(range.end);
        }
        node.modified(now);
        Ok(())
    }

    pub fn copy(
        &mut self,
        from: (u64, u64),
        to: (u64, u64),
        len: u64,
        now: Timestamp,
    ) -> Result<u64> {
        let source = self.file(from.0)?.clone();
        self.file(to.0)?;
        let len = len.min((source.bytes.len() as u64).saturating_sub(from.1));
        if from.0 == to.0 && from.1 < to.1 + len && to.1 < from.1 + len {
            return Err(StoreError::InvalidArgument);
        }
        if len == 0 {
            return Ok(0);
        }
        let copied = self.copy_runs(&source, from.1, to, len);
        if copied == 0 {
            return Err(StoreError::NoSpace(Resource::Bytes));
        }
        let target = self.node_mut(to.0);
        target.grow(to.1 + copied);
        target.modified(now);
        Ok(copied)
    }

    /// Data is written, holes are punched. Runs end at chunks where chunks could be shared.
    fn copy_runs(&mut self, source: &Node, from: u64, to: (u64, u64), len: u64) -> u64 {
        let is_data = |at: u64| source.data.contains(&(at / PAGE));
        let aligned = from % CHUNK == to.1 % CHUNK;
        let mut done = 0;
        while done < len {
            let start = from + done;
            let ends_at =
                |at: &u64| is_data(*at) != is_data(start) || aligned && at.is_multiple_of(CHUNK);
            let page_starts = (start / PAGE + 1..).map(|page| page * PAGE);
            let end = page_starts
                .take_while(|at| *at < from + len)
                .find(ends_at)
                .unwrap_or(from + len);
            let run = end - start;
            if is_data(start) {
                let data = &source.bytes[start as usize..end as usize];
                let wrote = self.write_bytes(to.0, to.1 + done, data) as u64;
                done += wrote;
                if wrote < run {
                    break;
                }
            } else {
                self.node_mut(to.0).punch(to.1 + done..to.1 + done + run);
                done += run;
            }
        }
        done
    }

    pub fn set_xattr(
        &mut self,
        ino: u64,
        name: &[u8],
        value: &[u8],
        (create, replace): (bool, bool),
        now: Timestamp,
    ) -> Result<()> {
        let node = self.node(ino)?;
        let exists = node.xattrs.contains_key(name);
        if exists && create {
            return Err(StoreError::Exists);
        }
        if !exists && replace {
            return Err(StoreError::NoAttribute);
        }
        if name.is_empty() {
            return Err(StoreError::InvalidArgument);
        }
        if name.len() > 255 || value.len() > 65_536 {
            return Err(StoreError::AttributeTooLarge);
        }
        let mut changed = node.clone();
        changed.xattrs.insert(name.to_vec(), value.to_vec());
        self.check_pages(changed.xattr_pages().saturating_sub(node.xattr_pages()))?;
        changed.times[CTIME] = now;
        self.nodes.insert(ino, changed);
        Ok(())
    }

    pub fn remove_xattr(&mut self, ino: u64, name: &[u8], now: Timestamp) -> Result<()> {
        self.node(ino)?;
        let node = self.node_mut(ino);
        node.xattrs.remove(name).ok_or(StoreError::NoAttribute)?;
        node.times[CTIME] = now;
        Ok(())
    }
}

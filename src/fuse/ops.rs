//! The file system's operations: typed requests in, values out.
//!
//! Free of any transport: what a request said is already decoded, and what is returned is still to be
//! encoded. Names of inodes that are handed to the kernel count as references until it forgets them.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::profile::ServeOptions;
use super::requests::RequestCounts;
use crate::store::{
    AllocateMode, Attr, Cookie, Data, Ino, Kind, NAME_MAX, Name, NewInode, NewKind, RenameMode,
    SetAttr, StoreError, Timestamp, Usage,
};
use crate::view::{Handle, Locked, Opener, View};

type Result<T> = std::result::Result<T, StoreError>;

/// Set-user-id and set-group-id bits, and the group's execute bit that gives the latter its meaning.
const S_ISUID: u32 = 0o4000;
const S_ISGID: u32 = 0o2000;
const S_IXGRP: u32 = 0o0010;
const ANY_EXECUTE: u32 = 0o0111;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// Of the thread; 0 when the kernel acts on its own.
    pub pid: u32,
    pub uid: u32,
    pub gid: u32,
}

impl Caller {
    /// Whether this caller's writes leave set-id bits alone, as `CAP_FSETID` does.
    ///
    /// The protocol does not say which capabilities a caller has; root has this one unless it was
    /// taken away on purpose.
    fn may_keep_set_id(self) -> bool {
        self.uid == 0
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// The thread that does.
    pub by: u32,
    pub writable: bool,
}

/// How a byte range is written.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteMode {
    /// The kernel wants set-id bits cleared (`FUSE_WRITE_KILL_SUIDGID`).
    pub kill_set_id: bool,
    /// The page cache writes back; no process waits that could be told of an error.
    pub from_page_cache: bool,
    /// The file was opened with `O_APPEND`: the data goes to its end, wherever that is by now.
    pub append: bool,
}

/// What became of a write.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub len: usize,
    /// The bytes do not stand where the kernel thinks.
    pub elsewhere: bool,
}

/// One directory entry for a listing.
#[derive(Debug)]
pub(super) struct DirEntry<'a> {
    pub cookie: u64,
    pub name: &'a [u8],
    pub ino: Ino,
    pub kind: Kind,
}

/// How long the kernel may keep what it is told of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EntryTimeout {
    Forever,
    /// Nothing is known yet, not even the size.
    Zero,
}

/// Cookies of the two entries that the store does not keep; the store's begin above them.
const COOKIE_DOT: u64 = 1;
const COOKIE_DOT_DOT: u64 = 2;

/// The operations of one mount.
#[derive(Debug)]
pub(super) struct Ops {
    pub view: Arc<View>,
    pub options: ServeOptions,
    pub counts: Arc<RequestCounts>,
}

impl Ops {
    pub fn new(view: Arc<View>, options: ServeOptions) -> Self {
        Self {
            view,
            options,
            counts: Arc::default(),
        }
    }

    /// Remembers the limits that processes run into, so that a person can be told which option raises it.
    pub fn note_refusal(&self, error: StoreError) {
        if let StoreError::NoSpace(resource) = error {
            self.view.lock().note_limit_met(resource);
        }
    }

    /// Whether a request that needs the content must wait until it is made.
    pub fn is_pending(&self, ino: Ino) -> bool {
        self.view.may_have_lazy_files() && self.view.lock().is_pending(ino)
    }

    /// Whether a request that needs the size must wait until the content is made.
    pub fn is_size_pending(&self, ino: Ino) -> bool {
        self.view.may_have_lazy_files() && self.view.lock().is_size_pending(ino)
    }

    /// The inode of an entry, if a lookup of it must wait until its content is made.
    pub fn pending_entry(&self, parent: Ino, name: &[u8]) -> Option<Ino> {
        if !self.view.may_have_lazy_files() {
            return None;
        }
        let view = self.view.lock();
        let found = view.lookup(parent, name).ok();
        found.filter(|&ino| view.is_size_pending(ino))
    }

    /// Whether files without a name take room, until the kernel forgets them or they are closed.
    pub fn has_orphans(&self) -> bool {
        self.view.lock().orphans().next().is_some()
    }

    /// Waits until something was freed, or nothing can be any more, or `patience` is over.
    pub fn wait_for_room(&self, patience: Duration) {
        let used = || {
            let view = self.view.lock();
            let usage = view.usage();
            (usage.bytes, usage.inodes, view.orphans().next().is_some())
        };
        let (bytes, inodes, _) = used();
        let give_up = Instant::now() + patience;
        loop {
            let (bytes_now, inodes_now, orphans) = used();
            let freed = bytes_now < bytes || inodes_now < inodes;
            if freed || !orphans || Instant::now() >= give_up {
                return;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// The entry's attributes, or `None` where there is none: the kernel may remember either.
    pub fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Option<Attr>> {
        // The kernel lets up to 1,024 bytes through (`FUSE_NAME_MAX`). Nothing has such a name, but
        // "no such file" is not what a caller of stat(2) or unlink(2) has to be told.
        if name.len() > NAME_MAX {
            return Err(StoreError::NameTooLong);
        }
        let mut view = self.view.lock();
        match view.lookup(parent, name) {
            Ok(ino) => {
                let attr = match view.attr(ino) {
                    // It came after this lookup was found to have nothing to wait for: it was not there yet
                    // when this was asked.
                    Err(StoreError::NotMade) if view.is_pending(ino) => {
                        return Err(StoreError::NotFound);
                    }
                    attr => attr?,
                };
                view.take_reference_by(ino, parent, name);
                Ok(Some(attr))
            }
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn forget(&self, ino: Ino, count: u64) {
        self.view.lock().give_back_references(ino, count);
    }

    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        self.view.lock().attr(ino)
    }

    /// Changes attributes, and clears set-id bits as chown(2) and truncate(2) have to.
    pub fn setattr(
        &self,
        caller: Caller,
        ino: Ino,
        mut change: SetAttr,
        now: Timestamp,
    ) -> Result<Attr> {
        let mut view = self.view.lock();
        // chown(2) with -1 twice is the only call that gets here with nothing to change. It counts as a
        // change all the same, and takes the set-id bits.
        let chown_of_nothing = change == SetAttr::default();
        if chown_of_nothing {
            change.ctime = Some(now);
        }
        let owner_changes = chown_of_nothing || change.uid.is_some() || change.gid.is_some();
        let cut_by_other = change.size.is_some() && !caller.may_keep_set_id();
        if change.mode.is_none() && (owner_changes || cut_by_other) {
            change.mode = mode_without_set_id(&view.attr(ino)?, caller);
        }
        if owner_changes || change.size.is_some() {
            clear_capability(&mut view, ino, now);
        }
        view.set_attr(ino, &change, now)
    }

    pub fn readlink(&self, ino: Ino) -> Result<Data> {
        self.view.lock().read_link(ino)
    }

    pub fn create(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        kind: NewKind,
        mode: u32,
    ) -> Result<Attr> {
        let new = NewInode {
            kind,
            mode: mode & 0o7777,
            uid: caller.uid,
            gid: caller.gid,
        };
        let name = Name::new(name)?;
        let mut view = self.view.lock();
        let attr = view.create(parent, name, new, Timestamp::now())?;
        view.take_reference(attr.ino);
        Ok(attr)
    }

    /// Makes a regular file and opens it.
    pub fn create_open(
        &self,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        mode: u32,
        opening: Opening,
    ) -> Result<(Attr, Handle)> {
        let attr = self.create(caller, parent, name, NewKind::File, mode)?;
        let handle = self.open(attr.ino, opening)?;
        Ok((attr, handle))
    }

    pub fn open(&self, ino: Ino, opening: Opening) -> Result<Handle> {
        let by = Opener::Process(opening.by);
        self.view.lock().open(ino, by, opening.writable)
    }

    pub fn close(&self, handle: Handle) {
        self.view.lock().close(handle);
    }

    pub fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Attr> {
        let name = Name::new(name)?;
        let mut view = self.view.lock();
        let attr = view.link(ino, parent, name, Timestamp::now())?;
        view.take_reference(ino);
        Ok(attr)
    }

    pub fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.view.lock().unlink(parent, name, Timestamp::now())
    }

    pub fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.view.lock().rmdir(parent, name, Timestamp::now())
    }

    pub fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), mode: RenameMode) -> Result<()> {
        let name = Name::new(to.1)?;
        let mut view = self.view.lock();
        view.rename(from, (to.0, name), mode, Timestamp::now())
    }

    pub fn read(&self, ino: Ino, offset: u64, len: usize) -> Result<Data> {
        self.view.lock().read(ino, offset, len)
    }

    /// Returns how many bytes were kept: fewer than given where the limit cuts in.
    ///
    /// A process that appends relies on the size that the kernel knows, and the kernel asks for no newer one
    /// (`fuse_cache_write_iter`, fs/fuse/file.c). Where our own API has changed the size, the end is elsewhere.
    pub fn write(
        &self,
        caller: Caller,
        ino: Ino,
        offset: u64,
        data: &[u8],
        mode: WriteMode,
    ) -> Result<Written> {
        let now = Timestamp::now();
        let mut view = self.view.lock();
        let at = match mode.append && view.was_resized(ino) {
            true => view.attr(ino)?.size,
            false => offset,
        };
        let written = view.write(ino, at, data, now);
        if mode.from_page_cache && !matches!(written, Ok(len) if len == data.len()) {
            view.note_lost_page(ino);
        }
        if mode.kill_set_id && written.is_ok() {
            clear_set_id(&mut view, caller, ino, now)?;
        }
        if written.is_ok() {
            clear_capability(&mut view, ino, now);
        }
        Ok(Written {
            len: written?,
            elsewhere: at != offset,
        })
    }

    pub fn allocate(
        &self,
        caller: Caller,
        ino: Ino,
        range: Range<u64>,
        mode: AllocateMode,
    ) -> Result<()> {
        let now = Timestamp::now();
        let mut view = self.view.lock();
        view.allocate(ino, range, mode, now)?;
        clear_capability(&mut view, ino, now);
        if !caller.may_keep_set_id() {
            clear_set_id(&mut view, caller, ino, now)?;
        }
        Ok(())
    }

    pub fn seek_data(&self, ino: Ino, offset: u64) -> Result<u64> {
        self.view.lock().seek_data(ino, offset)
    }

    pub fn seek_hole(&self, ino: Ino, offset: u64) -> Result<u64> {
        self.view.lock().seek_hole(ino, offset)
    }

    pub fn copy_range(
        &self,
        caller: Caller,
        from: (Ino, u64),
        to: (Ino, u64),
        len: u64,
    ) -> Result<u64> {
        let now = Timestamp::now();
        let mut view = self.view.lock();
        let copied = view.copy_range(from, to, len, now)?;
        if copied > 0 {
            clear_capability(&mut view, to.0, now);
        }
        if copied > 0 && !caller.may_keep_set_id() {
            clear_set_id(&mut view, caller, to.0, now)?;
        }
        Ok(copied)
    }

    /// Lists a directory from a position on, until `add` says that its buffer is full.
    pub fn readdir(
        &self,
        dir: Ino,
        after: u64,
        mut add: impl FnMut(&DirEntry<'_>) -> bool,
    ) -> Result<()> {
        let view = self.view.lock();
        let _ = entries(&view, dir, after)?.find(|(entry, _)| add(entry));
        Ok(())
    }

    /// Lists with attributes. Each entry that `add` takes is one more reference, but for the dots,
    /// which the kernel does not look up.
    pub fn readdirplus(
        &self,
        dir: Ino,
        after: u64,
        mut add: impl FnMut(&DirEntry<'_>, &Attr, EntryTimeout) -> bool,
    ) -> Result<()> {
        let mut view = self.view.lock();
        // Names are of use where opens are seen, and cost something.
        let names_count = view.is_observed();
        let mut handed_out = Vec::new();
        for (entry, name) in entries(&view, dir, after)? {
            let (attr, timeout) = match view.attr(entry.ino) {
                // Listing a directory makes nothing: a process that wants to know more must look again.
                Err(StoreError::NotMade) => (view.attr_unmade(entry.ino)?, EntryTimeout::Zero),
                attr => (attr?, EntryTimeout::Forever),
            };
            if add(&entry, &attr, timeout) {
                break;
            }
            if let Some(name) = name {
                handed_out.push((entry.ino, names_count.then(|| name.clone())));
            }
        }
        for (ino, name) in handed_out {
            match name {
                Some(name) => view.take_reference_by(ino, dir, name.as_bytes()),
                None => view.take_reference(ino),
            }
        }
        Ok(())
    }

    pub fn usage(&self) -> Usage {
        self.view.lock().usage()
    }

    /// access(2) in a mount without `default_permissions`: only its owner can enter it, as root, which may do all but
    /// execute what has no execute bit.
    pub fn may_execute(&self, ino: Ino) -> Result<bool> {
        let attr = self.view.lock().attr(ino)?;
        Ok(attr.kind == Kind::Directory || attr.mode & ANY_EXECUTE != 0)
    }

    pub fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        create: bool,
        replace: bool,
    ) -> Result<()> {
        check_attribute_name(name)?;
        self.view
            .lock()
            .set_xattr(ino, name, value, create, replace, Timestamp::now())
    }

    /// The value, shared with the tree: the reply is sent without the lock.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Arc<[u8]>> {
        check_attribute_name(name)?;
        self.view.lock().xattr(ino, name).cloned()
    }

    /// The names, each ended by a NUL byte, as listxattr(2) wants them.
    pub fn listxattr(&self, ino: Ino) -> Result<Vec<u8>> {
        let view = self.view.lock();
        let mut names = Vec::new();
        for name in view.xattr_names(ino)? {
            names.extend_from_slice(name);
            names.push(0);
        }
        Ok(names)
    }

    pub fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        check_attribute_name(name)?;
        self.view.lock().remove_xattr(ino, name, Timestamp::now())
    }
}

/// The entries of a directory from a position on, the dots first, which have no name in the tree.
fn entries<'v>(
    view: &'v Locked<'_>,
    dir: Ino,
    after: u64,
) -> Result<impl Iterator<Item = (DirEntry<'v>, Option<&'v Name>)>> {
    let dots = [
        (COOKIE_DOT, &b"."[..], dir),
        (COOKIE_DOT_DOT, b"..", view.parent(dir)?),
    ];
    let dots = dots.into_iter().filter(move |&(cookie, ..)| after < cookie);
    let dots = dots.map(|(cookie, name, ino)| {
        let kind = Kind::Directory;
        (
            DirEntry {
                cookie,
                name,
                ino,
                kind,
            },
            None,
        )
    });
    let named = view.entries(dir, Cookie(after))?;
    let named = named.filter(|entry| !view.is_hidden(entry.ino));
    Ok(dots.chain(named.map(|entry| {
        let listed = DirEntry {
            cookie: entry.cookie.0,
            name: entry.name.as_bytes(),
            ino: entry.ino,
            kind: entry.kind,
        };
        (listed, Some(entry.name))
    })))
}

/// The mode of a file without its set-id bits, if it has any to lose.
///
/// The kernel leaves this to us (`HANDLE_KILLPRIV_V2`): chown(2) clears them for everyone, a change of the
/// content for callers other than root. A set-group-id bit without group execute means something else
/// (mandatory locking, once) and stays for a caller who is in the group, as the kernel has it in
/// `setattr_should_drop_sgid` (fs/attr.c). The protocol tells the first group of a caller only; who is a
/// member by another one counts as a stranger, and the bit goes.
fn mode_without_set_id(attr: &Attr, caller: Caller) -> Option<u32> {
    if attr.kind == Kind::Directory {
        return None;
    }
    let in_group = caller.may_keep_set_id() || caller.gid == attr.gid;
    let keeps_sgid = attr.mode & S_IXGRP == 0 && in_group;
    let cleared = if keeps_sgid {
        S_ISUID
    } else {
        S_ISUID | S_ISGID
    };
    (attr.mode & cleared != 0).then_some(attr.mode & !cleared)
}

/// The capabilities of a program go with any change of its content (capabilities(7)). With
/// `HANDLE_KILLPRIV_V2` the kernel leaves this to us too.
fn clear_capability(view: &mut Locked<'_>, ino: Ino, now: Timestamp) {
    const CAPABILITY: &[u8] = b"security.capability";
    if view.xattr(ino, CAPABILITY).is_ok() {
        // It is there, and less is always allowed.
        let _ = view.remove_xattr(ino, CAPABILITY, now);
    }
}

fn clear_set_id(view: &mut Locked<'_>, caller: Caller, ino: Ino, now: Timestamp) -> Result<()> {
    let mode = mode_without_set_id(&view.attr(ino)?, caller);
    if mode.is_some() {
        view.set_attr(
            ino,
            &SetAttr {
                mode,
                ..SetAttr::default()
            },
            now,
        )?;
    }
    Ok(())
}

/// Which names extended attributes can have; see xattr(7).
///
/// The kernel checks who may use a namespace and hands us every name, as there are file systems behind
/// FUSE with namespaces of their own.
fn check_attribute_name(name: &[u8]) -> Result<()> {
    const NAMESPACES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
    match NAMESPACES
        .iter()
        .find_map(|space| name.strip_prefix(*space))
    {
        Some(b"") => Err(StoreError::InvalidArgument),
        Some(_) => Ok(()),
        None => Err(StoreError::NotSupported),
    }
}

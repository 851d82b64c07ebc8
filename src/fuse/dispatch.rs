//! What is done with each request of the kernel: all policy of the file system, free of any transport.
//!
//! A transport decodes a request, calls the method of [`Dispatcher`] that has its name, and encodes what its [`Reply`] is
//! given. Another one beside `fuser.rs` would write that and no more. Which requests are declined, which wait and
//! on which thread, what a panic becomes, what the flags of a system call mean and how long the kernel may keep an
//! answer is decided here; what an operation does to the tree, in `ops`.
//!
//! No request waits on the thread that read it. One that has to wait is moved, with its reply, to the thread that makes
//! the file it waits for, or to one of its own while it waits for room. The bytes of a write are copied then, and only
//! then; the names in requests that may need room are copied always.

use std::convert::Infallible;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use super::errno::errno;
use super::invalidator::Invalidator;
use super::lazy;
use super::locality::start_thread;
pub(super) use super::ops::{Caller, DirEntry, EntryTimeout};
use super::ops::{Opening, Ops, WriteMode, Written};
use super::profile::{Profile, ServeOptions};
use super::requests::{Request, RequestCounts};
use crate::store::{AllocateMode, NAME_MAX, NewKind, RenameMode, SetAttr, StoreError};
pub(super) use crate::store::{Attr, Data, Ino, Kind, Name, PAGE_SIZE, Timestamp};
pub(super) use crate::view::Handle;
use crate::view::View;

/// How long the kernel may keep what it was told of an entry and its attributes: longer than any mount lives, since
/// every change comes through the kernel or is told to it. Not the largest number, as the kernel adds it to its clock
/// in jiffies.
pub(super) const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// The generation of every inode: numbers are never used twice, so that none is needed to tell two uses apart.
pub(super) const GENERATION: u64 = 0;

/// How the kernel is to treat each file that it opens: cached pages stay over a reopen (`FOPEN_KEEP_CACHE`), and
/// closing needs no request (`FOPEN_NOFLUSH`); the bits are those of include/uapi/linux/fuse.h.
pub(super) const OPEN_FLAGS: u32 = 1 << 1 | 1 << 5;

/// An entry without an inode, which the kernel remembers as "no such name".
const NO_SUCH_ENTRY: Attr = {
    let time = Timestamp { secs: 0, nanos: 0 };
    Attr {
        ino: Ino(0),
        kind: Kind::File,
        mode: 0,
        uid: 0,
        gid: 0,
        nlink: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
    }
};

/// How long an operation that has no room waits for the kernel to forget unlinked files. That word stands in the queue
/// already when the unlink returns.
const FORGET_PATIENCE: Duration = Duration::from_millis(50);

type Result<T, E = Errno> = std::result::Result<T, E>;

/// The reply that one request is owed, as a transport sends it: at once, or later from another thread.
///
/// A reply that is dropped unsent must tell the kernel EIO, or the process that asked would wait for ever.
pub(super) trait Reply<T>: Send + 'static {
    /// Sends it.
    fn send(self, result: Result<T>);
}

/// A name in a directory.
pub(super) type Entry<'a> = (Ino, &'a [u8]);

/// What chmod(2), chown(2), truncate(2) and utimensat(2) change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setattr {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub size: Option<u64>,
    pub atime: Option<SetTime>,
    pub mtime: Option<SetTime>,
    pub ctime: Option<Timestamp>,
}

/// What a time is set to.
#[derive(Clone, Copy, Debug)]
pub(super) enum SetTime {
    To(Timestamp),
    Now,
}

/// A write but for its bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub caller: Caller,
    pub ino: Ino,
    pub offset: u64,
    /// Those of open(2).
    pub open_flags: i32,
    /// `FUSE_WRITE_CACHE`: the page cache writes back.
    pub from_page_cache: bool,
    /// `FUSE_WRITE_KILL_SUIDGID`: set-id bits have to be cleared.
    pub kill_set_id: bool,
}

/// What statvfs(3) is told, in blocks of one size.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statfs {
    pub block_size: u32,
    pub blocks: u64,
    pub blocks_free: u64,
    pub inodes: u64,
    pub inodes_free: u64,
    pub name_max: u32,
}

/// What getxattr(2) and listxattr(2) are told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Xattr<B> {
    /// The size alone, which a caller asks for by a buffer of no bytes.
    Size(u32),
    Bytes(B),
}

impl<B: Deref<Target = [u8]>> Xattr<B> {
    /// What fits a buffer of `room` bytes.
    fn for_buffer(bytes: B, room: u32) -> Result<Self> {
        // Values are at most 64 KiB, and lists of names are refused by the kernel beyond that.
        let size = bytes.len() as u32;
        match room {
            0 => Ok(Self::Size(size)),
            _ if size > room => Err(Errno::RANGE),
            _ => Ok(Self::Bytes(bytes)),
        }
    }
}

/// Answers the requests of one mount.
#[derive(Debug)]
pub(super) struct Dispatcher {
    ops: Ops,
    lazy: Arc<lazy::Pool>,
    invalidator: Arc<Invalidator>,
}

/// One method for each request, by its name in the protocol. Each replies exactly once.
impl Dispatcher {
    pub fn new(view: Arc<View>, options: ServeOptions) -> Self {
        if options.profile == Profile::Observed {
            view.observe();
        }
        Self {
            lazy: lazy::Pool::new(Arc::clone(&view)),
            ops: Ops::new(view, options),
            invalidator: Arc::default(),
        }
    }

    pub fn lookup(self: &Arc<Self>, (parent, name): Entry<'_>, reply: impl Reply<Attr>) {
        match self.ops.pending_entry(parent, name) {
            None => self.lookup_now((parent, name), reply),
            Some(ino) => {
                let name = name.to_owned();
                self.later(ino, move |this| this.lookup_now((parent, &name), reply));
            }
        }
    }

    fn lookup_now(&self, (parent, name): Entry<'_>, reply: impl Reply<Attr>) {
        self.answer(Request::Lookup, reply, |ops| {
            Ok(ops.lookup(parent, name)?.unwrap_or(NO_SUCH_ENTRY))
        });
    }

    /// The kernel awaits no reply.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        let _ = self.perform(Request::Forget, |ops| {
            ops.forget(ino, lookups);
            Ok(())
        });
    }

    pub fn getattr(self: &Arc<Self>, ino: Ino, reply: impl Reply<Attr>) {
        self.when_size_known(ino, move |this| {
            this.answer(Request::Getattr, reply, |ops| ops.getattr(ino));
        });
    }

    pub fn setattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        change: Setattr,
        reply: impl Reply<Attr>,
    ) {
        // One moment for all that is set to "now": utimensat(2) promises no less.
        let now = Timestamp::now();
        let or_now = |time| match time {
            SetTime::To(time) => time,
            SetTime::Now => now,
        };
        let change = SetAttr {
            mode: change.mode.map(|mode| mode & 0o7777),
            uid: change.uid,
            gid: change.gid,
            size: change.size,
            atime: change.atime.map(or_now),
            mtime: change.mtime.map(or_now),
            ctime: change.ctime,
        };
        let answer = move |this: &Arc<Self>| {
            this.answer(Request::Setattr, reply, |ops| {
                ops.setattr(caller, ino, change, now)
            });
        };
        match change.size {
            Some(_) => self.when_made(ino, answer),
            None => self.when_size_known(ino, answer),
        }
    }

    pub fn readlink(&self, ino: Ino, reply: impl Reply<Data>) {
        self.answer(Request::Readlink, reply, |ops| ops.readlink(ino));
    }

    pub fn mknod(
        self: &Arc<Self>,
        caller: Caller,
        entry: Entry<'_>,
        mode: u32,
        rdev: u32,
        reply: impl Reply<Attr>,
    ) {
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => NewKind::File,
            libc::S_IFIFO => NewKind::Fifo,
            libc::S_IFSOCK => NewKind::Socket,
            libc::S_IFCHR => NewKind::CharDevice(rdev),
            libc::S_IFBLK => NewKind::BlockDevice(rdev),
            _ => return reply.send(Err(Errno::INVAL)),
        };
        self.make(Request::Mknod, caller, entry, kind, mode, reply);
    }

    pub fn mkdir(
        self: &Arc<Self>,
        caller: Caller,
        entry: Entry<'_>,
        mode: u32,
        reply: impl Reply<Attr>,
    ) {
        let kind = NewKind::Directory;
        self.make(Request::Mkdir, caller, entry, kind, mode, reply);
    }

    pub fn symlink(
        self: &Arc<Self>,
        caller: Caller,
        entry: Entry<'_>,
        target: &[u8],
        reply: impl Reply<Attr>,
    ) {
        let kind = NewKind::Symlink(target.to_vec());
        self.make(Request::Symlink, caller, entry, kind, 0o777, reply);
    }

    /// Makes an entry of any kind.
    fn make(
        self: &Arc<Self>,
        request: Request,
        caller: Caller,
        (parent, name): Entry<'_>,
        kind: NewKind,
        mode: u32,
        reply: impl Reply<Attr>,
    ) {
        let name = name.to_vec();
        self.answer_with_room(request, reply, move |ops| {
            ops.create(caller, parent, &name, kind.clone(), mode)
        });
    }

    pub fn unlink(&self, (parent, name): Entry<'_>, reply: impl Reply<()>) {
        self.answer(Request::Unlink, reply, |ops| ops.unlink(parent, name));
    }

    pub fn rmdir(&self, (parent, name): Entry<'_>, reply: impl Reply<()>) {
        self.answer(Request::Rmdir, reply, |ops| ops.rmdir(parent, name));
    }

    /// `flags` are those of renameat2(2).
    pub fn rename(
        &self,
        caller: Caller,
        from: Entry<'_>,
        to: Entry<'_>,
        flags: u32,
        reply: impl Reply<()>,
    ) {
        let mode = match flags {
            0 => RenameMode::Replace,
            libc::RENAME_NOREPLACE => RenameMode::NoReplace,
            libc::RENAME_EXCHANGE => RenameMode::Exchange,
            _ if flags & !libc::RENAME_NOREPLACE == libc::RENAME_WHITEOUT => RenameMode::Whiteout {
                owner: (caller.uid, caller.gid),
                replace: flags & libc::RENAME_NOREPLACE == 0,
            },
            // rename(2): EINVAL where the file system does not know a flag.
            _ => return reply.send(Err(Errno::INVAL)),
        };
        self.answer(Request::Rename, reply, |ops| ops.rename(from, to, mode));
    }

    pub fn link(&self, ino: Ino, (parent, name): Entry<'_>, reply: impl Reply<Attr>) {
        self.answer(Request::Link, reply, |ops| ops.link(ino, parent, name));
    }

    /// `flags` are those of open(2). The file is opened with [`OPEN_FLAGS`].
    pub fn open(&self, caller: Caller, ino: Ino, flags: i32, reply: impl Reply<Handle>) {
        if self.ops.options.profile == Profile::Fast {
            return reply.send(self.decline(Request::Open));
        }
        let opening = opening(caller, flags);
        self.answer(Request::Open, reply, |ops| ops.open(ino, opening));
    }

    /// `flags` are those of open(2). The file is opened with [`OPEN_FLAGS`].
    pub fn create(
        self: &Arc<Self>,
        caller: Caller,
        (parent, name): Entry<'_>,
        mode: u32,
        flags: i32,
        reply: impl Reply<(Attr, Handle)>,
    ) {
        if self.ops.options.profile == Profile::Fast {
            // The kernel then makes files by mknod, and opens and closes them without a word.
            return reply.send(self.decline(Request::Create));
        }
        let (name, opening) = (name.to_vec(), opening(caller, flags));
        self.answer_with_room(Request::Create, reply, move |ops| {
            ops.create_open(caller, parent, &name, mode, opening)
        });
    }

    pub fn release(&self, handle: Handle, reply: impl Reply<()>) {
        self.answer(Request::Release, reply, |ops| {
            ops.close(handle);
            Ok(())
        });
    }

    pub fn read(self: &Arc<Self>, ino: Ino, offset: u64, size: u32, reply: impl Reply<Data>) {
        self.when_made(ino, move |this| {
            this.answer(Request::Read, reply, |ops| {
                ops.read(ino, offset, size as usize)
            });
        });
    }

    /// Replies how many bytes were written.
    pub fn write(self: &Arc<Self>, write: Write, data: &[u8], reply: impl Reply<u32>) {
        if self.ops.is_pending(write.ino) {
            let data = data.to_vec();
            self.later(write.ino, move |this| this.write_now(write, &data, reply));
        } else {
            self.write_now(write, data, reply);
        }
    }

    fn write_now(self: &Arc<Self>, write: Write, data: &[u8], reply: impl Reply<u32>) {
        self.ops.counts.count(Request::Write);
        let first = self.attempt(Request::Write, |ops| write.perform(ops, data));
        if self.may_find_room(&first) {
            // Only now are the bytes worth a copy.
            let data = data.to_vec();
            let operation = move |ops: &Ops| write.perform(ops, &data);
            self.again_with_room(Request::Write, operation, move |this, written| {
                this.reply_written(write.ino, reply, written);
            });
        } else {
            let written = first.map_err(|failure| self.refuse(failure));
            self.reply_written(write.ino, reply, written);
        }
    }

    fn reply_written(&self, ino: Ino, reply: impl Reply<u32>, written: Result<Written>) {
        // Never more than was given, which came in one request.
        reply.send(written.map(|written| written.len as u32));
        if written.is_ok_and(|written| written.elsewhere) {
            self.invalidator.invalidate(ino);
        }
    }

    pub fn flush(&self, reply: impl Reply<()>) {
        reply.send(self.decline(Request::Flush));
    }

    pub fn fsync(&self, reply: impl Reply<()>) {
        reply.send(self.decline(Request::Fsync));
    }

    pub fn fsyncdir(&self, reply: impl Reply<()>) {
        reply.send(self.decline(Request::Fsyncdir));
    }

    pub fn opendir(&self, reply: impl Reply<Handle>) {
        reply.send(self.decline(Request::Opendir));
    }

    pub fn releasedir(&self, reply: impl Reply<()>) {
        self.ops.counts.count(Request::Releasedir);
        reply.send(Ok(()));
    }

    /// No file knows any.
    pub fn ioctl(&self, reply: impl Reply<Infallible>) {
        self.ops.counts.count(Request::Other);
        reply.send(Err(Errno::NOTTY));
    }

    /// Lists from behind the entry that has the cookie `after`. The transport encodes each entry by `add`, into a
    /// buffer of its own that is part of the reply; `add` is true when it is full.
    pub fn readdir<R: Reply<()>>(
        &self,
        dir: Ino,
        after: u64,
        mut reply: R,
        add: impl Fn(&mut R, &DirEntry<'_>) -> bool,
    ) {
        let listed = self.perform(Request::Readdir, |ops| {
            ops.readdir(dir, after, |entry| add(&mut reply, entry))
        });
        reply.send(listed);
    }

    /// Lists with attributes, otherwise as [`readdir`](Self::readdir).
    pub fn readdirplus<R: Reply<()>>(
        &self,
        dir: Ino,
        after: u64,
        mut reply: R,
        add: impl Fn(&mut R, &DirEntry<'_>, &Attr, Duration) -> bool,
    ) {
        let listed = self.perform(Request::Readdirplus, |ops| {
            ops.readdirplus(dir, after, |entry, attr, known| {
                let lifetime = match known {
                    EntryTimeout::Forever => FOREVER,
                    EntryTimeout::Zero => Duration::ZERO,
                };
                add(&mut reply, entry, attr, lifetime)
            })
        });
        reply.send(listed);
    }

    pub fn statfs(&self, reply: impl Reply<Statfs>) {
        self.answer(Request::Statfs, reply, |ops| {
            let usage = ops.usage();
            let blocks = usage.limits.bytes / PAGE_SIZE;
            Ok(Statfs {
                block_size: PAGE_SIZE as u32,
                blocks,
                blocks_free: blocks.saturating_sub(usage.bytes / PAGE_SIZE),
                inodes: usage.limits.inodes,
                inodes_free: usage.limits.inodes.saturating_sub(usage.inodes),
                name_max: NAME_MAX as u32,
            })
        });
    }

    /// `flags` are those of setxattr(2).
    pub fn setxattr(&self, ino: Ino, name: &[u8], value: &[u8], flags: i32, reply: impl Reply<()>) {
        let create = flags & libc::XATTR_CREATE != 0;
        let replace = flags & libc::XATTR_REPLACE != 0;
        reply.send(self.perform_xattr(Request::Setxattr, |ops| {
            ops.setxattr(ino, name, value, create, replace)
        }));
    }

    /// `room` is the size of the caller's buffer.
    pub fn getxattr(&self, ino: Ino, name: &[u8], room: u32, reply: impl Reply<Xattr<Arc<[u8]>>>) {
        let value = self.perform_xattr(Request::Getxattr, |ops| ops.getxattr(ino, name));
        reply.send(value.and_then(|value| Xattr::for_buffer(value, room)));
    }

    /// `room` is the size of the caller's buffer.
    pub fn listxattr(&self, ino: Ino, room: u32, reply: impl Reply<Xattr<Vec<u8>>>) {
        let names = self.perform_xattr(Request::Listxattr, |ops| ops.listxattr(ino));
        reply.send(names.and_then(|names| Xattr::for_buffer(names, room)));
    }

    pub fn removexattr(&self, ino: Ino, name: &[u8], reply: impl Reply<()>) {
        reply.send(self.perform_xattr(Request::Removexattr, |ops| ops.removexattr(ino, name)));
    }

    /// `mask` is that of access(2).
    pub fn access(&self, ino: Ino, mask: i32, reply: impl Reply<()>) {
        let allowed = self.perform(Request::Access, |ops| {
            Ok(mask & libc::X_OK == 0 || ops.may_execute(ino)?)
        });
        reply.send(match allowed {
            Ok(true) => Ok(()),
            Ok(false) => Err(Errno::ACCESS),
            Err(errno) => Err(errno),
        });
    }

    /// `mode` is that of fallocate(2).
    pub fn fallocate(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        (offset, length): (u64, u64),
        mode: i32,
        reply: impl Reply<()>,
    ) {
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        let mode = match mode {
            0 => AllocateMode::Extend,
            libc::FALLOC_FL_KEEP_SIZE => AllocateMode::KeepSize,
            PUNCH => AllocateMode::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => AllocateMode::ZeroRange,
            ZERO_KEEP => AllocateMode::ZeroRangeKeepSize,
            _ => return reply.send(Err(Errno::OPNOTSUPP)),
        };
        self.when_made(ino, move |this| {
            this.answer_with_room(Request::Fallocate, reply, move |ops| {
                let end = offset.checked_add(length).ok_or(StoreError::TooLarge)?;
                ops.allocate(caller, ino, offset..end, mode)
            });
        });
    }

    /// `whence` is that of lseek(2); the kernel asks for data and holes only.
    pub fn lseek(self: &Arc<Self>, ino: Ino, offset: i64, whence: i32, reply: impl Reply<i64>) {
        self.when_made(ino, move |this| {
            this.answer(Request::Lseek, reply, |ops| {
                let offset = u64::try_from(offset).map_err(|_| StoreError::NoData)?;
                let found = match whence {
                    libc::SEEK_DATA => ops.seek_data(ino, offset),
                    libc::SEEK_HOLE => ops.seek_hole(ino, offset),
                    _ => Err(StoreError::InvalidArgument),
                };
                // Offsets are at most 2^63 - 1.
                found.map(|offset| offset as i64)
            });
        });
    }

    /// Replies how many bytes were copied.
    pub fn copy_file_range(
        self: &Arc<Self>,
        caller: Caller,
        from: (Ino, u64),
        to: (Ino, u64),
        len: u64,
        reply: impl Reply<u32>,
    ) {
        // The reply counts in 32 bits; a caller repeats a short copy, so cut at a page.
        const MOST: u64 = u32::MAX as u64 / PAGE_SIZE * PAGE_SIZE;
        let copy = move |this: &Arc<Self>| {
            this.answer(Request::CopyFileRange, reply, |ops| {
                let copied = ops.copy_range(caller, from, to, len.min(MOST))?;
                Ok(copied as u32)
            });
        };
        self.when_made(from.0, move |this| this.when_made(to.0, copy));
    }
}

impl Write {
    fn perform(&self, ops: &Ops, data: &[u8]) -> Result<Written, StoreError> {
        let mode = WriteMode {
            kill_set_id: self.kill_set_id,
            from_page_cache: self.from_page_cache,
            append: !self.from_page_cache && self.open_flags & libc::O_APPEND != 0,
        };
        ops.write(self.caller, self.ino, self.offset, data, mode)
    }
}

fn opening(caller: Caller, flags: i32) -> Opening {
    Opening {
        by: caller.pid,
        writable: flags & libc::O_ACCMODE != libc::O_RDONLY,
    }
}

/// Why an operation has no result.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Refused(StoreError),
    Panicked,
}

/// How each request is counted, tried, put off and answered.
impl Dispatcher {
    fn answer<T>(
        &self,
        request: Request,
        reply: impl Reply<T>,
        operation: impl FnOnce(&Ops) -> Result<T, StoreError>,
    ) {
        reply.send(self.perform(request, operation));
    }

    /// Counts a request and runs its operation.
    fn perform<T>(
        &self,
        request: Request,
        operation: impl FnOnce(&Ops) -> Result<T, StoreError>,
    ) -> Result<T> {
        self.ops.counts.count(request);
        let result = self.attempt(request, operation);
        result.map_err(|failure| self.refuse(failure))
    }

    /// Runs an operation on extended attributes, where files can have them.
    fn perform_xattr<T>(
        &self,
        request: Request,
        operation: impl FnOnce(&Ops) -> Result<T, StoreError>,
    ) -> Result<T> {
        match self.ops.options.extended_attributes {
            true => self.perform(request, operation),
            false => self.decline(request),
        }
    }

    /// ENOSYS, which for some requests means "never ask again on this connection".
    fn decline<T>(&self, request: Request) -> Result<T> {
        self.ops.counts.count(request);
        Err(Errno::NOSYS)
    }

    /// Runs an operation. A panic fails this one request: the mount and the processes in it go on.
    fn attempt<T>(
        &self,
        request: Request,
        operation: impl FnOnce(&Ops) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        match catch_unwind(AssertUnwindSafe(|| operation(&self.ops))) {
            Ok(result) => result.map_err(Failure::Refused),
            Err(_) => {
                log::error!("{} panicked; answered EIO", request.name());
                Err(Failure::Panicked)
            }
        }
    }

    /// What a process is told, and a person later.
    fn refuse(&self, failure: Failure) -> Errno {
        match failure {
            Failure::Refused(error) => {
                self.ops.note_refusal(error);
                errno(error)
            }
            Failure::Panicked => Errno::IO,
        }
    }

    /// Runs `answer`, which needs a file's content: at once, or when the file has been made.
    fn when_made(self: &Arc<Self>, ino: Ino, answer: impl FnOnce(&Arc<Self>) + Send + 'static) {
        if self.ops.is_pending(ino) {
            self.later(ino, answer);
        } else {
            answer(self);
        }
    }

    /// Runs `answer`, which needs a file's size: at once, or when the file has been made.
    fn when_size_known(
        self: &Arc<Self>,
        ino: Ino,
        answer: impl FnOnce(&Arc<Self>) + Send + 'static,
    ) {
        if self.ops.is_size_pending(ino) {
            self.later(ino, answer);
        } else {
            answer(self);
        }
    }

    /// Runs `answer` when the file has been made, on the thread that makes it.
    fn later(self: &Arc<Self>, ino: Ino, answer: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let this = Arc::clone(self);
        self.lazy.demand(ino, move || answer(&this));
    }

    /// Answers a request that needs room, with a second chance: a file that was unlinked is freed when the kernel
    /// forgets it, and that word may stand in the queue behind the request of a process that relies on the room that
    /// the file had. Then the operation is tried once more when something was freed, or soon; the requests behind it
    /// are answered meanwhile.
    fn answer_with_room<T>(
        self: &Arc<Self>,
        request: Request,
        reply: impl Reply<T>,
        operation: impl Fn(&Ops) -> Result<T, StoreError> + Send + 'static,
    ) {
        self.ops.counts.count(request);
        let first = self.attempt(request, &operation);
        if self.may_find_room(&first) {
            self.again_with_room(request, operation, |_, second| reply.send(second));
        } else {
            reply.send(first.map_err(|failure| self.refuse(failure)));
        }
    }

    /// Whether an operation lacked room that files without a name may give back.
    fn may_find_room<T>(&self, result: &Result<T, Failure>) -> bool {
        matches!(result, Err(Failure::Refused(StoreError::NoSpace(_)))) && self.ops.has_orphans()
    }

    fn again_with_room<T>(
        self: &Arc<Self>,
        request: Request,
        operation: impl Fn(&Ops) -> Result<T, StoreError> + Send + 'static,
        reply: impl FnOnce(&Self, Result<T>) + Send + 'static,
    ) {
        let this = Arc::clone(self);
        let again = move || {
            this.ops.wait_for_room(FORGET_PATIENCE);
            let second = this.attempt(request, &operation);
            reply(&this, second.map_err(|failure| this.refuse(failure)));
        };
        // Without a thread there is no second chance; the reply that is dropped says EIO.
        start_thread("notapipe-room", again, move |error| {
            log::error!(
                "no thread for a {} that waits for room: {error}",
                request.name()
            );
        });
    }
}

/// What a mount needs beside answers.
impl Dispatcher {
    pub fn counts(&self) -> Arc<RequestCounts> {
        Arc::clone(&self.ops.counts)
    }

    pub fn lazy(&self) -> Arc<lazy::Pool> {
        Arc::clone(&self.lazy)
    }

    /// Has the kernel drop what it keeps of a file and got wrong, once it can be told.
    pub fn invalidator(&self) -> &Invalidator {
        &self.invalidator
    }

    /// Nothing is served any more: what waits for a file to be made waits no longer.
    pub fn end(&self) {
        self.ops.view.end();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::time::Instant;

    use super::*;
    use crate::view::tests::view;

    const ROOT: Caller = Caller {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A transport within this process: a reply goes to a channel.
    impl<T: Send + 'static> Reply<T> for Sender<Result<T>> {
        fn send(self, result: Result<T>) {
            // The test has failed when it listens no more.
            let _ = Sender::send(&self, result);
        }
    }

    fn dispatcher() -> Arc<Dispatcher> {
        let options = ServeOptions::default();
        Arc::new(Dispatcher::new(Arc::new(view()), options))
    }

    fn asked<T>(ask: impl FnOnce(Sender<Result<T>>)) -> Result<T> {
        let (reply, replies) = mpsc::channel();
        ask(reply);
        reply_of(&replies)
    }

    fn reply_of<T>(replies: &Receiver<Result<T>>) -> Result<T> {
        let reply = replies.recv_timeout(PATIENCE).expect("a reply");
        assert!(replies.try_recv().is_err(), "two replies to one request");
        reply
    }

    /// The reply to a write that has no room until the kernel's word comes, behind it, that a file is forgotten.
    fn write_before_a_forget() -> Result<u32> {
        const ALL: u32 = 1 << 20;
        let dispatcher = dispatcher();
        let make = |name: &[u8]| {
            let entry = (Ino::ROOT, name);
            asked(|reply| dispatcher.mknod(ROOT, entry, libc::S_IFREG, 0, reply))
        };
        let write = |ino, reply| {
            let write = Write {
                caller: ROOT,
                ino,
                offset: 0,
                open_flags: libc::O_WRONLY,
                from_page_cache: false,
                kill_set_id: false,
            };
            dispatcher.write(write, &vec![1; ALL as usize], reply);
        };
        let (old, new) = (make(b"old")?.ino, make(b"new")?.ino);
        assert_eq!(asked(|reply| write(old, reply)), Ok(ALL));
        assert_eq!(asked(|reply| write(new, reply)), Err(Errno::NOSPC));
        asked(|reply| dispatcher.unlink((Ino::ROOT, b"old"), reply))?;
        let (reply, replies) = mpsc::channel();
        write(new, reply);
        dispatcher.forget(old, 1);
        reply_of(&replies)
    }

    #[test]
    fn a_request_that_waits_for_room_is_answered_while_later_ones_are() {
        let give_up = Instant::now() + PATIENCE;
        // On a machine with much to do, the word may come too late for once.
        while let Err(errno) = write_before_a_forget() {
            assert_eq!(errno, Errno::NOSPC);
            assert!(Instant::now() < give_up, "{errno}");
        }
    }

    #[test]
    fn a_panic_fails_one_request_and_is_counted() {
        let dispatcher = dispatcher();
        let told = asked::<()>(|reply| {
            dispatcher.answer(Request::Getattr, reply, |_| panic!("on purpose"));
        });
        assert_eq!(told, Err(Errno::IO));
        assert!(asked(|reply| dispatcher.getattr(Ino::ROOT, reply)).is_ok());
        assert_eq!(dispatcher.counts().get(Request::Getattr), 2);
    }

    #[test]
    fn an_attribute_is_told_by_its_size_or_when_it_fits() {
        let dispatcher = dispatcher();
        let set = |reply| dispatcher.setxattr(Ino::ROOT, b"user.a", b"four", 0, reply);
        assert_eq!(asked(set), Ok(()));
        let get = |room| asked(|reply| dispatcher.getxattr(Ino::ROOT, b"user.a", room, reply));
        assert!(matches!(get(0), Ok(Xattr::Size(4))));
        assert_eq!(get(3).unwrap_err(), Errno::RANGE);
        assert!(matches!(get(4), Ok(Xattr::Bytes(value)) if *value == *b"four"));
    }
}

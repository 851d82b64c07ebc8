//! The transport by the crate fuser, which nothing else names: decodes requests and sends replies.
//!
//! Every handler has one shape: it begins the request with the [`Session`], decodes it, and calls the method of the
//! dispatcher that has its name, which replies by a [`Reply`]. What is done with a request is never decided here.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BackgroundSession, BsdFileFlags, Config, CopyFileRangeFlags, FileAttr, FileHandle,
    FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, SessionACL, TimeOrNow, WriteFlags,
};
use rustix::io::Errno;

use super::dispatch::{
    self, Attr, Caller, Data, DirEntry, Entry, FOREVER, Handle, Ino, Kind, Name, PAGE_SIZE, Reply,
    SetTime, Setattr, Statfs, Timestamp, Write, Xattr,
};
use super::profile::Feature;
use super::session::Session;

/// A thread that reads and answers requests.
#[derive(Debug)]
pub(super) struct Thread(BackgroundSession);

impl Thread {
    /// Answers the kernel's INIT on `device`, calls `prepare`, and starts a thread that answers every other request.
    pub fn start(
        device: OwnedFd,
        session: Session,
        prepare: impl FnOnce(Notifier) -> io::Result<()>,
    ) -> io::Result<Self> {
        // fuser's own owner check would refuse descriptors that a job passed on; the kernel has decided who may enter
        // when the file was opened.
        let acl = SessionACL::All;
        let session = fuser::Session::from_fd(session, device, acl, Config::default())?;
        prepare(Notifier(session.notifier()))?;
        Ok(Self(session.spawn()?))
    }

    pub fn notifier(&self) -> Notifier {
        Notifier(self.0.notifier())
    }

    /// Waits until its session has ended.
    pub fn join(self) -> io::Result<()> {
        self.0.join()
    }
}

/// Tells the kernel what it must not go on believing.
///
/// Never to be used from a serving thread or under the view's lock: the kernel may have to wait for
/// answers of ours before it returns.
#[derive(Clone, Debug)]
pub struct Notifier(fuser::Notifier);

impl Notifier {
    /// A name appeared, vanished, or means another inode now.
    ///
    /// # Errors
    ///
    /// When the mount is gone.
    pub fn entry_changed(&self, parent: Ino, name: &Name) -> io::Result<()> {
        self.0
            .inval_entry(nodeid(parent), OsStr::from_bytes(name.as_bytes()))
    }

    /// An inode's content or attributes changed; also writes dirty mapped pages back to us first.
    ///
    /// # Errors
    ///
    /// When the mount is gone.
    pub fn inode_changed(&self, ino: Ino) -> io::Result<()> {
        // Offset 0 and length 0 mean "to the end" (fuse_reverse_inval_inode, fs/fuse/inode.c).
        self.0.inval_inode(nodeid(ino), 0, 0)
    }
}

impl Filesystem for Session {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> io::Result<()> {
        for &feature in Feature::WANTED {
            let flag = InitFlags::from_bits_retain(feature as u64);
            // Refused means that this kernel has not got it, which costs speed only.
            if config.add_capabilities(flag).is_err() {
                log::debug!("this kernel has no {feature:?}");
            }
        }
        Ok(())
    }

    fn destroy(&mut self) {
        self.ended();
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        self.begin(req.pid()).lookup(at(parent, name), reply);
    }

    fn forget(&self, _: &Request, node: INodeNo, nlookup: u64) {
        self.begin_without_reply().forget(ino(node), nlookup);
    }

    fn getattr(&self, req: &Request, node: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.begin(req.pid()).getattr(ino(node), reply);
    }

    fn setattr(
        &self,
        req: &Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let change = Setattr {
            mode,
            uid,
            gid,
            size,
            atime: atime.map(set_time),
            mtime: mtime.map(set_time),
            ctime: ctime.map(timestamp),
        };
        self.begin(req.pid())
            .setattr(caller(req), ino(node), change, reply);
    }

    fn readlink(&self, req: &Request, node: INodeNo, reply: ReplyData) {
        self.begin(req.pid()).readlink(ino(node), reply);
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        self.begin(req.pid())
            .mknod(caller(req), at(parent, name), mode, rdev, reply);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        self.begin(req.pid())
            .mkdir(caller(req), at(parent, name), mode, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.begin(req.pid()).unlink(at(parent, name), reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.begin(req.pid()).rmdir(at(parent, name), reply);
    }

    fn symlink(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let target = target.as_os_str().as_bytes();
        self.begin(req.pid())
            .symlink(caller(req), at(parent, name), target, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let (from, to) = (at(parent, name), at(newparent, newname));
        self.begin(req.pid())
            .rename(caller(req), from, to, flags.bits(), reply);
    }

    fn link(
        &self,
        req: &Request,
        node: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        self.begin(req.pid())
            .link(ino(node), at(newparent, newname), reply);
    }

    fn open(&self, req: &Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        self.begin(req.pid())
            .open(caller(req), ino(node), flags.0, reply);
    }

    fn read(
        &self,
        req: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        self.begin_to_move(req.pid(), size as usize)
            .read(ino(node), offset, size, reply);
    }

    fn write(
        &self,
        req: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let write = Write {
            caller: caller(req),
            ino: ino(node),
            offset,
            open_flags: flags.0,
            from_page_cache: write_flags.contains(WriteFlags::FUSE_WRITE_CACHE),
            kill_set_id: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        };
        self.begin_to_move(req.pid(), data.len())
            .write(write, data, reply);
    }

    fn flush(&self, req: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        self.begin(req.pid()).flush(reply);
    }

    fn release(
        &self,
        req: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.begin(req.pid()).release(Handle(fh.0), reply);
    }

    fn fsync(&self, req: &Request, _: INodeNo, _: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.begin(req.pid()).fsync(reply);
    }

    fn opendir(&self, req: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        self.begin(req.pid()).opendir(reply);
    }

    fn readdir(
        &self,
        req: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        self.begin(req.pid())
            .readdir(ino(node), offset, reply, add_entry);
    }

    fn readdirplus(
        &self,
        req: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        self.begin(req.pid())
            .readdirplus(ino(node), offset, reply, add_entry_plus);
    }

    fn releasedir(
        &self,
        req: &Request,
        _: INodeNo,
        _: FileHandle,
        _: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.begin(req.pid()).releasedir(reply);
    }

    fn fsyncdir(
        &self,
        req: &Request,
        _: INodeNo,
        _: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        self.begin(req.pid()).fsyncdir(reply);
    }

    fn statfs(&self, req: &Request, _: INodeNo, reply: ReplyStatfs) {
        self.begin(req.pid()).statfs(reply);
    }

    fn setxattr(
        &self,
        req: &Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        self.begin(req.pid())
            .setxattr(ino(node), name.as_bytes(), value, flags, reply);
    }

    fn getxattr(&self, req: &Request, node: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        self.begin(req.pid())
            .getxattr(ino(node), name.as_bytes(), size, reply);
    }

    fn listxattr(&self, req: &Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        self.begin(req.pid()).listxattr(ino(node), size, reply);
    }

    fn removexattr(&self, req: &Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        self.begin(req.pid())
            .removexattr(ino(node), name.as_bytes(), reply);
    }

    fn access(&self, req: &Request, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        self.begin(req.pid()).access(ino(node), mask.bits(), reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        self.begin(req.pid())
            .create(caller(req), at(parent, name), mode, flags, reply);
    }

    fn ioctl(
        &self,
        req: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        self.begin(req.pid()).ioctl(reply);
    }

    fn fallocate(
        &self,
        req: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        self.begin(req.pid())
            .fallocate(caller(req), ino(node), (offset, length), mode, reply);
    }

    fn lseek(
        &self,
        req: &Request,
        node: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        self.begin(req.pid())
            .lseek(ino(node), offset, whence, reply);
    }

    fn copy_file_range(
        &self,
        req: &Request,
        node_in: INodeNo,
        _: FileHandle,
        offset_in: u64,
        node_out: INodeNo,
        _: FileHandle,
        offset_out: u64,
        len: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let (from, to) = ((ino(node_in), offset_in), (ino(node_out), offset_out));
        self.begin(req.pid())
            .copy_file_range(caller(req), from, to, len, reply);
    }
}

/// How a reply of each kind is sent, when there is no errno to send.
macro_rules! replies {
    ($($kind:ty: $value:ty, $send:expr;)*) => {$(
        impl Reply<$value> for $kind {
            fn send(self, result: Result<$value, Errno>) {
                let send: fn(Self, $value) = $send;
                match result {
                    Ok(value) => send(self, value),
                    Err(errno) => self.error(fuser::Errno::from_i32(errno.raw_os_error())),
                }
            }
        }
    )*};
}

replies! {
    ReplyEmpty: (), |reply, ()| reply.ok();
    ReplyEntry: Attr, |reply, attr| reply.entry(&FOREVER, &file_attr(&attr), GENERATION);
    ReplyAttr: Attr, |reply, attr| reply.attr(&FOREVER, &file_attr(&attr));
    ReplyData: Data, |reply, data| reply.data(&data);
    ReplyWrite: u32, |reply, count| reply.written(count);
    ReplyOpen: Handle, |reply, Handle(number)| reply.opened(FileHandle(number), OPEN_FLAGS);
    ReplyCreate: (Attr, Handle), |reply, (attr, Handle(number))| {
        let attr = file_attr(&attr);
        reply.created(&FOREVER, &attr, GENERATION, FileHandle(number), OPEN_FLAGS);
    };
    ReplyLseek: i64, |reply, offset| reply.offset(offset);
    ReplyIoctl: Infallible, |_, never| match never {};
    ReplyDirectory: (), |reply, ()| reply.ok();
    ReplyDirectoryPlus: (), |reply, ()| reply.ok();
    ReplyXattr: Xattr<Arc<[u8]>>, send_xattr;
    ReplyXattr: Xattr<Vec<u8>>, send_xattr;
    ReplyStatfs: Statfs, |reply, it| {
        let (free, size) = (it.blocks_free, it.block_size);
        reply.statfs(it.blocks, free, free, it.inodes, it.inodes_free, size, it.name_max, size);
    };
}

fn send_xattr<B: Deref<Target = [u8]>>(reply: ReplyXattr, value: Xattr<B>) {
    match value {
        Xattr::Size(size) => reply.size(size),
        Xattr::Bytes(bytes) => reply.data(&bytes),
    }
}

fn add_entry(reply: &mut ReplyDirectory, entry: &DirEntry<'_>) -> bool {
    let (kind, name) = (file_type(entry.kind), OsStr::from_bytes(entry.name));
    reply.add(nodeid(entry.ino), entry.cookie, kind, name)
}

fn add_entry_plus(
    reply: &mut ReplyDirectoryPlus,
    entry: &DirEntry<'_>,
    attr: &Attr,
    lifetime: Duration,
) -> bool {
    let (name, attr) = (OsStr::from_bytes(entry.name), file_attr(attr));
    let node = nodeid(entry.ino);
    reply.add(node, entry.cookie, name, &lifetime, &attr, GENERATION)
}

const GENERATION: Generation = Generation(dispatch::GENERATION);
const OPEN_FLAGS: FopenFlags = FopenFlags::from_bits_retain(dispatch::OPEN_FLAGS);

fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

fn nodeid(ino: Ino) -> INodeNo {
    INodeNo(ino.0)
}

fn at(parent: INodeNo, name: &OsStr) -> Entry<'_> {
    (ino(parent), name.as_bytes())
}

fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::SpecificTime(time) => SetTime::To(timestamp(time)),
        TimeOrNow::Now => SetTime::Now,
    }
}

fn caller(req: &Request) -> Caller {
    Caller {
        pid: req.pid(),
        uid: req.uid(),
        gid: req.gid(),
    }
}

/// The `timespec` that the kernel sent.
///
/// For times before 1970 fuser 0.18 subtracts the nanoseconds instead of adding them
/// (`system_time_from_time` in its time.rs); this takes the two numbers apart again.
fn timestamp(time: SystemTime) -> Timestamp {
    match UNIX_EPOCH.duration_since(time) {
        Ok(before) => Timestamp {
            secs: 0_i64.saturating_sub_unsigned(before.as_secs()),
            nanos: before.subsec_nanos(),
        },
        Err(_) => time.into(),
    }
}

fn file_attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: nodeid(attr.ino),
        size: attr.size,
        blocks: attr.blocks,
        atime: attr.atime.into(),
        mtime: attr.mtime.into(),
        ctime: attr.ctime.into(),
        crtime: attr.btime.into(),
        kind: file_type(attr.kind),
        perm: attr.mode as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: PAGE_SIZE as u32,
        flags: 0,
    }
}

fn file_type(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

//! The transport by the crate fuser: decode, call [`Ops`], reply. Every handler has that one shape, in a turn of the
//! thread that serves (`locality`).

use std::ffi::OsStr;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fuser::{
    AccessFlags, BackgroundSession, BsdFileFlags, Config, CopyFileRangeFlags, Errno, FileAttr,
    FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, IoctlFlags,
    KernelConfig, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Session, SessionACL, TimeOrNow, WriteFlags,
};

use parking_lot::Mutex;
use rustix::event::epoll::{self, CreateFlags};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::DupFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::corrections::Corrections;
use super::errno::errno;
use super::locality::{Asker, Locality, Starter, Turn, at_normal_priority};
use super::makers::Makers;
use super::ops::{Caller, Known, Opening, Ops, WriteMode, Written};
use super::profile::{Feature, Profile, ServeOptions};
use super::requests::{Request, RequestCounts};
use super::session_end::SessionEnd;
use crate::store::{
    AllocateMode, Attr, Ino, Kind, NAME_MAX, Name, NewKind, PAGE_SIZE, RenameMode, SetAttr,
    StoreError, Timestamp,
};
use crate::view::{Handle, View};

/// How long the kernel may keep what it was told. The kernel adds this to its clock in jiffies, so it
/// is merely longer than any mount lives, not the largest number.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Inode numbers are never used twice, so that no generation is needed to tell two uses apart.
const GENERATION: Generation = Generation(0);

/// How long the kernel's word that it has forgotten an unlinked file is waited for, by who needs the
/// room. It stands in the queue already when the unlink returns.
const FORGET_PATIENCE: Duration = Duration::from_millis(50);

/// So many bytes are copied in less time than a CPU takes to wake up.
const LITTLE: usize = 32 << 10;

/// Serves the file system on an already mounted `/dev/fuse` descriptor, on a thread of its own.
///
/// Returns when the kernel's INIT has been answered: from then on the first open works.
///
/// # Errors
///
/// When the mount was gone before INIT arrived, or the kernel speaks a FUSE protocol before 7.6.
pub fn serve(device: OwnedFd, view: Arc<View>, options: ServeOptions) -> io::Result<Server> {
    if options.profile == Profile::Observed {
        view.observe();
    }
    keep_buffers_out_of_the_heap();
    let makers = Makers::new(Arc::clone(&view));
    let ops = Ops::new(view, options);
    let end = Arc::new(SessionEnd::new()?);
    let counts = Arc::clone(&ops.counts);
    // fuser's own owner check would refuse descriptors that a job passed on; the kernel has decided
    // who may enter when the file was opened.
    let corrections = Arc::<Corrections>::default();
    let served = Arc::new(Served {
        ops,
        makers: Arc::clone(&makers),
        corrections: Arc::clone(&corrections),
        locality: Locality::on_several_cpus(),
        first_device: device.as_raw_fd(),
        second: Mutex::default(),
    });
    let adapter = Adapter {
        served: Arc::clone(&served),
        end: Some(Arc::clone(&end)),
        device: device.as_raw_fd(),
    };
    let session = Session::from_fd(adapter, device, SessionACL::All, Config::default())?;
    // Before anything is served: whoever answers holds the device by it.
    corrections.tell(Notifier(session.notifier()));
    Ok(Server {
        session: session.spawn()?,
        served,
        counts,
        end,
        makers,
    })
}

/// Serves a device that is served already, by a session of its own.
///
/// fuser 0.18 begins every session with INIT, which the kernel sends once. So the session begins on a socket, where we
/// send it, and the device takes the place of the socket afterwards. (`Config::n_threads` would not do: fuser starts
/// all threads at once, each with a buffer of 16 MiB, and does not notice when one of them ends.)
fn serve_as_well(adapter: Adapter, device: BorrowedFd<'_>) -> io::Result<Second> {
    let (theirs, ours) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    rustix::io::write(&ours, &init_request())?;
    let number = theirs.as_raw_fd();
    let adapter = Adapter {
        device: number,
        ..adapter
    };
    let session = Session::from_fd(adapter, theirs, SessionACL::All, Config::default())?;
    // SAFETY: the session owns it, and has it open as long as it lives.
    let mut socket = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
    rustix::io::dup3(device, &mut socket, DupFlags::CLOEXEC)?;
    Ok(Second {
        session: session.spawn()?,
        device: number,
    })
}

/// A `struct fuse_in_header` and a `struct fuse_init_in` that offers nothing (include/uapi/linux/fuse.h).
fn init_request() -> Vec<u8> {
    const FUSE_INIT: u32 = 26;
    const VERSION: [u32; 2] = [7, 31];
    const HEADER_BYTES: usize = 40;
    const BYTES: usize = HEADER_BYTES + 64;
    let mut request = Vec::with_capacity(BYTES);
    for word in [BYTES as u32, FUSE_INIT] {
        request.extend(word.to_ne_bytes());
    }
    request.resize(HEADER_BYTES, 0);
    for word in VERSION {
        request.extend(word.to_ne_bytes());
    }
    request.resize(BYTES, 0);
    request
}

/// Has the C library map fuser's buffers instead of taking them from the heap.
///
/// fuser 0.18 allocates 16 MiB of zeros for the first request and again for the thread that serves, and frees both.
/// glibc raises its threshold for mapping to the largest mapping that was ever freed (mallopt(3), dynamic mmap
/// threshold): from the second mount on, both come from the heap, where they are zeroed by hand. That took 2 of the
/// 4.5 ms that a mount and a job of `true` took together, and kept 16 MiB resident for every mount. A threshold just
/// below the buffers' size, set before the first is freed, is what that freeing would have made of it otherwise, but
/// for that they stay mapped: fresh pages, of which only those that are used are ever made.
///
/// Another allocator does not ask for it, and another C library has no such threshold.
fn keep_buffers_out_of_the_heap() {
    #[cfg(target_env = "gnu")]
    {
        const BUFFER_BYTES: libc::c_int = 16 << 20;
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            // SAFETY: sets two numbers of the allocator, under its own lock. The second is what glibc itself
            // keeps at twice the first.
            unsafe {
                libc::mallopt(libc::M_MMAP_THRESHOLD, BUFFER_BYTES);
                libc::mallopt(libc::M_TRIM_THRESHOLD, 2 * BUFFER_BYTES);
            }
        });
    }
}

/// A session that is being served.
#[derive(Debug)]
pub struct Server {
    session: BackgroundSession,
    served: Arc<Served>,
    counts: Arc<RequestCounts>,
    end: Arc<SessionEnd>,
    makers: Arc<Makers>,
}

impl Server {
    /// How and when the session ends.
    pub fn end(&self) -> Arc<SessionEnd> {
        Arc::clone(&self.end)
    }

    /// Tells the kernel of changes that did not come through it.
    pub fn notifier(&self) -> Notifier {
        Notifier(self.session.notifier())
    }

    /// Makes the files that are made on demand.
    pub fn makers(&self) -> Arc<Makers> {
        Arc::clone(&self.makers)
    }

    /// What the kernel asked so far.
    pub fn counts(&self) -> Arc<RequestCounts> {
        Arc::clone(&self.counts)
    }

    /// Whether the kernel may still ask: it does until the last mount of this file system is gone.
    pub fn is_connected(&self) -> bool {
        // SAFETY: see the field of `Adapter`.
        is_connected(unsafe { BorrowedFd::borrow_raw(self.served.first_device) })
    }

    /// Waits for the end for so long at most; then [`join`](Self::join) returns at once. False when it has not come.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).ok();
            let mut end = [PollFd::from_borrowed_fd(self.end.ended(), PollFlags::IN)];
            match poll(&mut end, timeout.as_ref()) {
                Err(rustix::io::Errno::INTR) => {}
                // To be refused by poll(2) is no end.
                result => return result.is_ok_and(|ready| ready > 0),
            }
        }
    }

    /// Waits until the session has ended, which it does when the mount is gone.
    ///
    /// # Errors
    ///
    /// Whatever ended the session other than the mount's end.
    pub fn join(self) -> io::Result<()> {
        let joined = self.session.join();
        // It ends with the first, for the same reason.
        let second = self.served.second.lock().take();
        if let Some(second) = second {
            let _ = second.session.join();
        }
        joined
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

#[derive(Debug)]
struct Adapter {
    served: Arc<Served>,
    /// See [`Server::end`]; none for the second session.
    end: Option<Arc<SessionEnd>>,
    /// The number of fuser's descriptor, which stays open as long as `served`, whose corrections hold it, or whose second
    /// session does.
    device: RawFd,
}

/// What answers: shared with the requests that are answered later, on another thread.
#[derive(Debug)]
struct Served {
    ops: Ops,
    makers: Arc<Makers>,
    corrections: Arc<Corrections>,
    /// Where there are several CPUs.
    locality: Option<Locality>,
    /// The number of the first session's descriptor.
    first_device: RawFd,
    /// Lock order: held alone.
    second: Mutex<Option<Second>>,
}

/// The session that serves beside the tool that asks; see [`Locality`].
#[derive(Debug)]
struct Second {
    session: BackgroundSession,
    device: RawFd,
}

impl Starter for Adapter {
    fn start_second(&self) -> io::Result<()> {
        // Held until it is there: its thread may end at once, and looks for it then.
        let mut second = self.served.second.lock();
        let adapter = Adapter {
            served: Arc::clone(&self.served),
            end: None,
            device: self.device,
        };
        *second = Some(serve_as_well(adapter, self.device())?);
        Ok(())
    }
}

impl Deref for Adapter {
    type Target = Served;

    fn deref(&self) -> &Served {
        &self.served
    }
}

impl Adapter {
    /// Calls `serve`, which needs a file's content: at once, or when the file has been made.
    fn when_made(&self, node: INodeNo, serve: impl FnOnce(&Arc<Served>) + Send + 'static) {
        if self.ops.is_awaited(ino(node)) {
            self.later(ino(node), serve);
        } else {
            serve(&self.served);
        }
    }

    /// The same for what needs the size alone.
    fn when_size_known(&self, node: INodeNo, serve: impl FnOnce(&Arc<Served>) + Send + 'static) {
        if self.ops.is_size_awaited(ino(node)) {
            self.later(ino(node), serve);
        } else {
            serve(&self.served);
        }
    }

    fn later(&self, ino: Ino, serve: impl FnOnce(&Arc<Served>) + Send + 'static) {
        let served = Arc::clone(&self.served);
        self.makers.reach(ino, move || serve(&served));
    }

    fn device(&self) -> BorrowedFd<'_> {
        // SAFETY: see the field.
        unsafe { BorrowedFd::borrow_raw(self.device) }
    }

    /// To be called first in a handler, and kept until it has replied.
    fn turn(&self, req: &fuser::Request) -> Option<Turn<'_>> {
        self.turn_to_move(req, 0)
    }

    /// The same for so many bytes.
    fn turn_to_move(&self, req: &fuser::Request, bytes: usize) -> Option<Turn<'_>> {
        let asker = Asker {
            tid: req.pid(),
            moves_much: bytes > LITTLE,
        };
        let locality = self.locality.as_ref()?;
        Some(locality.turn(asker, self.device(), self))
    }

    /// Closes the device under those who hold its descriptors. The kernel then ends the connection, and with it every
    /// request that waits or is to come; nobody would ever answer them.
    fn hang_up(&self) {
        // Reading from this is an error, which ends the other session.
        let nothing = epoll::create(CreateFlags::CLOEXEC);
        let second = self.served.second.lock().as_ref().map(|it| it.device);
        for number in [self.served.first_device].into_iter().chain(second) {
            let hung_up = nothing
                .as_ref()
                .map_err(|&errno| errno)
                .and_then(|nothing| {
                    // SAFETY: see the field. Whoever owns the descriptor closes what it is from now on.
                    let mut device = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
                    rustix::io::dup3(nothing, &mut device, DupFlags::CLOEXEC)
                });
            if let Err(error) = hung_up {
                log::error!("cannot end the connection: {error}");
            }
        }
    }
}

impl Served {
    /// Counts a request and runs its operation.
    fn answer<T>(
        &self,
        request: Request,
        operation: impl FnOnce(&Ops) -> Result<T, StoreError>,
    ) -> Result<T, Errno> {
        self.ops.counts.count(request);
        let result = self.attempt(request, operation);
        result.map_err(|failure| self.refuse(failure))
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
                Errno::from_i32(errno(error))
            }
            Failure::Panicked => Errno::EIO,
        }
    }

    /// The same as [`answer`](Self::answer) for what needs room, with a second chance: a file that was
    /// unlinked is freed when the kernel forgets it, and that word may stand in the queue behind the
    /// request of somebody who relies on the room that the file had. Then the operation is tried once
    /// more when something was freed, or soon; the requests behind it are answered meanwhile.
    fn answer_with_room<T>(
        self: &Arc<Self>,
        request: Request,
        operation: impl Fn(&Ops) -> Result<T, StoreError> + Send + 'static,
        reply: impl FnOnce(&Served, Result<T, Errno>) + Send + 'static,
    ) {
        self.ops.counts.count(request);
        let first = self.attempt(request, &operation);
        if !matches!(first, Err(Failure::Refused(StoreError::NoSpace(_))))
            || !self.ops.has_orphans()
        {
            return reply(self, first.map_err(|failure| self.refuse(failure)));
        }
        self.again_with_room(request, operation, reply);
    }

    fn again_with_room<T>(
        self: &Arc<Self>,
        request: Request,
        operation: impl Fn(&Ops) -> Result<T, StoreError> + Send + 'static,
        reply: impl FnOnce(&Served, Result<T, Errno>) + Send + 'static,
    ) {
        let served = Arc::clone(self);
        let again = move || {
            served.ops.wait_for_room(FORGET_PATIENCE);
            let second = served.attempt(request, &operation);
            reply(&served, second.map_err(|failure| served.refuse(failure)));
        };
        at_normal_priority(move || {
            // Without a thread there is no second chance; the reply that is dropped says EIO.
            if let Err(error) = thread::Builder::new()
                .name("notapipe-room".to_owned())
                .spawn(again)
            {
                log::error!(
                    "no thread for a {} that waits for room: {error}",
                    request.name()
                );
            }
        });
    }

    /// ENOSYS, which for some requests means "never ask again on this connection".
    fn decline(&self, request: Request) -> Errno {
        self.ops.counts.count(request);
        Errno::ENOSYS
    }

    fn lookup(&self, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.answer(Request::Lookup, |ops| {
            ops.lookup(ino(parent), name.as_bytes())
        }) {
            Ok(Some(attr)) => reply.entry(&FOREVER, &file_attr(&attr), GENERATION),
            Ok(None) => reply.entry(&FOREVER, &no_such_entry(), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(self: &Arc<Self>, write: Write, data: &[u8], reply: ReplyWrite) {
        self.ops.counts.count(Request::Write);
        let attempt = |served: &Self, data: &[u8]| {
            served.attempt(Request::Write, |ops| {
                ops.write(write.caller, write.ino, write.offset, data, write.mode)
            })
        };
        match attempt(self, data) {
            Err(Failure::Refused(StoreError::NoSpace(_))) if self.ops.has_orphans() => {
                // Only now are the bytes worth a copy; see `answer_with_room`.
                let data = data.to_vec();
                let operation = move |ops: &Ops| {
                    ops.write(write.caller, write.ino, write.offset, &data, write.mode)
                };
                self.again_with_room(Request::Write, operation, move |served, written| {
                    served.reply_written(write, reply, written);
                });
            }
            written => {
                let written = written.map_err(|failure| self.refuse(failure));
                self.reply_written(write, reply, written);
            }
        }
    }

    fn reply_written(&self, write: Write, reply: ReplyWrite, written: Result<Written, Errno>) {
        match written {
            Ok(written) => {
                // Never more than was given, which came in one request.
                reply.written(written.len as u32);
                if written.elsewhere {
                    self.corrections.note(write.ino);
                }
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn create_entry(
        self: &Arc<Self>,
        request: Request,
        caller: Caller,
        (parent, name): (INodeNo, &OsStr),
        kind: NewKind,
        mode: u32,
        reply: ReplyEntry,
    ) {
        let name = name.as_bytes().to_vec();
        let operation = move |ops: &Ops| ops.create(caller, ino(parent), &name, kind.clone(), mode);
        self.answer_with_room(request, operation, |_, made| reply_entry(reply, made));
    }
}

/// Why an operation has no result.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Refused(StoreError),
    Panicked,
}

/// A write but for its bytes.
#[derive(Clone, Copy, Debug)]
struct Write {
    caller: Caller,
    ino: Ino,
    offset: u64,
    mode: WriteMode,
}

fn reply_entry(reply: ReplyEntry, result: Result<Attr, Errno>) {
    match result {
        Ok(attr) => reply.entry(&FOREVER, &file_attr(&attr), GENERATION),
        Err(errno) => reply.error(errno),
    }
}

fn reply_attr(reply: ReplyAttr, result: Result<Attr, Errno>) {
    match result {
        Ok(attr) => reply.attr(&FOREVER, &file_attr(&attr)),
        Err(errno) => reply.error(errno),
    }
}

fn reply_empty(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn reply_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    // xattrs are at most 64 KiB and lists of them are refused by the kernel beyond that.
    let len = value.len() as u32;
    match size {
        0 => reply.size(len),
        _ if len > size => reply.error(Errno::ERANGE),
        _ => reply.data(value),
    }
}

/// Whether the kernel still sends requests: it does until the mount is gone or aborted (fuse_dev_poll, fs/fuse/dev.c).
fn is_connected(device: BorrowedFd<'_>) -> bool {
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let mut events = [PollFd::from_borrowed_fd(device, PollFlags::OUT)];
    poll(&mut events, Some(&now)).is_ok() && !events[0].revents().contains(PollFlags::ERR)
}

impl Filesystem for Adapter {
    fn init(&mut self, _req: &fuser::Request, config: &mut KernelConfig) -> io::Result<()> {
        for &feature in Feature::WANTED {
            // Refused means that this kernel has not got it, which costs speed only.
            if config.add_capabilities(init_flag(feature)).is_err() {
                log::debug!("this kernel has no {feature:?}");
            }
        }
        Ok(())
    }

    fn destroy(&mut self) {
        let lost = is_connected(self.device());
        if lost {
            log::error!("the session has ended while its mount stands");
            self.hang_up();
        }
        if let Some(locality) = &self.locality {
            locality.end();
        }
        // The first session ends as well when the second has.
        if let Some(end) = &self.end {
            self.ops.view.end();
            end.tell(lost);
        }
    }

    fn lookup(&self, req: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _turn = self.turn(req);
        match self.ops.awaited_entry(ino(parent), name.as_bytes()) {
            None => self.served.lookup(parent, name, reply),
            Some(ino) => {
                let name = name.to_owned();
                self.later(ino, move |served| served.lookup(parent, &name, reply));
            }
        }
    }

    fn forget(&self, _req: &fuser::Request, node: INodeNo, nlookup: u64) {
        let locality = self.locality.as_ref();
        let _turn = locality.map(|it| it.turn_for_nobody(self.device()));
        let _ = self.answer(Request::Forget, |ops| {
            ops.forget(ino(node), nlookup);
            Ok(())
        });
    }

    fn getattr(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        _fh: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let _turn = self.turn(req);
        self.when_size_known(node, move |served| {
            let attr = served.answer(Request::Getattr, |ops| ops.getattr(ino(node)));
            reply_attr(reply, attr);
        });
    }

    fn setattr(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _turn = self.turn(req);
        // One moment for all that is set to "now": utimensat(2) promises no less.
        let now = Timestamp::now();
        let or_now = |time| match time {
            TimeOrNow::SpecificTime(time) => timestamp(time),
            TimeOrNow::Now => now,
        };
        let change = SetAttr {
            mode: mode.map(|mode| mode & 0o7777),
            uid,
            gid,
            size,
            atime: atime.map(or_now),
            mtime: mtime.map(or_now),
            ctime: ctime.map(timestamp),
        };
        let caller = caller(req);
        let serve = move |served: &Arc<Served>| {
            let changed = served.answer(Request::Setattr, |ops| {
                ops.setattr(caller, ino(node), change, now)
            });
            reply_attr(reply, changed);
        };
        match change.size {
            Some(_) => self.when_made(node, serve),
            None => self.when_size_known(node, serve),
        }
    }

    fn readlink(&self, req: &fuser::Request, node: INodeNo, reply: ReplyData) {
        let _turn = self.turn(req);
        match self.answer(Request::Readlink, |ops| ops.readlink(ino(node))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.turn(req);
        let kind = match mode & libc::S_IFMT {
            libc::S_IFREG | 0 => NewKind::File,
            libc::S_IFIFO => NewKind::Fifo,
            libc::S_IFSOCK => NewKind::Socket,
            libc::S_IFCHR => NewKind::CharDevice(rdev),
            libc::S_IFBLK => NewKind::BlockDevice(rdev),
            _ => return reply.error(Errno::EINVAL),
        };
        self.served.create_entry(
            Request::Mknod,
            caller(req),
            (parent, name),
            kind,
            mode,
            reply,
        );
    }

    fn mkdir(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        reply: ReplyEntry,
    ) {
        let _turn = self.turn(req);
        let kind = NewKind::Directory;
        self.served.create_entry(
            Request::Mkdir,
            caller(req),
            (parent, name),
            kind,
            mode,
            reply,
        );
    }

    fn unlink(&self, req: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn(req);
        let removed = self.answer(Request::Unlink, |ops| {
            ops.unlink(caller(req), ino(parent), name.as_bytes())
        });
        reply_empty(reply, removed);
    }

    fn rmdir(&self, req: &fuser::Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn(req);
        let removed = self.answer(Request::Rmdir, |ops| {
            ops.rmdir(caller(req), ino(parent), name.as_bytes())
        });
        reply_empty(reply, removed);
    }

    fn symlink(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let _turn = self.turn(req);
        let kind = NewKind::Symlink(target.as_os_str().as_bytes().to_vec());
        self.served.create_entry(
            Request::Symlink,
            caller(req),
            (parent, name),
            kind,
            0o777,
            reply,
        );
    }

    fn rename(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        let mode = if flags.is_empty() {
            RenameMode::Replace
        } else if flags == RenameFlags::RENAME_NOREPLACE {
            RenameMode::NoReplace
        } else if flags == RenameFlags::RENAME_EXCHANGE {
            RenameMode::Exchange
        } else if flags - RenameFlags::RENAME_NOREPLACE == RenameFlags::RENAME_WHITEOUT {
            RenameMode::Whiteout {
                owner: (req.uid(), req.gid()),
                replace: !flags.contains(RenameFlags::RENAME_NOREPLACE),
            }
        } else {
            // rename(2): EINVAL where the file system does not know a flag.
            return reply.error(Errno::EINVAL);
        };
        let from = (ino(parent), name.as_bytes());
        let to = (ino(newparent), newname.as_bytes());
        reply_empty(
            reply,
            self.answer(Request::Rename, |ops| {
                ops.rename(caller(req), from, to, mode)
            }),
        );
    }

    fn link(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        newparent: INodeNo,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let _turn = self.turn(req);
        let made = self.answer(Request::Link, |ops| {
            ops.link(caller(req), ino(node), ino(newparent), newname.as_bytes())
        });
        reply_entry(reply, made);
    }

    fn open(&self, req: &fuser::Request, node: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.turn(req);
        if self.ops.options.profile == Profile::Fast {
            return reply.error(self.decline(Request::Open));
        }
        let opening = opening(req, flags.0);
        match self.answer(Request::Open, |ops| ops.open(ino(node), opening)) {
            Ok(Handle(number)) => reply.opened(FileHandle(number), open_flags()),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _turn = self.turn_to_move(req, size as usize);
        self.when_made(node, move |served| {
            match served.answer(Request::Read, |ops| {
                ops.read(ino(node), offset, size as usize)
            }) {
                Ok(data) => reply.data(&data),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn write(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _turn = self.turn_to_move(req, data.len());
        let from_page_cache = write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let mode = WriteMode {
            kill_set_id: write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
            from_page_cache,
            append: !from_page_cache && flags.0 & libc::O_APPEND != 0,
        };
        let write = Write {
            caller: caller(req),
            ino: ino(node),
            offset,
            mode,
        };
        if self.ops.is_awaited(write.ino) {
            let data = data.to_vec();
            self.later(write.ino, move |served| served.write(write, &data, reply));
        } else {
            self.served.write(write, data, reply);
        }
    }

    fn flush(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        reply.error(self.decline(Request::Flush));
    }

    fn release(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        let closed = self.answer(Request::Release, |ops| {
            ops.close(Handle(fh.0));
            Ok(())
        });
        reply_empty(reply, closed);
    }

    fn fsync(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        reply.error(self.decline(Request::Fsync));
    }

    fn opendir(&self, req: &fuser::Request, _node: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let _turn = self.turn(req);
        reply.error(self.decline(Request::Opendir));
    }

    fn readdir(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let _turn = self.turn(req);
        let listed = self.answer(Request::Readdir, |ops| {
            ops.readdir(ino(node), offset, |entry| {
                let name = OsStr::from_bytes(entry.name);
                reply.add(nodeid(entry.ino), entry.cookie, file_type(entry.kind), name)
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdirplus(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let _turn = self.turn(req);
        let listed = self.answer(Request::Readdirplus, |ops| {
            ops.readdirplus(ino(node), offset, |entry, attr, known| {
                let name = OsStr::from_bytes(entry.name);
                let attr = file_attr(attr);
                let lifetime = match known {
                    Known::ForEver => FOREVER,
                    Known::NotYet => Duration::ZERO,
                };
                reply.add(
                    nodeid(entry.ino),
                    entry.cookie,
                    name,
                    &lifetime,
                    &attr,
                    GENERATION,
                )
            })
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    fn releasedir(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        self.ops.counts.count(Request::Releasedir);
        reply.ok();
    }

    fn fsyncdir(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        reply.error(self.decline(Request::Fsyncdir));
    }

    fn statfs(&self, req: &fuser::Request, _node: INodeNo, reply: ReplyStatfs) {
        let _turn = self.turn(req);
        let usage = match self.answer(Request::Statfs, |ops| Ok(ops.usage())) {
            Ok(usage) => usage,
            Err(errno) => return reply.error(errno),
        };
        let blocks = usage.limits.bytes / PAGE_SIZE;
        let blocks_free = blocks.saturating_sub(usage.bytes / PAGE_SIZE);
        let inodes_free = usage.limits.inodes.saturating_sub(usage.inodes);
        reply.statfs(
            blocks,
            blocks_free,
            blocks_free,
            usage.limits.inodes,
            inodes_free,
            PAGE_SIZE as u32,
            NAME_MAX as u32,
            PAGE_SIZE as u32,
        );
    }

    fn setxattr(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        if !self.ops.options.extended_attributes {
            return reply.error(self.decline(Request::Setxattr));
        }
        let create = flags & libc::XATTR_CREATE != 0;
        let replace = flags & libc::XATTR_REPLACE != 0;
        let set = self.answer(Request::Setxattr, |ops| {
            ops.setxattr(ino(node), name.as_bytes(), value, create, replace)
        });
        reply_empty(reply, set);
    }

    fn getxattr(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let _turn = self.turn(req);
        if !self.ops.options.extended_attributes {
            return reply.error(self.decline(Request::Getxattr));
        }
        match self.answer(Request::Getxattr, |ops| {
            ops.getxattr(ino(node), name.as_bytes())
        }) {
            Ok(value) => reply_xattr(reply, size, &value),
            Err(errno) => reply.error(errno),
        }
    }

    fn listxattr(&self, req: &fuser::Request, node: INodeNo, size: u32, reply: ReplyXattr) {
        let _turn = self.turn(req);
        if !self.ops.options.extended_attributes {
            return reply.error(self.decline(Request::Listxattr));
        }
        match self.answer(Request::Listxattr, |ops| ops.listxattr(ino(node))) {
            Ok(names) => reply_xattr(reply, size, &names),
            Err(errno) => reply.error(errno),
        }
    }

    fn removexattr(&self, req: &fuser::Request, node: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _turn = self.turn(req);
        if !self.ops.options.extended_attributes {
            return reply.error(self.decline(Request::Removexattr));
        }
        let removed = self.answer(Request::Removexattr, |ops| {
            ops.removexattr(ino(node), name.as_bytes())
        });
        reply_empty(reply, removed);
    }

    fn access(&self, req: &fuser::Request, node: INodeNo, mask: AccessFlags, reply: ReplyEmpty) {
        let _turn = self.turn(req);
        let allowed = self.answer(Request::Access, |ops| {
            Ok(!mask.contains(AccessFlags::X_OK) || ops.may_execute(ino(node))?)
        });
        match allowed {
            Ok(true) => reply.ok(),
            Ok(false) => reply.error(Errno::EACCES),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        req: &fuser::Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _turn = self.turn(req);
        if self.ops.options.profile == Profile::Fast {
            // The kernel then makes files by mknod, and opens and closes them without a word.
            return reply.error(self.decline(Request::Create));
        }
        let (caller, opening) = (caller(req), opening(req, flags));
        let name = name.as_bytes().to_vec();
        let operation = move |ops: &Ops| ops.create_open(caller, ino(parent), &name, mode, opening);
        let served = &self.served;
        served.answer_with_room(Request::Create, operation, |_, made| match made {
            Ok((attr, Handle(number))) => {
                reply.created(
                    &FOREVER,
                    &file_attr(&attr),
                    GENERATION,
                    FileHandle(number),
                    open_flags(),
                );
            }
            Err(errno) => reply.error(errno),
        });
    }

    fn ioctl(
        &self,
        req: &fuser::Request,
        _node: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        _cmd: u32,
        _in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let _turn = self.turn(req);
        self.ops.counts.count(Request::Other);
        reply.error(Errno::ENOTTY);
    }

    fn fallocate(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _turn = self.turn(req);
        const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        const ZERO_KEEP: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        let mode = match mode {
            0 => AllocateMode::Extend,
            libc::FALLOC_FL_KEEP_SIZE => AllocateMode::KeepSize,
            PUNCH => AllocateMode::PunchHole,
            libc::FALLOC_FL_ZERO_RANGE => AllocateMode::ZeroRange,
            ZERO_KEEP => AllocateMode::ZeroRangeKeepSize,
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        let caller = caller(req);
        self.when_made(node, move |served| {
            let operation = move |ops: &Ops| {
                let end = offset.checked_add(length).ok_or(StoreError::TooLarge)?;
                ops.allocate(caller, ino(node), offset..end, mode)
            };
            served.answer_with_room(Request::Fallocate, operation, |_, allocated| {
                reply_empty(reply, allocated);
            });
        });
    }

    fn lseek(
        &self,
        req: &fuser::Request,
        node: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _turn = self.turn(req);
        self.when_made(node, move |served| {
            let found = served.answer(Request::Lseek, |ops| {
                let offset = u64::try_from(offset).map_err(|_| StoreError::NoData)?;
                match whence {
                    libc::SEEK_DATA => ops.seek_data(ino(node), offset),
                    libc::SEEK_HOLE => ops.seek_hole(ino(node), offset),
                    _ => Err(StoreError::InvalidArgument),
                }
            });
            match found {
                // Offsets are at most 2^63 - 1.
                Ok(offset) => reply.offset(offset as i64),
                Err(errno) => reply.error(errno),
            }
        });
    }

    fn copy_file_range(
        &self,
        req: &fuser::Request,
        node_in: INodeNo,
        _fh_in: FileHandle,
        offset_in: u64,
        node_out: INodeNo,
        _fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _turn = self.turn(req);
        // The reply counts in 32 bits; a caller repeats a short copy, so cut at a page.
        const MOST: u64 = u32::MAX as u64 / PAGE_SIZE * PAGE_SIZE;
        let caller = caller(req);
        let copy = move |served: &Arc<Served>| {
            let copied = served.answer(Request::CopyFileRange, |ops| {
                let (from, to) = ((ino(node_in), offset_in), (ino(node_out), offset_out));
                ops.copy_range(caller, from, to, len.min(MOST))
            });
            match copied {
                Ok(copied) => reply.written(copied as u32),
                Err(errno) => reply.error(errno),
            }
        };
        if self.ops.is_awaited(ino(node_in)) {
            let served = Arc::clone(&self.served);
            self.later(ino(node_in), move |_| {
                let makers = Arc::clone(&served.makers);
                makers.reach(ino(node_out), move || copy(&served));
            });
        } else {
            self.when_made(node_out, copy);
        }
    }
}

fn opening(req: &fuser::Request, flags: i32) -> Opening {
    Opening {
        by: req.pid(),
        writable: flags & libc::O_ACCMODE != libc::O_RDONLY,
    }
}

/// Cached pages stay over a reopen, and closing needs no request.
fn open_flags() -> FopenFlags {
    FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH
}

fn init_flag(feature: Feature) -> InitFlags {
    match feature {
        Feature::ParallelDirops => InitFlags::FUSE_PARALLEL_DIROPS,
        Feature::CacheSymlinks => InitFlags::FUSE_CACHE_SYMLINKS,
        Feature::Readdirplus => InitFlags::FUSE_DO_READDIRPLUS,
        Feature::ReaddirplusAuto => InitFlags::FUSE_READDIRPLUS_AUTO,
        Feature::ExplicitInvalData => InitFlags::FUSE_EXPLICIT_INVAL_DATA,
        Feature::HandleKillprivV2 => InitFlags::FUSE_HANDLE_KILLPRIV_V2,
        Feature::AsyncDio => InitFlags::FUSE_ASYNC_DIO,
    }
}

fn ino(node: INodeNo) -> Ino {
    Ino(node.0)
}

fn nodeid(ino: Ino) -> INodeNo {
    INodeNo(ino.0)
}

fn caller(req: &fuser::Request) -> Caller {
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

/// An entry without an inode, which the kernel remembers as "no such name".
fn no_such_entry() -> FileAttr {
    FileAttr {
        ino: INodeNo(0),
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind: FileType::RegularFile,
        perm: 0,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 0,
        flags: 0,
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

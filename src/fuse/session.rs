//! One mount's sessions with the kernel: how they begin, which threads serve them, how they end.

use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::event::epoll::{self, CreateFlags};
use rustix::io::DupFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::dispatch::Dispatcher;
use super::fuser::{Notifier, Thread};
use super::lazy;
use super::locality::{Locality, RequestGuard, Requester, Starter};
use super::profile::ServeOptions;
use super::requests::RequestCounts;
use super::session_end::{SessionEnd, is_connected};
use crate::sys::{devices, poll};
use crate::view::View;

/// Serves the file system on an already mounted `/dev/fuse` descriptor, on a thread of its own.
///
/// Returns when the kernel's INIT has been answered: from then on the first open works.
///
/// # Errors
///
/// When the mount was gone before INIT arrived, or the kernel speaks a FUSE protocol before 7.6.
pub fn serve(device: OwnedFd, view: Arc<View>, options: ServeOptions) -> io::Result<Server> {
    keep_buffers_out_of_the_heap();
    let connection = Arc::new(Connection {
        dispatcher: Arc::new(Dispatcher::new(view, options)),
        locality: Locality::on_several_cpus(),
        first_device: device.as_raw_fd(),
        second: Mutex::default(),
    });
    let end = Arc::new(SessionEnd::new(device.as_raw_fd())?);
    let session = Session {
        device: device.as_raw_fd(),
        end: Some(Arc::clone(&end)),
        connection: Arc::clone(&connection),
    };
    let number = device.as_raw_fd();
    let thread = Thread::start(device, session, |notifier| {
        devices::add(number);
        // Before anything is served: what answers holds the device open by it.
        let invalidator = connection.dispatcher.invalidator();
        invalidator.tell_by(move |ino| notifier.inode_changed(ino));
        Ok(())
    })?;
    Ok(Server {
        thread,
        connection,
        end,
    })
}

/// A mount that is being served.
#[derive(Debug)]
pub struct Server {
    thread: Thread,
    connection: Arc<Connection>,
    end: Arc<SessionEnd>,
}

impl Server {
    /// How and when the session ends.
    pub fn end(&self) -> Arc<SessionEnd> {
        Arc::clone(&self.end)
    }

    /// Tells the kernel of changes that did not come through it.
    pub fn notifier(&self) -> Notifier {
        self.thread.notifier()
    }

    /// Makes the files that are made on demand.
    pub fn lazy(&self) -> Arc<lazy::Pool> {
        self.connection.dispatcher.lazy()
    }

    /// What the kernel asked so far.
    pub fn counts(&self) -> Arc<RequestCounts> {
        self.connection.dispatcher.counts()
    }

    /// Waits for the end for so long at most; then [`join`](Self::join) returns at once. False when it has not come.
    pub fn ends_within(&self, patience: Duration) -> bool {
        let ended = poll::wait_readable([self.end.ended()], Some(Instant::now() + patience));
        // To be refused by poll(2) is no end.
        ended.unwrap_or(false)
    }

    /// Waits until the session has ended, which it does when the mount is gone.
    ///
    /// # Errors
    ///
    /// Whatever ended the session other than the mount's end.
    pub fn join(self) -> io::Result<()> {
        let joined = self.thread.join();
        // It ends with the first, for the same reason.
        let second = self.connection.second.lock().take();
        if let Some(second) = second {
            let _ = second.thread.join();
        }
        joined
    }
}

/// What all sessions of a mount share.
#[derive(Debug)]
struct Connection {
    dispatcher: Arc<Dispatcher>,
    /// Where there are several CPUs.
    locality: Option<Locality>,
    /// The number of the first session's descriptor.
    first_device: RawFd,
    /// Lock order: held alone.
    second: Mutex<Option<SecondSession>>,
}

/// The session of the pinned worker; see [`Locality`].
#[derive(Debug)]
struct SecondSession {
    thread: Thread,
    device: RawFd,
}

/// What one thread reads and answers, by the transport.
#[derive(Debug)]
pub(super) struct Session {
    connection: Arc<Connection>,
    /// See [`Server::end`]; none for the second session.
    end: Option<Arc<SessionEnd>>,
    /// The number of the transport's descriptor, which stays open as long as `connection`, whose dispatcher holds it, or
    /// whose second session does.
    device: RawFd,
}

impl Session {
    /// What answers a request of the thread `tid`; to be kept until it has been answered, or moved to another thread.
    pub fn begin(&self, tid: u32) -> BegunRequest<'_> {
        self.begin_to_move(tid, 0)
    }

    /// As [`begin`](Self::begin), for a request that moves so many bytes.
    pub fn begin_to_move(&self, tid: u32, bytes: usize) -> BegunRequest<'_> {
        self.begun(|locality| locality.begin(Requester::new(tid, bytes), self.device(), self))
    }

    /// As [`begin`](Self::begin), for a request that has no reply.
    pub fn begin_without_reply(&self) -> BegunRequest<'_> {
        self.begun(|locality| locality.begin_without_reply(self.device()))
    }

    fn begun<'s>(
        &'s self,
        begin: impl FnOnce(&'s Locality) -> RequestGuard<'s>,
    ) -> BegunRequest<'s> {
        BegunRequest {
            dispatcher: &self.connection.dispatcher,
            _guard: self.connection.locality.as_ref().map(begin),
        }
    }

    /// To be called last, when the transport reads no more requests of this session.
    pub fn ended(&self) {
        let lost = is_connected(self.device());
        if lost {
            log::error!("the session has ended while its mount stands");
            self.hang_up();
        }
        if let Some(locality) = &self.connection.locality {
            locality.end();
        }
        devices::remove(self.device);
        // The first session ends as well when the second has.
        if let Some(end) = &self.end {
            self.connection.dispatcher.end();
            end.tell(lost);
        }
    }

    fn device(&self) -> BorrowedFd<'_> {
        // SAFETY: see the field.
        unsafe { BorrowedFd::borrow_raw(self.device) }
    }

    /// Closes the device under the threads that hold its descriptors. The kernel then ends the connection, and with it
    /// every request that waits or is to come; no thread would ever answer them.
    fn hang_up(&self) {
        // Reading from this is an error, which ends the other session.
        let nothing = epoll::create(CreateFlags::CLOEXEC);
        let second = self.connection.second.lock().as_ref().map(|it| it.device);
        for number in [self.connection.first_device].into_iter().chain(second) {
            let hung_up = nothing
                .as_ref()
                .map_err(|&errno| errno)
                .and_then(|nothing| {
                    // SAFETY: see the field. Its owner closes what the descriptor is from now on.
                    let mut device = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
                    rustix::io::dup3(nothing, &mut device, DupFlags::CLOEXEC)
                });
            if let Err(error) = hung_up {
                log::error!("cannot end the connection: {error}");
            }
        }
    }
}

/// A request that a thread of this session has in hand, and what answers it.
pub(super) struct BegunRequest<'s> {
    dispatcher: &'s Arc<Dispatcher>,
    _guard: Option<RequestGuard<'s>>,
}

impl Deref for BegunRequest<'_> {
    type Target = Arc<Dispatcher>;

    fn deref(&self) -> &Arc<Dispatcher> {
        self.dispatcher
    }
}

impl Starter for Session {
    fn start_second(&self) -> io::Result<()> {
        // Held until it is there: its thread may end at once, and looks for it then.
        let mut second = self.connection.second.lock();
        *second = Some(start_second(&self.connection, self.device())?);
        Ok(())
    }
}

/// Starts a session that serves `device` as well.
///
/// fuser 0.18 begins every session with INIT, which the kernel sends once. So the session begins on a socket, where we
/// send it, and the device takes the place of the socket afterwards. (`Config::n_threads` would not do: fuser starts
/// all threads at once, each with a buffer of 16 MiB, and does not notice when one of them ends.)
fn start_second(connection: &Arc<Connection>, device: BorrowedFd<'_>) -> io::Result<SecondSession> {
    let (domain, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let (theirs, ours) = rustix::net::socketpair(domain, kind, SocketFlags::CLOEXEC, None)?;
    rustix::io::write(&ours, &init_request())?;
    let number = theirs.as_raw_fd();
    let session = Session {
        connection: Arc::clone(connection),
        end: None,
        device: number,
    };
    let thread = Thread::start(theirs, session, |_| {
        // SAFETY: the session owns it, and has it open as long as it lives.
        let mut socket = ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(number) });
        rustix::io::dup3(device, &mut socket, DupFlags::CLOEXEC)?;
        devices::add(number);
        Ok(())
    })?;
    Ok(SecondSession {
        thread,
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

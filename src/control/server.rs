//! Answering for a mount.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags};

use super::connection::Connection;
use super::error::ControlError;
use super::protocol::{
    Answer, Command, Description, Packed, Request, Status, Unmounted, VERSION, text,
};
use super::socket_dirs::{SocketDirs, socket_name};
use crate::archive::{Format, Pack};
use crate::collect::InterruptibleWriter;
use crate::mount::MountError;
use crate::progress::Progress;
use crate::scratch::Handle;
use crate::sys::event_fd::EventFd;
use crate::sys::poll;

/// How long a caller may take to say or to take a line.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a caller is told that it has to wait.
const SAVING_EVERY: Duration = Duration::from_secs(1);
/// How often a caller is told of progress.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Callers at one time; a further one waits until one has gone.
const CALLERS_MAX: usize = 16;

/// Answers for a mount, on threads of its own, until it is [finished](Self::finish) or dropped.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    socket: PathBuf,
    /// The socket's inode: a later mount may get the number of ours, and the name with it, before we have ended.
    inode: u64,
    /// Readable when the server shall end.
    stop: EventFd,
    listening: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    mount: Handle,
    description: Description,
    since: (SystemTime, Instant),
    /// Held alone, never together with a lock of the mount's.
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    callers: usize,
    /// How it ended, once it has.
    end: Option<Result<Unmounted, String>>,
}

impl Server {
    /// Listens for callers.
    ///
    /// # Errors
    ///
    /// [`ControlError::SocketDir`] where no directory can be used, [`ControlError::Socket`].
    pub fn start(
        socket_dirs: &SocketDirs,
        mount: Handle,
        description: Description,
    ) -> Result<Self, ControlError> {
        let socket = socket_dirs.open()?.join(socket_name(&mount.device()));
        let failed = |error| ControlError::Socket {
            operation: "listen at",
            socket: socket.clone(),
            error,
        };
        // A leftover: the number is ours now, so that its mount is gone.
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let inode = fs::symlink_metadata(&socket).map_err(failed)?.ino();
        let stop = EventFd::new().map_err(failed)?;
        let mut server = Self {
            shared: Arc::new(Shared {
                mount,
                description,
                since: (SystemTime::now(), Instant::now()),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
            socket: socket.clone(),
            inode,
            stop,
            listening: None,
        };
        let (shared, stop) = (Arc::clone(&server.shared), server.stop.clone());
        let thread = thread::Builder::new().name("control".into());
        let listening = thread.spawn(move || listen(&listener, &shared, &stop));
        server.listening = Some(listening.map_err(failed)?);
        Ok(server)
    }

    /// Answers the callers that asked for the end with how it went, and stops listening.
    pub fn finish(mut self, end: Result<Unmounted, String>) {
        self.shared.state.lock().end = Some(end);
        self.shared.changed.notify_all();
        self.stop();
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock();
        while state.callers > 0
            && !self
                .shared
                .changed
                .wait_until(&mut state, deadline)
                .timed_out()
        {}
    }

    fn stop(&mut self) {
        let Some(listening) = self.listening.take() else {
            return;
        };
        // While our own is open, its inode cannot be that of a later one.
        if fs::symlink_metadata(&self.socket).is_ok_and(|there| there.ino() == self.inode) {
            let _ = fs::remove_file(&self.socket);
        }
        self.stop.set();
        let _ = listening.join();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn listen(listener: &UnixListener, shared: &Arc<Shared>, stop: &EventFd) {
    loop {
        let mut events = [
            PollFd::new(listener, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll::wait(&mut events, None) {
            Err(error) => return log::warn!("no caller can be waited for: {error}"),
            Ok(_) if !events[1].revents().is_empty() => return,
            Ok(_) => {}
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => {
                log::debug!("a caller was lost: {error}");
                // When descriptors have run out, asking again at once would not help.
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        {
            let mut state = shared.state.lock();
            // Not for ever: those who wait for the end hold a place until it comes.
            if state.callers >= CALLERS_MAX {
                shared.changed.wait_for(&mut state, Duration::from_secs(1));
            }
            state.callers += 1;
        }
        let caller = Caller(Arc::clone(shared));
        let thread = thread::Builder::new().name("control-caller".into());
        if let Err(error) = thread.spawn(move || caller.serve(stream)) {
            log::warn!("no thread for a caller: {error}");
        }
    }
}

/// One caller's place, given back at its end.
struct Caller(Arc<Shared>);

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.state.lock().callers -= 1;
        self.0.changed.notify_all();
    }
}

impl Caller {
    fn serve(self, stream: UnixStream) {
        if let Err(error) = self.try_serve(stream) {
            log::debug!("a caller went: {error}");
        }
    }

    fn try_serve(&self, stream: UnixStream) -> io::Result<()> {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        if peer.uid != rustix::process::geteuid() && !peer.uid.is_root() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Connection::new(OwnedFd::from(stream));
        while let Some((line, descriptor)) = connection.receive()? {
            let answer = match serde_json::from_slice::<Request>(&line) {
                Ok(Request { version, .. }) if version != VERSION => {
                    let message = format!("version {version} is asked for, {VERSION} is spoken");
                    Answer::error("request", message)
                }
                Ok(request) => self.0.answer(request.command, descriptor, &connection),
                Err(error) => Answer::error("request", error.to_string()),
            };
            connection.send(&answer, None)?;
        }
        Ok(())
    }
}

impl Shared {
    fn answer(
        &self,
        command: Command,
        descriptor: Option<OwnedFd>,
        connection: &Connection,
    ) -> Answer {
        match command {
            Command::Status => Answer::Status(Box::new(self.status())),
            Command::Resize { bytes, inodes } => match self.mount.resize(bytes, inodes) {
                Ok(_) => Answer::Status(Box::new(self.status())),
                Err(error) => Answer::error("below-used", error.to_string()),
            },
            Command::Snapshot { format } => match (format_of(&format), descriptor) {
                (Some(format), Some(target)) => self.snapshot(format, target, connection),
                (None, _) => Answer::error("request", format!("no format is called {format:?}")),
                (_, None) => Answer::error("request", "no descriptor came with the request"),
            },
            Command::Unmount { lazy } => self.unmount(lazy, connection),
        }
    }

    fn status(&self) -> Status {
        let usage = self.mount.usage();
        let counts = self.mount.requests();
        let mut requests: BTreeMap<String, u64> = counts
            .iter()
            .map(|(request, count)| (request.name().to_owned(), count))
            .collect();
        requests.insert("total".to_owned(), counts.total());
        let mounted_at = self.since.0.duration_since(UNIX_EPOCH);
        Status {
            path: text(&self.mount.current_path()),
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            uid: rustix::process::geteuid().as_raw(),
            notapipe: env!("CARGO_PKG_VERSION").to_owned(),
            mounted_at: mounted_at.map_or(0.0, |time| time.as_secs_f64()),
            age_seconds: self.since.1.elapsed().as_secs_f64(),
            used_bytes: usage.bytes,
            limit_bytes: usage.limits.bytes,
            used_inodes: usage.inodes,
            limit_inodes: usage.limits.inodes,
            requests,
            lost_files: self.lost_files(),
            description: self.description.clone(),
        }
    }

    fn snapshot(&self, format: Format, target: OwnedFd, connection: &Connection) -> Answer {
        let tree = self.mount.snapshot();
        let mut told = Instant::now();
        let listener = |progress: Progress| {
            if told.elapsed() < PROGRESS_EVERY {
                return ControlFlow::Continue(());
            }
            told = Instant::now();
            let Progress { files, bytes } = progress;
            // Also how we learn that nobody waits for it any more.
            match connection.send(&Answer::Progress { files, bytes }, None) {
                Ok(()) if !has_hung_up(connection) => ControlFlow::Continue(()),
                _ => ControlFlow::Break(()),
            }
        };
        let go_on = || match has_hung_up(connection) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let outlet = match InterruptibleWriter::new(target, go_on) {
            Ok(outlet) => outlet,
            Err(error) => return Answer::error("failed", error.to_string()),
        };
        match Pack::new(&tree, format).listen(listener).write(outlet) {
            Ok(packed) => Answer::Packed(Packed {
                files: packed.progress.files,
                bytes: packed.progress.bytes,
                skipped: (!packed.skipped.is_empty()).then(|| packed.skipped.to_string()),
                lost_files: self.lost_files(),
            }),
            Err(error) => Answer::error("failed", with_causes(&error)),
        }
    }

    fn lost_files(&self) -> Vec<String> {
        let files = self.mount.lost_files();
        files.iter().map(ToString::to_string).collect()
    }

    fn unmount(&self, lazy: bool, connection: &Connection) -> Answer {
        match self.mount.unmount(lazy) {
            Ok(()) => {}
            Err(error @ MountError::Busy { .. }) => {
                return Answer::error("busy", error.to_string());
            }
            Err(error) => return Answer::error("failed", error.to_string()),
        }
        if lazy {
            return Answer::Unmounted(Unmounted {
                detached: true,
                ..Unmounted::default()
            });
        }
        let mut state = self.state.lock();
        loop {
            match &state.end {
                Some(Ok(unmounted)) => return Answer::Unmounted(unmounted.clone()),
                Some(Err(message)) => return Answer::error("not-saved", message.clone()),
                None => {}
            }
            if self.changed.wait_for(&mut state, SAVING_EVERY).timed_out() {
                // A caller that has gone is noticed with the answer.
                let _ = MutexGuard::unlocked(&mut state, || connection.send(&Answer::Saving, None));
            }
        }
    }
}

fn format_of(name: &str) -> Option<Format> {
    Format::of_name(Path::new(&format!("x.{name}")))
}

fn has_hung_up(connection: &Connection) -> bool {
    poll::is_ready(connection, PollFlags::RDHUP)
}

fn with_causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    let words: Vec<_> = chain.map(ToString::to_string).collect();
    words.join(": ")
}

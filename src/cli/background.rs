//! Serving behind: the command returns when the mount is ready, and a process goes on serving.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, setsid, waitpid};

use super::exit;
use super::signals::Signals;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Fork {
    /// The one that was called, which ends when the server is ready or has failed.
    Caller(WaitForServer),
    /// The one that goes on.
    Server(ReadySignal, Signals),
}

/// The server's duty to say that the mount is ready.
#[derive(Debug)]
pub struct ReadySignal(File);

impl ReadySignal {
    /// Lets the caller return, and closes its streams: their readers must see their end.
    ///
    /// # Errors
    ///
    /// When `/dev/null` cannot be opened. A caller that is gone already is no error.
    pub fn tell(mut self) -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        let _ = self.0.write_all(b"!");
        Ok(())
    }
}

/// Splits the process in two. The server has a session of its own, out of reach of the terminal,
/// and the root as its working directory, so that it holds no other file system.
///
/// # Errors
///
/// When the system has no room for another process.
pub fn detach(signals: Signals) -> io::Result<Fork> {
    let (ours, servers) = pipe_with(PipeFlags::CLOEXEC)?;
    // One that comes meanwhile waits until each side has handlers of its own.
    let held = BlockedSignals::new();
    // SAFETY: the program has one thread at this point, so that the child finds no lock held by
    // another: nothing before this starts one (see main.rs).
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(ours);
            setsid()?;
            rustix::process::chdir("/")?;
            // Those that were installed wake their thread through a socket that both sides share now: one would
            // hear the other's.
            let own = Signals::install()?;
            drop(signals);
            drop(held);
            Ok(Fork::Server(ReadySignal(servers.into()), own))
        }
        server => {
            drop(servers);
            drop(held);
            Ok(Fork::Caller(WaitForServer {
                pipe: ours,
                server,
                signals,
            }))
        }
    }
}

/// All signals of this thread, held back until this is dropped.
struct BlockedSignals {
    before: libc::sigset_t,
}

impl BlockedSignals {
    fn new() -> Self {
        let mut all = MaybeUninit::uninit();
        let mut before = MaybeUninit::uninit();
        // SAFETY: both sets are written before they are read; neither call fails with these arguments.
        let before = unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr());
            before.assume_init()
        };
        Self { before }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // SAFETY: the set is a whole one.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &self.before, std::ptr::null_mut()) };
    }
}

/// What the caller does: the server says one byte when it is ready; the end of the pipe without it means that it has
/// failed.
#[derive(Debug)]
pub struct WaitForServer {
    pipe: OwnedFd,
    server: libc::pid_t,
    signals: Signals,
}

impl WaitForServer {
    /// Waits, and hands a signal on meanwhile: the server has left the terminal, and filling a mount may take long.
    pub fn wait(self) -> ExitCode {
        let Self {
            pipe,
            server,
            signals,
        } = self;
        let Some(server) = Pid::from_raw(server) else {
            return ExitCode::from(exit::FAILED);
        };
        let watch = signals.watch(
            || false,
            move |_signal| {
                // It is our child and not waited for yet, so that the number is its.
                let _ = kill_process(server, Signal::TERM);
            },
        );
        let mut ready = Vec::new();
        // Not interrupted by the signals that are handed on.
        let _ = File::from(pipe).take(1).read_to_end(&mut ready);
        if !ready.is_empty() {
            return ExitCode::SUCCESS;
        }
        let status = waitpid(Some(server), WaitOptions::empty()).ok().flatten();
        let code = status.and_then(|(_, status)| status.exit_status());
        // It has written to our standard error what was wrong.
        let code = code.and_then(|code| u8::try_from(code).ok());
        match watch.ok().and_then(|watch| watch.received()) {
            Some(signal) => ExitCode::from(signal.exit_code()),
            None => ExitCode::from(code.unwrap_or(exit::FAILED)),
        }
    }
}

//! Serving behind: the command returns when the mount is ready, and a process goes on serving.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, WaitOptions, setsid, waitpid};

use super::exit;

/// Which of the two processes this is.
#[derive(Debug)]
pub enum Side {
    /// The one that was called. It ends with this code: the server is ready, or has failed and said
    /// why.
    Caller(ExitCode),
    /// The one that goes on.
    Server(Ready),
}

/// The server's duty to say that the mount is ready.
#[derive(Debug)]
pub struct Ready(File);

impl Ready {
    /// Lets the caller return, and lets go of its streams: whoever reads them must see their end.
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
pub fn detach() -> io::Result<Side> {
    let (ours, servers) = pipe_with(PipeFlags::CLOEXEC)?;
    // SAFETY: the program has one thread at this point, so that the child finds no lock held by
    // another: nothing before this starts one (see main.rs).
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            drop(ours);
            setsid()?;
            rustix::process::chdir("/")?;
            Ok(Side::Server(Ready(servers.into())))
        }
        server => {
            drop(servers);
            Ok(Side::Caller(await_ready(ours, server)))
        }
    }
}

/// The server says one byte when it is ready; the end of the pipe without it means that it has
/// failed.
fn await_ready(pipe: OwnedFd, server: libc::pid_t) -> ExitCode {
    let mut byte = [0];
    if let Ok(1) = File::from(pipe).read(&mut byte) {
        return ExitCode::SUCCESS;
    }
    let status = Pid::from_raw(server)
        .and_then(|pid| waitpid(Some(pid), WaitOptions::empty()).ok().flatten());
    let code = status.and_then(|(_, status)| status.exit_status());
    // It has written to our standard error what was wrong.
    ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(exit::FAILED),
    )
}

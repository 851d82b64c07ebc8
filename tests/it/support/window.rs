//! A command on a terminal of its own, as in a window.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{Winsize, tcsetwinsize};

use super::site::{Call, Told, eventually};

pub struct Window {
    keyboard: File,
    pub call: Call,
    screen: Arc<Mutex<Vec<u8>>>,
    /// Ends when it is dropped, or the last process has closed the terminal.
    reader: Option<(JoinHandle<()>, std::io::PipeWriter)>,
    /// How much of the screen was waited for already.
    seen: usize,
}

impl Window {
    /// The command is the leader of a session, whose terminal is the window.
    pub fn open(mut command: Command) -> Self {
        let (mut ours, mut theirs) = (-1, -1);
        // SAFETY: both point to live integers; the other arguments may be null.
        let opened = unsafe {
            libc::openpty(
                &mut ours,
                &mut theirs,
                std::ptr::null_mut(),
                std::ptr::null(),
                std::ptr::null(),
            )
        };
        assert_eq!(opened, 0);
        // SAFETY: openpty(3) has just opened them, for us alone.
        let (ours, theirs) = unsafe { (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) };
        rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::CLOEXEC).unwrap();
        command
            .stdin(theirs.try_clone().unwrap())
            .stdout(theirs.try_clone().unwrap())
            .stderr(theirs);
        // SAFETY: two system calls, which need no memory and no lock.
        unsafe {
            command.pre_exec(|| {
                rustix::process::setsid()?;
                rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
                Ok(())
            });
        }
        let call = Call::start(command);
        // Else our own copies of the terminal stay open.
        let keyboard = File::from(ours);
        let screen = Arc::default();
        let reader = read(keyboard.try_clone().unwrap(), Arc::clone(&screen));
        Self {
            keyboard,
            call,
            screen,
            reader: Some(reader),
            seen: 0,
        }
    }

    pub fn type_keys(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    /// Waits until the screen shows this, after what was waited for before.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        self.seen = eventually(|| {
            let screen = self.screen.lock().unwrap();
            let new = &screen[self.seen..];
            let found = new.windows(text.len()).position(|it| it == text.as_bytes());
            let end = found.map(|at| self.seen + at + text.len());
            end.ok_or_else(|| format!("{:?} is not in {}", text, new.escape_ascii()))
        });
    }

    pub fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.keyboard, size).unwrap();
    }

    /// Waits for the end. What the screen showed is in `stdout`.
    pub fn finish(mut self) -> Told {
        let mut told = self.call.finish();
        if let Some((reader, _stop)) = self.reader.take() {
            reader.join().unwrap();
        }
        told.stdout = std::mem::take(&mut self.screen.lock().unwrap());
        told
    }

    /// Types something, and waits for the end.
    pub fn type_and_finish(mut self, keys: &[u8]) -> Told {
        self.type_keys(keys);
        self.finish()
    }

    /// Closes the window, and waits for the end.
    pub fn close(mut self) -> Told {
        if let Some((reader, stop)) = self.reader.take() {
            drop(stop);
            reader.join().unwrap();
        }
        drop(self.keyboard);
        self.call.finish()
    }
}

/// Reads the screen until its last process has closed it (EIO), or until the result's pipe is closed.
fn read(mut terminal: File, screen: Arc<Mutex<Vec<u8>>>) -> (JoinHandle<()>, std::io::PipeWriter) {
    let (stop, stopper) = std::io::pipe().unwrap();
    let work = move || {
        let mut block = [0; 4096];
        loop {
            let mut events = [terminal.as_fd(), stop.as_fd()]
                .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
            let forever: Option<&Timespec> = None;
            let _ = poll(&mut events, forever);
            let [shows, stopped] = events.map(|event| !event.revents().is_empty());
            if stopped && !shows {
                return;
            }
            match terminal.read(&mut block) {
                Ok(len) if len > 0 => screen.lock().unwrap().extend(&block[..len]),
                _ => return,
            }
        }
    };
    (thread::spawn(work), stopper)
}

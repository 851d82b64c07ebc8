//! How far long work has come, on a terminal; nothing anywhere else.

use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use notapipe::text::shown;
use notapipe::{Interrupt, Progress};

use super::config::Verbosity;
use super::figures::{bytes, count};

/// Work that takes less is not worth a line.
const FIRST_AFTER: Duration = Duration::from_millis(400);
const EVERY: Duration = Duration::from_millis(100);

/// One line that tells of work under way. Dropped, it is wiped off.
#[derive(Debug)]
pub struct Line {
    what: String,
    shown: bool,
    next: Option<Instant>,
    began: Instant,
}

impl Line {
    /// For work that is called `what`, such as `filling /mnt`.
    pub fn new(what: impl Into<String>, verbosity: Verbosity) -> Self {
        let wanted = verbosity >= Verbosity::Normal && io::stderr().is_terminal();
        let now = Instant::now();
        Self {
            what: shown(&what.into()).to_string(),
            shown: false,
            next: wanted.then_some(now + FIRST_AFTER),
            began: now,
        }
    }

    /// Shows how far it is, if it is time.
    pub fn show(&mut self, progress: Progress) {
        let now = Instant::now();
        let Some(next) = self.next.filter(|&next| now >= next) else {
            return;
        };
        self.next = Some(next.max(now) + EVERY);
        self.shown = true;
        let rate = progress.bytes as f64 / self.began.elapsed().as_secs_f64();
        // A terminal that is gone is no failure.
        let _ = write!(
            io::stderr(),
            "\r\x1b[K{}: {} files, {}, {}/s",
            self.what,
            count(progress.files),
            bytes(progress.bytes),
            bytes(rate as u64)
        );
    }

    /// A listener that shows this, and gives up when `interrupt` is raised.
    pub fn listener(
        mut self,
        interrupt: Interrupt,
    ) -> impl FnMut(Progress) -> ControlFlow<()> + Send {
        move |progress| {
            self.show(progress);
            if interrupt.is_raised() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

//! What happens in a job's mount, told to the caller.

use std::os::fd::AsFd;
use std::thread::{self, JoinHandle};

use super::error::Error;
use super::process::Interrupt;
use crate::scratch::Watch;
use crate::sys::poll;
use crate::text::panic_message;
use crate::view::Event;

/// Of [`Job::on_event`](super::Job::on_event).
pub(super) type EventListener = Box<dyn FnMut(Event) + Send>;

/// A thread that tells a listener of events.
pub(super) struct Telling {
    /// Raised when no more events come.
    over: Interrupt,
    thread: JoinHandle<()>,
}

impl Telling {
    pub fn start(watch: Watch, listener: EventListener) -> Result<Self, Error> {
        let failed = |source| Error::Processes {
            operation: "watch the files of",
            source,
        };
        let over = Interrupt::new().map_err(failed)?;
        let thread = thread::Builder::new().name("notapipe-events".to_owned());
        let thread = {
            let over = over.clone();
            thread.spawn(move || tell(watch, listener, &over))
        };
        let thread = thread.map_err(failed)?;
        Ok(Self { over, thread })
    }

    /// Waits until all events so far were told.
    pub fn finish(self) -> Result<(), Error> {
        self.over.raise();
        self.thread.join().map_err(|panic| Error::Panicked {
            message: panic_message(&*panic),
        })
    }
}

fn tell(mut watch: Watch, mut listener: EventListener, over: &Interrupt) {
    loop {
        // Asked first: what came before is then still told.
        let is_over = over.is_raised();
        while let Some(event) = watch.try_next() {
            listener(event);
        }
        if is_over || watch.has_ended() {
            return;
        }
        // poll(2) fails for want of kernel memory alone; to try again is all that can be done.
        let _ = poll::wait_readable([watch.as_fd(), over.as_fd()], None);
    }
}

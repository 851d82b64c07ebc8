//! Whether another process has a copy of our descriptors.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::PollFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use super::poll;

/// A pipe whose both ends are ours. A child that was forked since has copies of them as of all descriptors, and keeps
/// the pipe from ending until it executes a program.
#[derive(Debug)]
pub(crate) struct CopyDetector {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl CopyDetector {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        Ok(Self { reader, writer })
    }

    /// Whether no other process has what was opened before this detector. At most a child that is forked in this
    /// moment may go unseen.
    pub(crate) fn found_no_copy(self) -> bool {
        let Self { reader, writer } = self;
        drop(writer);
        poll::is_ready(reader, PollFlags::IN)
    }
}

#[cfg(test)]
mod tests {
    use super::CopyDetector;

    #[test]
    fn who_has_a_copy_is_seen() {
        assert!(CopyDetector::new().unwrap().found_no_copy());
        let detector = CopyDetector::new().unwrap();
        let copy = detector.writer.try_clone().unwrap();
        assert!(!detector.found_no_copy());
        drop(copy);
    }
}

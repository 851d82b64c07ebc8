//! Results are whole: when the steps have ended, whoever still writes has a while to finish.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::error::Error;
use super::pipeline::Bounds;
use super::process::{Processes, Writer};
use crate::sys::poll;

/// How long writers have unless somebody says otherwise.
pub(super) const DEFAULT: Duration = Duration::from_secs(10);
/// How often it is looked whether they still write.
const LOOK: Duration = Duration::from_millis(10);

/// Waits until nobody in the job has a file of the mount open for writing, or mapped so.
///
/// Nothing tells when a process closes a file (in the fast profile even we are not told), so `/proc`
/// is asked again and again: only jobs that leave processes behind come here.
pub(super) fn settle(
    processes: &Processes,
    patience: Duration,
    bounds: Bounds<'_>,
    program: OsString,
    has_name: &dyn Fn(u64) -> bool,
) -> Result<(), Error> {
    let began = Instant::now();
    loop {
        let writer = processes.writer(has_name).map_err(failed)?;
        let Some(Writer { process, file }) = writer else {
            return Ok(());
        };
        if bounds.is_interrupted() {
            return Err(Error::Cancelled);
        }
        bounds.check_session(processes)?;
        processes.check_limits()?;
        bounds.check_files()?;
        if bounds.is_late() {
            return Err(bounds.timeout(program));
        }
        if began.elapsed() >= patience {
            return Err(match file {
                Some(file) => Error::StillWritten {
                    file,
                    process,
                    patience,
                },
                None => Error::NotLookedAt { process, patience },
            });
        }
        sleep(bounds).map_err(failed)?;
    }
}

fn failed(source: io::Error) -> Error {
    Error::Processes {
        operation: "look at",
        source,
    }
}

/// For a moment, or until the job is to end.
fn sleep(bounds: Bounds<'_>) -> io::Result<()> {
    let interrupt = bounds.interrupt.map(AsFd::as_fd);
    poll::wait_readable(interrupt, Some(Instant::now() + LOOK)).map(drop)
}

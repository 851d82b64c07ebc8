//! The clock that Linux file systems stamp times with.

use rustix::time::{ClockId, clock_gettime};

/// Seconds and nanoseconds since the epoch, as of the last tick of the kernel.
///
/// A precise clock is some milliseconds ahead of it, so that a file that is written later on another file system would
/// look older: make and ninja then build again, or do not (`current_time`, fs/inode.c).
pub(crate) fn file_time() -> (i64, u32) {
    let time = clock_gettime(ClockId::RealtimeCoarse);
    (time.tv_sec, time.tv_nsec as u32)
}

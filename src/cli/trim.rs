//! Giving memory back to the system when a mount was emptied.

use notapipe::store::Usage;

/// Less is not worth the walk over the heap.
const FEWER_INODES: u64 = 4096;

/// Watches what a mount holds. What the store needs for each file lies in the C library's heap, which keeps what is freed:
/// about 300 bytes a file (glibc 2.36), so that a process that held a million files once would stay large for ever.
#[derive(Debug, Default)]
pub struct Trim {
    most_inodes: u64,
}

impl Trim {
    /// Looks; trims when there are less than half of the inodes that there were since the last time.
    pub fn look(&mut self, usage: Usage) {
        if usage.inodes < self.most_inodes / 2 && self.most_inodes - usage.inodes >= FEWER_INODES {
            self.most_inodes = usage.inodes;
            give_back();
        }
        self.most_inodes = self.most_inodes.max(usage.inodes);
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: malloc_trim(3) may be called at any time, from any thread.
    let trimmed = unsafe { libc::malloc_trim(0) };
    log::debug!("malloc_trim: {trimmed}");
}

#[cfg(not(target_env = "gnu"))]
fn give_back() {}

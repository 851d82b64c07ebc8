//! Locks, flags and waits of threads.
//!
//! Those of parking_lot, std and the kernel. In tests built by `scripts/interleavings.sh` they are Shuttle's, which decides
//! at each of them which thread goes on, and so comes to orders that a machine hardly ever comes to.

#[cfg(all(test, shuttle))]
pub(crate) use self::interleaved::{
    AtomicBool, Mutex, MutexGuard, interleave, poll, read, thread, write,
};
#[cfg(not(all(test, shuttle)))]
pub(crate) use {
    parking_lot::{Mutex, MutexGuard},
    rustix::event::poll,
    rustix::io::{read, write},
    std::sync::atomic::AtomicBool,
    std::thread,
};

#[cfg(all(test, shuttle))]
mod interleaved {
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    use rustix::event::{PollFd, Timespec};
    pub(crate) use shuttle::sync::atomic::AtomicBool;
    pub(crate) use shuttle::thread;
    pub(crate) use shuttle_parking_lot::{Mutex, MutexGuard};

    /// In how many orders a test runs, of each of two kinds.
    const ORDERS: usize = 1_000;
    /// How many switches at the wrong moment a bug may need.
    const SWITCHES: usize = 3;

    /// Runs `test` in one order after another: any ones, then those that differ little from one thread after the other
    /// ("A randomized scheduler with probabilistic guarantees of finding bugs", ASPLOS 2010). Fails when one fails, or
    /// when no thread can go on; what is printed then is for `shuttle::replay`.
    pub(crate) fn interleave(test: impl Fn() + Copy + Send + Sync + 'static) {
        shuttle::check_random(test, ORDERS);
        shuttle::check_pct(test, ORDERS, SWITCHES);
    }

    /// As read(2), and another thread may go on before it.
    pub(crate) fn read(descriptor: impl AsFd, buffer: &mut [u8]) -> rustix::io::Result<usize> {
        switch();
        rustix::io::read(descriptor, buffer)
    }

    /// As write(2), and another thread may go on before it.
    pub(crate) fn write(descriptor: impl AsFd, bytes: &[u8]) -> rustix::io::Result<usize> {
        switch();
        rustix::io::write(descriptor, bytes)
    }

    fn switch() {
        AtomicBool::new(false).load(Ordering::SeqCst);
    }

    /// As poll(2) without a timeout; the other threads go on meanwhile.
    pub(crate) fn poll(
        events: &mut [PollFd<'_>],
        _timeout: Option<&Timespec>,
    ) -> rustix::io::Result<usize> {
        let now = Timespec::default();
        loop {
            match rustix::event::poll(events, Some(&now))? {
                0 => thread::yield_now(),
                ready => return Ok(ready),
            }
        }
    }
}

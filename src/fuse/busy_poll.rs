//! Polling a moment for the next request before going to sleep, as KVM does before it halts a CPU.
//!
//! A process that works through files asks again as soon as it has its answer. A serving thread that sleeps in
//! between must be woken for every request, on another CPU as a rule, and that costs more than the request:
//! with two virtual CPUs, 20 to 80 µs. Polling takes one of the two wake-ups of each request away. Measured
//! there on Linux 6.18, unpinned, without and with it: unpacking 3,000 files 1,070 and 310 ms, a git clone of as
//! many 2,150 and 1,000 ms, 3,000 writes of 512 bytes 172 and 54 ms; a build by make, and a job on one CPU, were the
//! same with and without. Where one thread asks alone, `locality` takes both away.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::locality::Requester;
use crate::sys::poll;

/// How long the next request is polled for. Twice as long was no better.
const WINDOW: Duration = Duration::from_micros(50);
/// A request that comes so soon after the last reply, the time to wake up included, follows it.
const SOON: Duration = Duration::from_micros(100);
/// How many requests must have followed each other before the next one is polled for. Compilers ask a little and
/// then compute: with a poll after every request, backing off where it found nothing, a build by make took a tenth
/// longer in one of two measurements; so it takes no longer.
pub(super) const STREAK: u32 = 8;
const SOON_ENOUGH: Duration = Duration::from_millis(100);

/// Whether there is a request to read now. The mount's end counts as one: the next read then says it.
pub(super) fn is_request_there(device: BorrowedFd<'_>) -> bool {
    poll::events_now(device, PollFlags::IN).map_or(true, |events| !events.is_empty())
}

/// Sleeps until there is a request, but not long: the device may have been replaced.
pub(super) fn is_request_there_soon(device: BorrowedFd<'_>) -> bool {
    let mut device = [PollFd::from_borrowed_fd(device, PollFlags::IN)];
    poll::wait(&mut device, Some(Instant::now() + SOON_ENOUGH)).unwrap_or(true)
}

/// Polls for a request, for a moment after a reply. False when none came.
pub(super) fn poll_from(replied: Instant, device: BorrowedFd<'_>) -> bool {
    while !is_request_there(device) {
        if replied.elapsed() >= WINDOW {
            return false;
        }
        // The process that was answered may be waiting for this very CPU.
        std::thread::yield_now();
    }
    true
}

/// Whether requests follow each other.
#[derive(Debug, Default)]
pub(super) struct RequestPace {
    replied: Option<Instant>,
    /// How many have come soon after the reply before them, without one that did not.
    streak: u32,
    /// How many of the last of them came of the same thread, and moved little.
    of_one: u32,
    requester: u32,
}

impl RequestPace {
    pub fn asked(&mut self, requester: Requester, now: Instant) {
        let followed = self
            .replied
            .is_some_and(|replied| now.saturating_duration_since(replied) <= SOON);
        let is_the_same = self.requester == requester.tid && !requester.moves_much;
        self.requester = requester.tid;
        let counted = |so_far: u32, goes_on: bool| match goes_on {
            true => so_far.saturating_add(1),
            false => 0,
        };
        self.streak = counted(self.streak, followed);
        self.of_one = counted(self.of_one, followed && is_the_same);
    }

    pub fn replied(&mut self, now: Instant) {
        self.replied = Some(now);
    }

    pub fn streak(&self) -> u32 {
        self.streak
    }

    pub fn of_one(&self) -> u32 {
        self.of_one
    }

    /// The thread that asked last.
    pub fn requester(&self) -> u32 {
        self.requester
    }

    /// Polled in vain: the next streak begins anew.
    pub fn missed(&mut self) {
        self.streak = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    const ONE: Requester = Requester {
        tid: 1,
        moves_much: false,
    };

    /// The pace after so many requests, each so long after the reply before it.
    fn asked(
        pace: &mut RequestPace,
        now: &mut Instant,
        requester: Requester,
        requests: u32,
        gap: Duration,
    ) {
        for _ in 0..requests {
            *now += gap;
            pace.asked(requester, *now);
            pace.replied(*now);
        }
    }

    #[test]
    fn requests_that_follow_each_other_are_a_streak_and_others_are_not() {
        let (mut pace, mut now) = (RequestPace::default(), Instant::now());
        asked(&mut pace, &mut now, ONE, 100, SOON * 2);
        assert_eq!(pace.streak(), 0);
        asked(&mut pace, &mut now, ONE, 100, SOON);
        assert_eq!((pace.streak(), pace.of_one()), (100, 100));
        // One that comes late begins anew, and so does one that was polled for in vain.
        asked(&mut pace, &mut now, ONE, 1, SOON * 2);
        assert_eq!((pace.streak(), pace.of_one()), (0, 0));
        asked(&mut pace, &mut now, ONE, 1, SOON);
        pace.missed();
        assert_eq!(pace.streak(), 0);
    }

    #[test]
    fn a_streak_is_of_one_only_while_one_asks_for_little() {
        let (mut pace, mut now) = (RequestPace::default(), Instant::now());
        let other = Requester { tid: 2, ..ONE };
        let much = Requester {
            moves_much: true,
            ..ONE
        };
        asked(&mut pace, &mut now, ONE, 10, SOON);
        asked(&mut pace, &mut now, other, 1, SOON);
        assert_eq!((pace.of_one(), pace.requester()), (0, 2));
        asked(&mut pace, &mut now, other, 3, SOON);
        assert_eq!(pace.of_one(), 3);
        asked(&mut pace, &mut now, ONE, 3, SOON);
        asked(&mut pace, &mut now, much, 1, SOON);
        assert_eq!((pace.streak(), pace.of_one()), (17, 0));
    }

    #[test]
    fn a_request_ends_the_poll_and_none_does_not_prolong_it() -> std::io::Result<()> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        assert!(!poll_from(Instant::now(), reader.as_fd()));
        rustix::io::write(&writer, b"request")?;
        assert!(poll_from(Instant::now(), reader.as_fd()));
        Ok(())
    }
}

//! SIGINT, SIGTERM and SIGHUP end what runs, in two phases so that none is lost.
//!
//! [`Signals::install`] comes first of all, before there are threads, namespaces or mounts: from
//! then on a signal is kept and no longer kills. [`Signals::watch`] starts a thread that hands kept
//! and coming signals to a callback which ends the job. The types leave no other order.

use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook::iterator::{Handle, SignalsInfo};
use signal_hook::low_level::siginfo::Cause;
use signal_hook::low_level::{emulate_default_handler, signal_name};

use super::exit;

/// A second signal later than this kills at once. Before, it belongs to the first: a terminal that
/// goes away sends several.
const PATIENCE: Duration = Duration::from_secs(1);

/// A signal that asks us to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(i32);

impl Signal {
    /// 128 and the signal's number.
    pub fn exit_code(self) -> u8 {
        exit::SIGNAL + self.0 as u8
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// Phase one: signals are kept.
#[derive(Debug)]
pub struct Signals(SignalsInfo<WithOrigin>);

/// Has the ends of children told to us, and no signal held back, whatever our own caller ignores or holds back; the
/// tools get that from [`crate::inherited_signals`]. Before there are threads.
pub fn take_back() {
    // SAFETY: no handler, and a set that was made before it is used.
    unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

impl Signals {
    /// Catches the signals, apart from those that our parent has us ignore (nohup). Makes no thread.
    ///
    /// # Errors
    ///
    /// When no handler can be installed or no descriptors are left.
    pub fn install() -> io::Result<Self> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status").unwrap_or_default());
        let wanted = [SIGINT, SIGTERM, SIGHUP];
        let caught = wanted
            .iter()
            .filter(|&&signal| ignored & (1 << (signal - 1)) == 0);
        SignalsInfo::new(caught).map(Self)
    }

    /// Phase two: hands the first signal to `cancel`, on a thread of its own, also when it came
    /// before this call. A further one, after a second, ends this process as if it were not caught.
    ///
    /// A Ctrl-C that a terminal sent while `a_tool_has_it` is left to the tool, which has got it too:
    /// an interpreter goes on, and with most others the job ends because they do.
    ///
    /// Keep the result until the process ends: afterwards the signals do nothing at all.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn watch(
        self,
        a_tool_has_it: impl Fn() -> bool + Send + 'static,
        cancel: impl FnOnce(Signal) + Send + 'static,
    ) -> io::Result<Watch> {
        let Self(mut caught) = self;
        let handle = caught.handle();
        let first = Arc::new(AtomicI32::new(0));
        let seen = Arc::clone(&first);
        let thread = std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                let mut cancel = Some(cancel);
                let mut since = Instant::now();
                for origin in caught.forever() {
                    let signal = origin.signal;
                    let from_terminal = signal == SIGINT && matches!(origin.cause, Cause::Kernel);
                    if from_terminal && a_tool_has_it() {
                        continue;
                    }
                    if let Some(cancel) = cancel.take() {
                        seen.store(signal, Ordering::SeqCst);
                        since = Instant::now();
                        cancel(Signal(signal));
                    } else if since.elapsed() >= PATIENCE {
                        let _ = emulate_default_handler(signal);
                    }
                }
            })?;
        Ok(Watch {
            handle,
            first,
            thread: Some(thread),
        })
    }
}

/// Signals are handed on until this is dropped.
#[derive(Debug)]
pub struct Watch {
    handle: Handle,
    first: Arc<AtomicI32>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// The signal that was handed to the callback, if there was one.
    pub fn received(&self) -> Option<Signal> {
        match self.first.load(Ordering::SeqCst) {
            0 => None,
            signal => Some(Signal(signal)),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A callback that panicked has said so already.
            let _ = thread.join();
        }
    }
}

/// The mask of ignored signals, from /proc/self/status (proc_pid_status(5)); bit 0 is signal 1.
fn ignored(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_mask_is_read() {
        assert_eq!(
            ignored("Name:\tx\nSigBlk:\t0\nSigIgn:\t0000000000001001\n"),
            0x1001
        );
        assert_eq!(ignored(""), 0);
    }

    #[test]
    fn a_signal_between_the_phases_is_handed_on() {
        let signals = Signals::install().unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        let (told, hear) = mpsc::channel();
        let watch = signals
            .watch(|| false, move |signal| told.send(signal).unwrap())
            .unwrap();
        let signal = hear.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(signal, Signal(SIGHUP));
        assert_eq!(signal.exit_code(), 129);
        assert_eq!(signal.to_string(), "SIGHUP");
        assert_eq!(watch.received(), Some(signal));
    }
}

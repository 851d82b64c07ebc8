//! A program under a process of ours that keeps what it starts together, where there is no PID namespace for it.
//!
//! That process is the subreaper of everything below it (PR_SET_CHILD_SUBREAPER(2const)): what loses its parent becomes a
//! child of it. It ends when the program and all of these have ended, or else kills them when it is told to, and when we
//! have ended, however that was. It shares our memory, and a thread waits for it, whose thread-local storage it has
//! meanwhile ([`vfork`]); so it makes system calls alone. When that thread ends, so has our process, or it executes
//! another program: the kernel then sends the subreaper a signal (PR_SET_PDEATHSIG(2const)).

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::SocketType;
use rustix::process::{Pid, Signal, kill_process};

use super::child::{Child, End, wait_any};
use super::launch::{Failure, Launch, LaunchError, Prepared, Stage};
use super::namespaces::Namespaces;
use super::vfork::{Newborn, close_all_but, vfork};
use super::{poll, signals, socket};

/// Tells a subreaper to kill everything and end: a real-time signal, which no terminal sends.
// SAFETY: not one of those that the C library has for itself, which are the first of these.
const END: Signal = unsafe { Signal::from_raw_unchecked(64) };
/// How long what was killed is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often what came meanwhile is killed.
const ROUND: Duration = Duration::from_millis(5);

/// What the subreaper says, in packets of one byte. End of file instead means that it was killed, and the program with it.
const STARTED: u8 = b'S';
const FAILED: u8 = b'F';
const ENDED: u8 = b'E';

/// A program that was started under a subreaper of its own.
#[derive(Debug)]
pub(crate) struct Subreaped {
    slot: Arc<Slot>,
    /// Where the subreaper tells of the program.
    report: OwnedFd,
    /// The program's process, once it is known.
    program: Option<OwnedFd>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastWord {
    pub(crate) end: End,
    pub(crate) at: Instant,
}

/// What the subreaper leaves for us: written before it says so, and read after.
#[derive(Debug)]
struct Slot {
    /// Until the subreaper is about to be collected, and its number to be another's. Lock order: held alone.
    lives: Mutex<bool>,
    ended: Condvar,
    /// The numbers of the subreaper and of the program; 0 until they are there.
    subreaper: AtomicI32,
    program: AtomicI32,
    /// Whether nothing was left below the subreaper when the program had ended.
    is_over: AtomicBool,
    failure: UnsafeCell<Option<Failure>>,
    last_word: UnsafeCell<Option<LastWord>>,
}

// SAFETY: the cells are written once each, by the subreaper alone, before the packet whose receipt lets us read them.
unsafe impl Sync for Slot {}

/// What is handed to the thread, and stays where it is until the program is started or was killed.
struct Work {
    launch: *const Launch<'static>,
    prepared: *mut Prepared,
    namespaces: Option<*const Namespaces>,
    slot: Arc<Slot>,
    report: OwnedFd,
}

// SAFETY: see `start`: what the pointers lead to outlives their use.
unsafe impl Send for Work {}

impl Subreaped {
    /// Starts a program in these namespaces, if any. `wait` waits for a packet on the descriptor that it is given, which
    /// may never come where the program lies on a file system that does not answer. If it does not wait for that, it must
    /// have killed the program, whose number it can ask for.
    ///
    /// # Errors
    /// Why the program was not started; and what there is of it, where that was not waited for.
    pub(crate) fn start(
        launch: &Launch<'_>,
        namespaces: Option<&Namespaces>,
        wait: impl FnOnce(&Self) -> io::Result<()>,
    ) -> Result<Self, (LaunchError, Option<Self>)> {
        let failed = |error| (LaunchError::new(Stage::Start, error), None);
        let (report, theirs) = socket::pair(SocketType::SEQPACKET).map_err(failed)?;
        let mut prepared = Prepared::new(launch).map_err(|error| (error, None))?;
        let slot = Arc::new(Slot::new());
        let work = Work {
            launch: ptr::from_ref(launch).cast(),
            prepared: &raw mut prepared,
            namespaces: namespaces.map(ptr::from_ref),
            slot: Arc::clone(&slot),
            report: theirs,
        };
        let thread = std::thread::Builder::new().name("subreaper".to_owned());
        // The program is started, has failed, or was killed before this returns, and none of them uses `launch` any more.
        thread.spawn(move || work.run()).map_err(failed)?;
        let mut started = Self {
            slot,
            report,
            program: None,
        };
        let waited = wait(&started);
        if waited.is_err() && !poll::is_ready(&started.report, PollFlags::IN) {
            let error = waited
                .err()
                .unwrap_or_else(|| io::ErrorKind::TimedOut.into());
            return Err((LaunchError::new(Stage::Start, error), Some(started)));
        }
        let left = |error, started: Self| {
            started.end();
            Err((LaunchError::new(Stage::Start, error), Some(started)))
        };
        match (socket::receive(started.report.as_fd()), waited) {
            // For want of a descriptor for the program's process, most often.
            (Err(error), _) => left(error, started),
            (Ok(Some((said, descriptors))), waited) if said == [STARTED] => {
                started.program = descriptors.into_iter().next();
                match waited {
                    Ok(()) => Ok(started),
                    Err(error) => left(error, started),
                }
            }
            (Ok(Some((said, _))), _) if said == [FAILED] => {
                // SAFETY: it was written before this was said.
                let failure = unsafe { *started.slot.failure.get() };
                let lost = || LaunchError::new(Stage::Start, io::ErrorKind::InvalidData.into());
                Err((failure.map_or_else(lost, LaunchError::from), None))
            }
            _ => Err(failed(io::Error::other(
                "the process that starts it has ended",
            ))),
        }
    }

    /// The number of the program's process, once there is one.
    pub(crate) fn pid(&self) -> Option<i32> {
        number(&self.slot.program)
    }

    /// The number of the subreaper, from which all descends, once there is one.
    pub(crate) fn subreaper(&self) -> Option<i32> {
        number(&self.slot.subreaper)
    }

    /// The program's process.
    pub(crate) fn process(&self) -> Option<BorrowedFd<'_>> {
        self.program.as_ref().map(AsFd::as_fd)
    }

    /// Whether the program is known to have ended after everything that it started.
    pub(crate) fn is_over(&self) -> bool {
        self.slot.is_over.load(Ordering::Acquire)
    }

    /// Waits for the program's end, which must have come or be coming; nothing when it was killed with its subreaper.
    pub(crate) fn receive(&self) -> io::Result<Option<LastWord>> {
        Ok(match socket::receive(self.report.as_fd())? {
            // SAFETY: it was written before this was said.
            Some((said, _)) if said == [ENDED] => unsafe { *self.slot.last_word.get() },
            _ => None,
        })
    }

    /// Has everything killed.
    pub(crate) fn end(&self) {
        let lives = self.slot.lives.lock();
        if *lives && let Some(subreaper) = self.subreaper().and_then(Pid::from_raw) {
            let _ = kill_process(subreaper, END);
        }
    }

    /// Whether the subreaper has ended, and all that was left below it, unless it was killed itself.
    pub(crate) fn has_ended_by(&self, deadline: Instant) -> bool {
        let mut lives = self.slot.lives.lock();
        while *lives {
            if self.slot.ended.wait_until(&mut lives, deadline).timed_out() {
                break;
            }
        }
        !*lives
    }
}

fn number(of: &AtomicI32) -> Option<i32> {
    Some(of.load(Ordering::Acquire)).filter(|&number| number > 0)
}

impl AsFd for Subreaped {
    /// Readable when the program has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Work {
    /// In the thread.
    fn run(self) {
        // SAFETY: they outlive the start of the program, and are not used after it; a program that was killed before makes
        // no call but the one that it waits for.
        let (launch, prepared) = unsafe { (&*self.launch, &mut *self.prepared) };
        // SAFETY: as above.
        let namespaces = self.namespaces.map(|it| unsafe { &*it });
        // SAFETY: these are open until then.
        let streams = prepared
            .stdio
            .each_ref()
            .map(|it| unsafe { BorrowedFd::borrow_raw(it.as_raw_fd()) });
        let [stdin, stdout, stderr] = streams.map(Some);
        let slot = &*self.slot;
        let parent = rustix::process::getpid();
        let program = || {
            let number = rustix::process::getpid().as_raw_pid();
            slot.program.store(number, Ordering::Release);
            slot.fail(launch.become_program(prepared));
            127
        };
        let report = self.report.as_fd();
        let refused = |error: io::Error| {
            slot.fail(Failure::of(Stage::Start, &error));
            let _ = socket::send(report, &[FAILED], &[]);
        };
        let mut newborn = match Newborn::new(program) {
            Ok(newborn) => newborn,
            Err(error) => return refused(error),
        };
        let subreaper = || {
            let entered = namespaces.map_or(Ok(()), |it| it.enter(None).map_err(Failure::from));
            // Whatever else we have may be what others wait for to be closed, or the program itself.
            close_all_but(&[Some(report), stdin, stdout, stderr, launch.group]);
            let started = entered.and_then(|()| slot.begin(parent)).and_then(|()| {
                // SAFETY: system calls alone, and we wait meanwhile.
                unsafe { newborn.start(libc::CLONE_VFORK) }
                    .map_err(|error| Failure::of(Stage::Start, &error))
            });
            match started {
                Ok(program) => slot.serve(report, &program),
                Err(failure) => {
                    slot.fail(failure);
                    let _ = socket::send(report, &[FAILED], &[]);
                }
            }
            0
        };
        // SAFETY: system calls alone.
        let subreaper = unsafe { vfork(0, subreaper) };
        *slot.lives.lock() = false;
        slot.ended.notify_all();
        match subreaper {
            Ok(subreaper) => drop(subreaper.wait()),
            Err(error) => refused(error),
        }
    }
}

impl Slot {
    fn new() -> Self {
        Self {
            lives: Mutex::new(true),
            ended: Condvar::new(),
            subreaper: AtomicI32::new(0),
            program: AtomicI32::new(0),
            is_over: AtomicBool::new(false),
            failure: UnsafeCell::new(None),
            last_word: UnsafeCell::new(None),
        }
    }
}

/// What the subreaper does: system calls, and no allocation.
impl Slot {
    fn fail(&self, failure: Failure) {
        // SAFETY: one process writes it, and it is read once that has been told.
        unsafe { *self.failure.get() = Some(failure) };
    }

    /// In the namespaces: entering those of a user takes the signal back.
    fn begin(&self, parent: Pid) -> Result<(), Failure> {
        let ourselves = rustix::process::getpid();
        self.subreaper
            .store(ourselves.as_raw_pid(), Ordering::Release);
        rustix::process::set_child_subreaper(Some(ourselves))
            .and_then(|()| rustix::process::set_parent_process_death_signal(Some(END)))
            .map_err(|errno| Failure::new(Stage::Start, errno))?;
        // SAFETY: this process has a table of signal actions of its own.
        unsafe { signals::expect_children() };
        match rustix::process::getppid() == Some(parent) {
            true => Ok(()),
            // It has ended before.
            false => Err(Failure::new(Stage::Start, Errno::SRCH)),
        }
    }

    /// Until nothing is left below it.
    fn serve(&self, report: BorrowedFd<'_>, program: &Child) {
        program.disown();
        // SAFETY: one process writes it, and it is read once this has been told.
        if unsafe { (*self.failure.get()).is_some() } {
            let _ = program.wait();
            let _ = socket::send(report, &[FAILED], &[]);
            return;
        }
        let told = socket::send(report, &[STARTED], &[program.as_fd()]);
        if told.is_err() {
            return self.kill_all(report, program.pid());
        }
        close_all_but(&[Some(report)]);
        loop {
            match signals::wait_for(&[Signal::CHILD, END], None) {
                Some(END) => return self.kill_all(report, program.pid()),
                Some(_) if !self.collect(report, program.pid()) => return,
                _ => {}
            }
        }
    }

    /// Collects whatever has ended. False when nothing is left below.
    fn collect(&self, report: BorrowedFd<'_>, program: i32) -> bool {
        let mut program_ended = None;
        let is_left = loop {
            match wait_any() {
                Ok(Some((pid, end))) if pid == program => program_ended = Some(end),
                Ok(Some(_)) => {}
                Ok(None) => break true,
                Err(error) => break error.raw_os_error() != Some(libc::ECHILD),
            }
        };
        if let Some(end) = program_ended {
            let last_word = LastWord {
                end,
                at: Instant::now(),
            };
            self.is_over.store(!is_left, Ordering::Release);
            // SAFETY: one process writes it, and it is read once this has been told.
            unsafe { *self.last_word.get() = Some(last_word) };
            let _ = socket::send(report, &[ENDED], &[]);
        }
        is_left
    }

    /// Kills the children, and those that become children by that, until there are none.
    fn kill_all(&self, report: BorrowedFd<'_>, program: i32) {
        let give_up = Instant::now() + PATIENCE;
        while self.collect(report, program) && Instant::now() < give_up {
            kill_children(program);
            signals::wait_for(&[Signal::CHILD], Some(ROUND));
        }
    }
}

/// As /proc lists them (proc_pid_children(5)); the program alone on a kernel that has no such file.
fn kill_children(program: i32) {
    let mut text = [0_u8; 4096];
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let length = rustix::fs::open(c"/proc/thread-self/children", flags, Mode::empty())
        .and_then(|file| rustix::io::read(&file, &mut text));
    let Ok(length) = length else {
        return kill(program);
    };
    let mut number = 0_i32;
    for &byte in text.iter().take(length) {
        match byte {
            b'0'..=b'9' => number = number.wrapping_mul(10).wrapping_add(i32::from(byte - b'0')),
            _ => {
                kill(number);
                number = 0;
            }
        }
    }
}

/// A child that was not collected: nobody else has its number.
fn kill(number: i32) {
    if number > 0
        && let Some(number) = Pid::from_raw(number)
    {
        let _ = kill_process(number, Signal::KILL);
    }
}

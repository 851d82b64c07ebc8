//! Locality: serving on the CPU of the tool that asks, without binding the tool to it.
//!
//! A request whose serving thread runs on another CPU costs two wake-ups of a CPU that has gone to sleep meanwhile: 20 to
//! 80 µs where 5 would do. The scheduler brings this about by itself (`select_idle_sibling`, kernel/sched/fair.c):
//! a thread that is woken goes to an idle CPU, and the CPU of the thread that wakes it is not idle. To bind both to one
//! CPU (`--cpus one`) helps, and takes all parallelism from the tool.
//!
//! But a CPU on which only threads of the policy `SCHED_IDLE` run counts as idle. A serving thread of that policy, held
//! on the CPU of the thread that asks, is next there when the requester goes to sleep, and the requester is woken where it is,
//! before the server sleeps: no other CPU has part in it, and nothing is asked of the tool. So there are two threads:
//!
//! - the *floating worker* runs where the scheduler likes. It serves when many ask, or little is asked: most of the time.
//! - the *pinned worker* is held on the requester's CPU, and serves when requests of one thread follow each other and no
//!   other thread wants that CPU.
//!
//! Only one of them reads requests; the other is parked when it has replied. Should the pinned worker not get to run,
//! since its CPU has work after all, then the floating one takes over: it looks every [`TICK`]. Nothing but speed depends
//! on which of them serves: both may read at once, and sometimes do for a request.
//!
//! An ordinary user's thread cannot leave `SCHED_IDLE` again, hence the second thread, which is started when it is first
//! of use; and what it starts inherits the policy, hence [`start_thread`].
//!
//! Measured on 2 virtual CPUs, Linux 6.18, unpinned, as ratios to tmpfs without and with it: see `README.md`, "Speed".

use std::cell::Cell;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rustix::thread::{CpuSet, Pid, gettid};

use super::busy_poll::{self, RequestPace, STREAK};
use crate::sync::thread;
use crate::sys::cpu::{self, CpuOf, Running};

/// How often the floating worker looks after the pinned one.
const TICK: Duration = Duration::from_millis(1);
/// After so many ticks in which a request was there and none was answered, the pinned worker does not get to run.
const STARVED_TICKS: u32 = 2;
/// After so many ticks without a request the requester is done.
const QUIET_TICKS: u32 = 5;
/// How long a worker that is about to read a request may take for it.
const GRACE: Duration = Duration::from_micros(200);
/// After how long the pinned worker is tried again when the machine had too much to do.
const CROWDED_PAUSE: Duration = Duration::from_millis(5);
/// How long the pinned worker is not tried again after it did not get to run; twice as long each time.
const PENALTY: Duration = Duration::from_millis(20);
const MOST_PENALTY: Duration = Duration::from_secs(2);
/// So many requests were worth it, whatever went wrong before.
const WORTH_IT: u64 = 1000;
/// After so many requests of others in a row there is not one requester any more.
const MOST_OTHERS: u32 = 2;
/// How many requests may pass until the requester's CPU is looked up again; fewer when it takes long to ask again, which it
/// does when it has moved.
const LOOK_AFTER: u32 = 16;
const LOOK_AFTER_LATE: u32 = 4;
const LATE: Duration = Duration::from_micros(30);

/// The thread whose request is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requester {
    /// The thread, as we see it; 0 where we do not.
    pub tid: u32,
    /// Whether copying the bytes takes longer than waking a thread: that is then better done on two CPUs.
    pub moves_much: bool,
}

impl Requester {
    /// A thread that asks for so many bytes to be moved.
    pub fn new(tid: u32, bytes: usize) -> Self {
        /// So many are copied in less time than a CPU takes to wake up.
        const LITTLE: usize = 32 << 10;
        Self {
            tid,
            moves_much: bytes > LITTLE,
        }
    }
}

/// Which of a mount's two workers serves.
#[derive(Debug)]
pub(super) struct Locality {
    shared: Arc<Shared>,
}

/// What can start the second thread.
pub(super) trait Starter {
    /// Starts a thread that serves the same device, and [begins](Locality::begin) its requests here as well.
    fn start_second(&self) -> io::Result<()>;
}

impl Locality {
    /// None where there is but one CPU to serve on: everything is there then.
    pub fn on_several_cpus() -> Option<Self> {
        let (_, cpus) = cpu::allowed().ok()?;
        (cpus > 1).then(|| Self::on(cpu::online()))
    }

    fn on(cpus: usize) -> Self {
        let shared = Arc::new(Shared {
            cpus,
            ..Shared::default()
        });
        Self { shared }
    }

    /// To be called first in a handler. When the result is dropped, the request counts as answered, and this thread may
    /// be parked.
    #[must_use]
    pub fn begin<'d>(
        &self,
        requester: Requester,
        device: BorrowedFd<'d>,
        starter: &'d dyn Starter,
    ) -> RequestGuard<'d> {
        let mut serving = SERVING
            .take()
            .unwrap_or_else(|| Serving::join(&self.shared));
        serving.asked(requester, Instant::now());
        SERVING.set(Some(serving));
        RequestGuard {
            device,
            starter: Some(starter),
        }
    }

    /// As [`begin`](Self::begin), for a request that no process waits for, of which the kernel does not say which asked.
    #[must_use]
    pub fn begin_without_reply<'d>(&self, device: BorrowedFd<'d>) -> RequestGuard<'d> {
        RequestGuard {
            device,
            starter: None,
        }
    }

    /// No worker is parked any more: the session ends.
    pub fn end(&self) {
        self.shared.end();
    }
}

/// A request in hand; see [`Locality::begin`].
pub(super) struct RequestGuard<'d> {
    device: BorrowedFd<'d>,
    /// Where a process waits for the reply.
    starter: Option<&'d dyn Starter>,
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        // Taken out meanwhile: a task may come back here.
        if let Some(mut serving) = SERVING.take() {
            match self.starter {
                Some(starter) => serving.replied(self.device, starter),
                None => serving.done(self.device),
            }
            SERVING.set(Some(serving));
        }
    }
}

/// Runs `task`, which is short, on a thread whose priority is not lowered: threads inherit it.
fn at_normal_priority(task: impl FnOnce() + Send + 'static) {
    let serving = SERVING.take();
    let pinned = match &serving {
        Some(Serving {
            role: Role::Pinned(_),
            shared,
        }) => Some(Arc::clone(shared)),
        _ => None,
    };
    SERVING.set(serving);
    match pinned {
        Some(shared) => shared.send(Box::new(task)),
        None => task(),
    }
}

/// Runs `work` on a thread of its own, which is scheduled like any other; `failed` where none can be started.
pub(super) fn start_thread(
    name: &'static str,
    work: impl FnOnce() + Send + 'static,
    failed: impl FnOnce(&io::Error) + Send + 'static,
) {
    at_normal_priority(move || {
        let started = thread::Builder::new().name(name.to_owned()).spawn(work);
        if let Err(error) = started {
            failed(&error);
        }
    });
}

thread_local! {
    /// What a thread is in the one mount that it serves.
    static SERVING: Cell<Option<Serving>> = const { Cell::new(None) };
}

struct Serving {
    shared: Arc<Shared>,
    role: Role,
}

enum Role {
    Floating(Box<FloatingWorker>),
    Pinned(PinnedWorker),
    /// Neither: it could not be made what it should be.
    Any,
}

impl Serving {
    /// The first thread that serves a request is the floating worker.
    fn join(shared: &Arc<Shared>) -> Self {
        let mut state = shared.state.lock();
        let role = if !state.has_floating {
            state.has_floating = true;
            Role::Floating(Box::default())
        } else if state.pinned.is_none() && cpu::yield_to_all_others().is_ok() {
            state.pinned = Some(gettid());
            let assignment = state.assignment.take();
            if let Some(assignment) = &assignment {
                // Refused, it is served a little slower.
                let _ = cpu::hold(gettid(), assignment.cpu);
            }
            Role::Pinned(PinnedWorker {
                assignment,
                ..PinnedWorker::default()
            })
        } else {
            Role::Any
        };
        drop(state);
        let shared = Arc::clone(shared);
        Self { shared, role }
    }

    fn asked(&mut self, requester: Requester, now: Instant) {
        match &mut self.role {
            Role::Floating(floating) => floating.pace.asked(requester, now),
            Role::Pinned(pinned) => {
                self.shared.in_hand.store(true, Ordering::Relaxed);
                pinned.asked(requester, now);
            }
            Role::Any => {}
        }
    }

    fn replied(&mut self, device: BorrowedFd<'_>, starter: &dyn Starter) {
        match &mut self.role {
            Role::Floating(floating) => floating.replied(&self.shared, device, starter),
            Role::Pinned(pinned) => pinned.replied(&self.shared),
            Role::Any => {}
        }
    }

    /// Something was done that was not a reply: only the other worker may have to go on.
    fn done(&mut self, device: BorrowedFd<'_>) {
        match &mut self.role {
            Role::Floating(_) => self.shared.recall(device),
            Role::Pinned(pinned) => pinned.park_unless_wanted(&self.shared, false),
            Role::Any => {}
        }
    }
}

/// What both workers share.
#[derive(Default)]
struct Shared {
    /// Of the machine.
    cpus: usize,
    /// Lock order: held alone.
    state: Mutex<State>,
    /// For the floating worker, while it stands by.
    to_floating: Condvar,
    /// For the pinned worker, while it is parked.
    to_pinned: Condvar,
    /// Whether the pinned worker may be reading a request; it is not parked.
    is_out: AtomicBool,
    /// Whether it should go on.
    is_wanted: AtomicBool,
    /// Whether it has a request that it has not answered.
    in_hand: AtomicBool,
    /// How many it has answered.
    served: AtomicU64,
}

#[derive(Default)]
struct State {
    has_floating: bool,
    /// Whether the second thread was started, or could not be.
    is_second_started: bool,
    /// The pinned worker, from its first request on.
    pinned: Option<Pid>,
    is_parked: bool,
    /// What it is to do next.
    assignment: Option<Assignment>,
    /// Whether the floating worker waits here, and runs tasks.
    stands_by: bool,
    tasks: Vec<Box<dyn FnOnce() + Send>>,
    ended: bool,
}

struct Assignment {
    tid: u32,
    cpu: usize,
    cpu_of: CpuOf,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("is_out", &self.is_out)
            .field("served", &self.served)
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn end(&self) {
        self.state.lock().ended = true;
        self.is_wanted.store(false, Ordering::Relaxed);
        self.is_out.store(false, Ordering::Relaxed);
        self.to_floating.notify_all();
        self.to_pinned.notify_all();
    }

    fn send(&self, task: Box<dyn FnOnce() + Send>) {
        let mut state = self.state.lock();
        if state.stands_by {
            state.tasks.push(task);
            drop(state);
            self.to_floating.notify_one();
        } else {
            // Better at low priority than not at all.
            drop(state);
            task();
        }
    }

    /// Has the pinned worker serve, and starts it the first time. False when that cannot be, or not on that CPU.
    fn hand_over(&self, assignment: Assignment, starter: &dyn Starter) -> bool {
        let mut state = self.state.lock();
        let is_new = !std::mem::replace(&mut state.is_second_started, true);
        if state.ended || !(is_new || state.is_parked) {
            return false;
        }
        if let Some(pinned) = state.pinned
            && cpu::hold(pinned, assignment.cpu).is_err()
        {
            return false;
        }
        state.is_parked = false;
        state.stands_by = true;
        state.assignment = Some(assignment);
        self.is_out.store(true, Ordering::Relaxed);
        self.is_wanted.store(true, Ordering::Relaxed);
        drop(state);
        if !is_new {
            self.to_pinned.notify_one();
            return true;
        }
        let started = starter.start_second();
        if let Err(error) = &started {
            log::debug!("one thread serves alone: {error}");
            self.is_out.store(false, Ordering::Relaxed);
            self.is_wanted.store(false, Ordering::Relaxed);
            let mut state = self.state.lock();
            state.assignment = None;
            state.stands_by = false;
        }
        started.is_ok()
    }

    /// Parks the pinned worker until it is wanted again; nothing when the session ends.
    fn park(&self) -> Option<Assignment> {
        let mut state = self.state.lock();
        self.is_wanted.store(false, Ordering::Relaxed);
        self.is_out.store(false, Ordering::Relaxed);
        state.is_parked = true;
        self.to_floating.notify_one();
        loop {
            if state.ended {
                return None;
            }
            if let Some(assignment) = state.assignment.take() {
                return Some(assignment);
            }
            self.to_pinned.wait(&mut state);
        }
    }

    /// Before the floating worker reads again: the pinned one may still be reading, and would get the next request,
    /// but perhaps not to run. Waits until it is parked, or a request is there that it does not take.
    fn recall(&self, device: BorrowedFd<'_>) {
        while self.is_out.load(Ordering::Relaxed) {
            if !busy_poll::is_request_there_soon(device) {
                continue;
            }
            let mut state = self.state.lock();
            if state.ended {
                return;
            }
            if self.is_out.load(Ordering::Relaxed) {
                self.to_floating.wait_for(&mut state, GRACE);
            }
            drop(state);
            if busy_poll::is_request_there(device) {
                return;
            }
        }
    }
}

/// The thread that runs where the scheduler likes.
#[derive(Default)]
struct FloatingWorker {
    pace: RequestPace,
    machine: Option<MachineLoad>,
    /// It is not tried before.
    not_before: Option<Instant>,
    penalty: Duration,
}

/// What the machine has to do, looked at before the pinned worker serves.
struct MachineLoad {
    running: Running,
    allowed: CpuSet,
}

impl MachineLoad {
    fn new() -> io::Result<Self> {
        let (allowed, _) = cpu::allowed()?;
        Ok(Self {
            running: Running::of_the_machine()?,
            allowed,
        })
    }

    /// Whether so many threads or more are running or ready to, which may want the requester's CPU.
    fn is_crowded(&self, most: usize) -> bool {
        self.running.now().is_none_or(|running| running >= most)
    }
}

/// Why the pinned worker serves no more.
enum ServiceEnd {
    /// It has parked itself.
    Left,
    Quiet,
    Crowded,
    Starved,
}

impl FloatingWorker {
    fn replied(&mut self, shared: &Shared, device: BorrowedFd<'_>, starter: &dyn Starter) {
        let now = Instant::now();
        self.pace.replied(now);
        if shared.is_out.load(Ordering::Relaxed) {
            shared.recall(device);
        } else if self.pace.of_one() >= STREAK
            && let Some(assignment) = self.assignment(now, shared.cpus)
            && shared.hand_over(assignment, starter)
        {
            self.stand_by(shared, device);
        } else if self.pace.streak() >= STREAK && !busy_poll::poll_from(now, device) {
            self.pace.missed();
        }
    }

    /// Where the pinned worker is to serve, if that is a good moment.
    fn assignment(&mut self, now: Instant, cpus: usize) -> Option<Assignment> {
        if self.not_before.is_some_and(|moment| now < moment) {
            return None;
        }
        self.not_before = Some(now + CROWDED_PAUSE);
        if self.machine.is_none() {
            self.machine = MachineLoad::new().ok();
        }
        let machine = self.machine.as_ref()?;
        // Only this thread runs: the requester is about to.
        if machine.is_crowded(cpus) {
            return None;
        }
        let tid = self.pace.requester();
        let cpu_of = CpuOf::thread(i32::try_from(tid).ok().filter(|&tid| tid > 0)?).ok()?;
        let cpu = cpu_of.now()?;
        let is_ours = cpu < CpuSet::MAX_CPU && machine.allowed.is_set(cpu);
        is_ours.then_some(Assignment { tid, cpu, cpu_of })
    }

    /// Until the pinned worker is done.
    fn stand_by(&mut self, shared: &Shared, device: BorrowedFd<'_>) {
        let before = shared.served.load(Ordering::Relaxed);
        let end = self.look_after(shared, device);
        if shared.served.load(Ordering::Relaxed) - before >= WORTH_IT {
            self.penalty = Duration::ZERO;
        }
        let pause = match end {
            ServiceEnd::Left | ServiceEnd::Quiet => Duration::ZERO,
            ServiceEnd::Crowded => CROWDED_PAUSE,
            ServiceEnd::Starved => {
                self.penalty = (self.penalty * 2).clamp(PENALTY, MOST_PENALTY);
                self.penalty
            }
        };
        self.not_before = Some(Instant::now() + pause);
        self.pace = RequestPace::default();
        if !matches!(end, ServiceEnd::Left) {
            shared.recall(device);
        }
    }

    fn look_after(&self, shared: &Shared, device: BorrowedFd<'_>) -> ServiceEnd {
        let mut served = shared.served.load(Ordering::Relaxed);
        let (mut quiet, mut starved) = (0, 0);
        let mut state = shared.state.lock();
        let end = loop {
            shared.to_floating.wait_for(&mut state, TICK);
            run_tasks(&mut state);
            if state.is_parked || state.ended {
                break ServiceEnd::Left;
            }
            let now_served = shared.served.load(Ordering::Relaxed);
            if now_served != served {
                (served, quiet, starved) = (now_served, 0, 0);
                // Of ours, this thread, the requester and the pinned worker, which may both be ready to run.
                if self
                    .machine
                    .as_ref()
                    .is_some_and(|it| it.is_crowded(shared.cpus + 2))
                {
                    break ServiceEnd::Crowded;
                }
            } else if shared.in_hand.load(Ordering::Relaxed) || busy_poll::is_request_there(device)
            {
                starved += 1;
                if starved == STARVED_TICKS {
                    break ServiceEnd::Starved;
                }
            } else {
                quiet += 1;
                if quiet == QUIET_TICKS {
                    break ServiceEnd::Quiet;
                }
            }
        };
        state.stands_by = false;
        shared.is_wanted.store(false, Ordering::Relaxed);
        if let (ServiceEnd::Starved, Some(pinned), Some(machine)) =
            (&end, state.pinned, &self.machine)
        {
            // It may have a request in hand, or a lock: another CPU may have time for it.
            let _ = cpu::let_run_on(pinned, &machine.allowed);
        }
        end
    }
}

fn run_tasks(state: &mut MutexGuard<'_, State>) {
    for task in std::mem::take(&mut state.tasks) {
        MutexGuard::unlocked(state, task);
    }
}

/// The thread that is held on the requester's CPU.
#[derive(Default)]
struct PinnedWorker {
    assignment: Option<Assignment>,
    replied: Option<Instant>,
    /// Requests since the requester's CPU was looked up.
    since_look: u32,
    /// Requests of others in a row.
    others: u32,
    is_late: bool,
    moves_much: bool,
}

impl PinnedWorker {
    fn asked(&mut self, requester: Requester, now: Instant) {
        let tid = self.assignment.as_ref().map(|assignment| assignment.tid);
        self.others = match tid == Some(requester.tid) {
            true => 0,
            false => self.others + 1,
        };
        self.moves_much = requester.moves_much;
        self.is_late = self
            .replied
            .is_some_and(|replied| now.saturating_duration_since(replied) > LATE);
    }

    fn replied(&mut self, shared: &Shared) {
        shared.in_hand.store(false, Ordering::Relaxed);
        shared.served.fetch_add(1, Ordering::Relaxed);
        self.replied = Some(Instant::now());
        self.follow();
        self.park_unless_wanted(shared, self.moves_much || self.others >= MOST_OTHERS);
    }

    fn park_unless_wanted(&mut self, shared: &Shared, is_done: bool) {
        if is_done || !shared.is_wanted.load(Ordering::Relaxed) {
            *self = Self {
                assignment: shared.park(),
                ..Self::default()
            };
        }
    }

    /// To where the requester is now.
    fn follow(&mut self) {
        self.since_look += 1;
        let enough = match self.is_late {
            true => LOOK_AFTER_LATE,
            false => LOOK_AFTER,
        };
        let Some(assignment) = self
            .assignment
            .as_mut()
            .filter(|_| self.since_look >= enough)
        else {
            return;
        };
        self.since_look = 0;
        if let Some(cpu) = assignment.cpu_of.now().filter(|&cpu| cpu != assignment.cpu)
            && cpu::hold(gettid(), cpu).is_ok()
        {
            assignment.cpu = cpu;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::mpsc::{self, Receiver, Sender};
    use std::thread::{self, JoinHandle};

    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

    use super::*;

    const ASK: u8 = 0;
    /// The pinned worker answers it when it is told to.
    const HOLD_ON: u8 = 1;
    /// Answered by a task.
    const TASK: u8 = 2;
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A device that is served as a mount's, in which each request is answered with the number of the thread that serves.
    struct Session {
        kernel: OwnedFd,
        answers: Receiver<Pid>,
        go_on: Sender<()>,
        server: Arc<Server>,
    }

    struct Server {
        device: OwnedFd,
        locality: Locality,
        requester: Requester,
        answer: Sender<Pid>,
        held: Mutex<Receiver<()>>,
        is_held: AtomicBool,
        threads: Mutex<Vec<JoinHandle<()>>>,
    }

    impl Starter for Arc<Server> {
        fn start_second(&self) -> io::Result<()> {
            let server = Arc::clone(self);
            let thread = thread::Builder::new().spawn(move || server.serve())?;
            self.threads.lock().push(thread);
            Ok(())
        }
    }

    impl Server {
        fn serve(self: Arc<Self>) {
            let this = gettid();
            loop {
                let mut request = [ASK];
                match rustix::net::recv(&self.device, &mut request, RecvFlags::empty()) {
                    Ok((1.., _)) => {}
                    _ => return self.locality.end(),
                }
                let _guard = self
                    .locality
                    .begin(self.requester, self.device.as_fd(), &self);
                match request {
                    [HOLD_ON] if self.pinned() == Some(this) => {
                        self.is_held.store(true, Ordering::SeqCst);
                        self.held.lock().recv_timeout(PATIENCE).unwrap();
                        self.answer.send(this).unwrap();
                    }
                    [TASK] => {
                        let answer = self.answer.clone();
                        at_normal_priority(move || answer.send(gettid()).unwrap());
                    }
                    _ => self.answer.send(this).unwrap(),
                }
            }
        }

        fn pinned(&self) -> Option<Pid> {
            self.locality.shared.state.lock().pinned
        }

        fn is_pinned_wanted(&self) -> bool {
            self.locality.shared.is_wanted.load(Ordering::Relaxed)
        }
    }

    impl Session {
        fn start() -> Self {
            let (domain, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
            let (device, kernel) =
                rustix::net::socketpair(domain, kind, SocketFlags::CLOEXEC, None).unwrap();
            let (answer, answers) = mpsc::channel();
            let (go_on, held) = mpsc::channel();
            let server = Arc::new(Server {
                device,
                // No machine is crowded for so many CPUs.
                locality: Locality::on(usize::MAX / 2),
                requester: Requester {
                    tid: gettid().as_raw_nonzero().get().unsigned_abs(),
                    moves_much: false,
                },
                answer,
                held: Mutex::new(held),
                is_held: AtomicBool::new(false),
                threads: Mutex::default(),
            });
            server.start_second().unwrap();
            Self {
                kernel,
                answers,
                go_on,
                server,
            }
        }

        fn send(&self, request: u8) {
            rustix::net::send(&self.kernel, &[request], SendFlags::empty()).unwrap();
        }

        fn answer(&self) -> Pid {
            self.answers.recv_timeout(PATIENCE).unwrap()
        }

        fn ask(&self, request: u8) -> Pid {
            self.send(request);
            self.answer()
        }

        /// Asks until the pinned worker answers, and tells which thread that is.
        fn be_served_by_the_pinned(&self) -> Pid {
            let give_up = Instant::now() + PATIENCE;
            loop {
                let by = self.ask(ASK);
                if self.server.pinned() == Some(by) && self.server.is_pinned_wanted() {
                    return by;
                }
                assert!(Instant::now() < give_up, "the pinned worker does not serve");
            }
        }

        fn end(self) {
            drop(self.kernel);
            let threads = std::mem::take(&mut *self.server.threads.lock());
            for thread in threads {
                thread.join().unwrap();
            }
        }
    }

    #[test]
    fn both_threads_serve_every_request_is_answered_and_both_end() {
        let session = Session::start();
        let mut workers = HashSet::from([session.ask(ASK), session.be_served_by_the_pinned()]);
        workers.extend((0..20_000).map(|_| session.ask(ASK)));
        assert_eq!(workers.len(), 2);
        session.end();
    }

    #[test]
    fn a_session_ends_while_the_pinned_worker_serves() {
        let session = Session::start();
        session.be_served_by_the_pinned();
        session.end();
    }

    #[test]
    fn the_floating_worker_takes_over_when_the_pinned_does_not_get_on() {
        let session = Session::start();
        // Held up with a request in hand, as a thread is that does not get to run.
        let pinned = loop {
            let pinned = session.be_served_by_the_pinned();
            session.send(HOLD_ON);
            // The floating worker may just have taken over, and has answered.
            if session.answers.recv_timeout(TICK * 100).is_err() {
                break pinned;
            }
        };
        assert!(session.server.is_held.load(Ordering::SeqCst));
        session.send(ASK);
        assert_ne!(session.answer(), pinned);
        (0..100).for_each(|_| assert_ne!(session.ask(ASK), pinned));
        session.go_on.send(()).unwrap();
        assert_eq!(session.answer(), pinned);
        assert_ne!(session.ask(ASK), pinned);
        session.end();
    }

    #[test]
    fn quiet_ends_it_and_nothing_is_lost() {
        let session = Session::start();
        session.be_served_by_the_pinned();
        let give_up = Instant::now() + PATIENCE;
        while session.server.is_pinned_wanted() {
            thread::sleep(TICK);
            assert!(Instant::now() < give_up);
        }
        for _ in 0..100 {
            session.ask(ASK);
        }
        session.end();
    }

    #[test]
    fn tasks_are_run_where_threads_are_like_any_other() {
        let session = Session::start();
        let give_up = Instant::now() + PATIENCE;
        // Run in place when the pinned worker has just been relieved, and only then.
        while session.be_served_by_the_pinned() == session.ask(TASK) {
            assert!(Instant::now() < give_up);
        }
        session.end();
    }
}

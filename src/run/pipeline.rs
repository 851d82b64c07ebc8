//! Steps that run side by side, each reading what the one before it writes; most have only one.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::backing::JobFiles;
use super::error::Error;
use super::outcome::{EndedBy, StepReport};
use super::process::{
    Exit, Interrupt, Patience, Processes, Running, SpawnError, StepStatus, Waited,
};
use super::stdio::Streams;
use super::step::Step;
use crate::fuse::{RequestCounts, SessionEnd};
use crate::mount::MountError;
use crate::sys::poll;
use crate::sys::proc::{Stuck, Usage};

/// How long the others of a pipe may go on when one has failed. They see its end of the pipe closed,
/// and have something to say or to finish; one that does not look at the pipe would go on for ever.
const AFTERMATH: Duration = Duration::from_secs(2);
/// How long a step that was killed may take to end. What takes longer waits for an answer that does not come.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often it is looked whether everything that was asked to end has ended.
const LOOK: Duration = Duration::from_millis(10);
/// How often it is looked whether a limit is met, where somebody must look.
const WATCH: Duration = Duration::from_millis(20);

/// When steps must stop, whatever they do.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Bounds<'i> {
    /// The moment, and how long the job was given in all.
    pub deadline: Option<(Instant, Duration)>,
    /// How long everything may take to end after SIGTERM; killed at once unless given.
    pub kill_after: Option<Duration>,
    /// Somebody else's word.
    pub interrupt: Option<&'i Interrupt>,
    /// The mount's session, without which there is no point in going on.
    pub session: Option<&'i SessionEnd>,
    /// What the job may hold, of which it must be looked whether it does.
    pub files: Option<&'i dyn JobFiles>,
}

impl Bounds<'_> {
    pub fn is_interrupted(&self) -> bool {
        self.interrupt.is_some_and(Interrupt::is_raised)
    }

    pub fn check_session(&self, processes: &Processes) -> Result<(), Error> {
        let path = || processes.root().to_owned();
        match self.session {
            Some(session) if session.is_over() => Err(Error::Mount(match session.is_lost() {
                true => MountError::SessionLost {
                    path: path(),
                    error: None,
                },
                false => MountError::Aborted { path: path() },
            })),
            _ => Ok(()),
        }
    }

    /// Looks whether the job holds more than it may; says when to look again, if that is needed.
    pub fn check_files(&self) -> Result<Option<Instant>, Error> {
        let pause = self.files.map_or(Ok(None), JobFiles::look)?;
        Ok(pause.map(|it| Instant::now() + it))
    }

    fn patience(&self) -> Patience<'_> {
        Patience {
            deadline: self.deadline.map(|(deadline, _)| deadline),
            interrupt: self.interrupt,
        }
    }

    /// Why a step was not started, where patience was at its end.
    fn told_of(&self, error: Error, program: OsString) -> Error {
        match &error {
            Error::Spawn(SpawnError::System { error: told, .. }) => match told.kind() {
                io::ErrorKind::TimedOut if self.is_late() => self.timeout(program),
                io::ErrorKind::Interrupted if self.is_interrupted() => Error::Cancelled,
                _ => error,
            },
            _ => error,
        }
    }

    pub fn is_late(&self) -> bool {
        let late = |(deadline, _)| Instant::now() >= deadline;
        self.deadline.is_some_and(late)
    }

    /// The error of a deadline that has passed.
    pub fn timeout(&self, program: impl Into<Option<OsString>>) -> Error {
        let limit = self.deadline.map(|(_, limit)| limit).unwrap_or_default();
        let program = program.into();
        Error::Timeout { program, limit }
    }
}

/// One step, or several joined by pipes.
#[derive(Debug)]
pub(super) struct Pipeline(Vec<Step>);

/// How a pipeline went.
#[derive(Debug)]
pub(super) struct Ran {
    /// One a step, in order.
    pub reports: Vec<StepReport>,
    /// Which of them failed: the first by time, but for one that only lost its reader (SIGPIPE)
    /// when there is another.
    pub failed: Option<usize>,
    /// Whether it is known that nothing else of the job was left when the last step had ended.
    pub nobody_left: bool,
}

impl From<Step> for Pipeline {
    fn from(step: Step) -> Self {
        Self(vec![step])
    }
}

impl Pipeline {
    pub fn push(&mut self, step: Step) {
        self.0.push(step);
    }

    pub fn commands(&self) -> impl Iterator<Item = Vec<OsString>> {
        self.0.iter().map(|step| step.spec.command.clone())
    }

    /// Starts the steps and waits for their ends. When they must stop before, they are left running:
    /// whoever is told must [end](Stopped::end) them.
    pub fn run(
        self,
        processes: &Processes,
        requests: &RequestCounts,
        bounds: Bounds<'_>,
    ) -> Result<Ran, Box<Stopped>> {
        let earlier = requests.clone();
        let mut members = Vec::new();
        let mut commands: Vec<_> = self.commands().collect();
        // There may not even have been the memory to execute it: that is why.
        let limit_or = |error| processes.check_limits().err().unwrap_or(error);
        let ran = bounds
            .check_session(processes)
            .and_then(|()| start(self.0, processes, bounds, &mut members).map_err(limit_or))
            .and_then(|()| wait(&mut members, processes, bounds, || requests.since(&earlier)))
            // Whatever the steps made of it, and if they ended before anybody looked.
            .and_then(|failed| processes.check_limits().map(|()| failed))
            .and_then(|failed| bounds.check_files().map(|_| failed));
        match ran {
            Ok(failed) => Ok(Ran {
                nobody_left: processes.are_known_to_be_none(),
                reports: reports(members, processes),
                failed,
            }),
            Err(error) => Err(Box::new(Stopped {
                error,
                not_started: commands.split_off(members.len()),
                members,
                earlier,
            })),
        }
    }
}

/// A pipeline that must not go on.
pub(super) struct Stopped {
    pub error: Error,
    /// The commands of the steps that were to run with those that did.
    pub not_started: Vec<Vec<OsString>>,
    members: Vec<Member>,
    earlier: RequestCounts,
}

impl Stopped {
    /// Kills everything in the job, and tells of the steps what is known of them then.
    ///
    /// They are killed one by one, and not with their init: only whoever waits for a process learns what it used.
    pub fn end(self, processes: &Processes, requests: &RequestCounts) -> (Error, Vec<StepReport>) {
        let Self {
            error,
            mut members,
            earlier,
            ..
        } = self;
        let by = EndedBy::error(&error);
        let used_below: Vec<_> = members.iter().map(|it| it.used_below(processes)).collect();
        if let Err(error) = processes.signal_all(Signal::KILL) {
            log::debug!("the job's processes cannot be found: {error}");
        }
        let give_up = Instant::now() + LAST_WORDS;
        let requests = requests.since(&earlier);
        for (member, used) in members.iter_mut().zip(used_below) {
            member.end(by, used, give_up, &requests);
        }
        (error, reports(members, processes))
    }
}

fn reports(members: Vec<Member>, processes: &Processes) -> Vec<StepReport> {
    let reports = members.into_iter().filter_map(|it| it.report(processes));
    reports.collect()
}

/// A step that was started.
struct Member {
    command: Vec<OsString>,
    running: Running,
    streams: Streams,
    ended: Option<(StepStatus, RequestCounts)>,
    /// Why it was told to end.
    ended_by: Option<EndedBy>,
}

impl Member {
    fn program(&self) -> OsString {
        self.command.first().cloned().unwrap_or_default()
    }

    /// Whether it has ended, looking now.
    fn has_ended(&mut self, requests: impl Fn() -> RequestCounts) -> Result<bool, Error> {
        if self.ended.is_none() {
            let waited = self.running.wait(Some(Instant::now()), None);
            let waited = waited.map_err(|source| Error::Wait {
                program: self.program(),
                source,
            })?;
            if let Waited::Ended(status) = waited {
                // A daemon may keep a pipe open for ever: take what is there, do not wait for its
                // end.
                self.drain()?;
                self.ended = Some((status, requests()));
            }
        }
        Ok(self.ended.is_some())
    }

    fn drain(&mut self) -> Result<(), Error> {
        self.streams.drain().map_err(|source| Error::Streams {
            program: self.program(),
            source,
        })
    }

    /// What the processes below it have used that nobody has waited for yet.
    fn used_below(&self, processes: &Processes) -> Usage {
        match self.ended {
            Some(_) => Usage::default(),
            None => processes.used_below(&self.running),
        }
    }

    /// Waits for the end of one that was killed. What of its processes nobody waited for is added to what it used.
    fn end(&mut self, by: EndedBy, used_below: Usage, give_up: Instant, requests: &RequestCounts) {
        if let Some((status, _)) = &self.ended {
            // The kernel has chosen it.
            let was_killed = status.exit == Exit::Signal(Signal::KILL.as_raw());
            if was_killed && by == EndedBy::MemoryLimit {
                self.ended_by = Some(by);
            }
            return;
        }
        self.ended_by = Some(by);
        let status = self.last_status(give_up);
        // What it wrote before its end.
        let _ = self.streams.drain();
        self.ended = Some((status.with(used_below), requests.clone()));
    }

    /// The status of one that was killed.
    fn last_status(&mut self, give_up: Instant) -> StepStatus {
        let mut stuck = Stuck::default();
        loop {
            let until = give_up.min(Instant::now() + LOOK);
            match self.running.wait(Some(until), None) {
                Ok(Waited::Ended(status)) => return status,
                Ok(_) if Instant::now() < give_up => {}
                _ => return self.running.killed(),
            }
            let pid = self.running.pid();
            if stuck.are(pid.as_slice()) {
                return self.running.killed();
            }
        }
    }

    fn report(self, processes: &Processes) -> Option<StepReport> {
        let (status, requests) = self.ended?;
        let (stdout, stderr) = self.streams.captured();
        // Killed in its last moment, it may have been faster. Asked to end, it did what it did.
        let was_killed = status.exit == Exit::Signal(Signal::KILL.as_raw());
        let told = |by: &EndedBy| was_killed || *by == EndedBy::Timeout;
        let ended_by = self.ended_by.filter(told);
        let cpu_limit_met = match ended_by {
            Some(_) => None,
            None => processes.cpu_limit_met(&status),
        };
        Some(StepReport {
            command: self.command,
            status,
            ended_by: ended_by.or(cpu_limit_met.map(|_| EndedBy::CpuLimit)),
            cpu_limit_met,
            requests,
            touched: None,
            stdout,
            stderr,
        })
    }
}

fn start(
    mut steps: Vec<Step>,
    processes: &Processes,
    bounds: Bounds<'_>,
    members: &mut Vec<Member>,
) -> Result<(), Error> {
    for left in 1..steps.len() {
        let [writer, reader] = &mut steps[left - 1..=left] else {
            continue;
        };
        let (read, write) = io::pipe().map_err(|source| Error::Streams {
            program: writer.program(),
            source,
        })?;
        writer.descriptors[1] = Some(write.into());
        reader.descriptors[0] = Some(read.into());
    }
    for step in steps {
        let program = step.program();
        let started = step.start(processes, bounds.patience());
        let (command, running, streams) =
            started.map_err(|error| bounds.told_of(error, program))?;
        members.push(Member {
            command,
            running,
            streams,
            ended: None,
            ended_by: None,
        });
    }
    Ok(())
}

/// Waits for the ends of all, taking what they write to captured streams meanwhile; tells which one
/// failed.
fn wait(
    members: &mut [Member],
    processes: &Processes,
    bounds: Bounds<'_>,
    requests: impl Fn() -> RequestCounts,
) -> Result<Option<usize>, Error> {
    let mut failure: Option<Failure> = None;
    loop {
        let mut running = None;
        for (index, member) in members.iter_mut().enumerate() {
            let had_ended = member.ended.is_some();
            if !member.has_ended(&requests)? {
                running.get_or_insert(index);
            } else if !had_ended && let Some((status, _)) = &member.ended {
                failure = Failure::or(failure, index, status.exit);
            }
        }
        let Some(running) = running else {
            return Ok(failure.map(|it| it.index));
        };
        if bounds.is_interrupted() {
            return Err(Error::Cancelled);
        }
        if bounds.is_late() {
            let program = members[running].program();
            if let Some(patience) = bounds.kill_after {
                ask_to_end(members, processes, bounds, patience, &requests)?;
            }
            return Err(bounds.timeout(program));
        }
        bounds.check_session(processes)?;
        processes.check_limits()?;
        let look_at_files = bounds.check_files()?;
        let is_watched = processes.must_be_watched();
        let look_at = is_watched.then(|| Instant::now() + WATCH);
        let end_rest_at = failure.as_ref().map(|it| it.since + AFTERMATH);
        if end_rest_at.is_some_and(|end| Instant::now() >= end) {
            for member in members.iter_mut().filter(|it| it.ended.is_none()) {
                // Whatever it started is killed with the job.
                let _ = member.running.kill();
                member.ended_by = Some(EndedBy::Pipe);
            }
            failure = failure.map(Failure::renewed);
            continue;
        }
        let deadline = bounds.deadline.map(|(deadline, _)| deadline);
        let until = [deadline, end_rest_at, look_at, look_at_files];
        sleep(members, bounds, until.into_iter().flatten().min())?;
        for member in members.iter_mut() {
            member.drain()?;
        }
    }
}

/// The step whose failure is the pipeline's.
struct Failure {
    index: usize,
    exit: Exit,
    since: Instant,
}

impl Failure {
    fn or(earlier: Option<Self>, index: usize, exit: Exit) -> Option<Self> {
        let lost_its_reader = |exit| exit == Exit::Signal(Signal::PIPE.as_raw());
        match earlier {
            _ if exit.success() => earlier,
            Some(earlier) if !lost_its_reader(earlier.exit) || lost_its_reader(exit) => {
                Some(earlier)
            }
            earlier => Some(Self {
                index,
                exit,
                since: earlier.map_or_else(Instant::now, |it| it.since),
            }),
        }
    }

    fn renewed(self) -> Self {
        Self {
            since: Instant::now(),
            ..self
        }
    }
}

/// SIGTERM to everything in the job, and `patience` for it to end.
fn ask_to_end(
    members: &mut [Member],
    processes: &Processes,
    bounds: Bounds<'_>,
    patience: Duration,
    requests: impl Fn() -> RequestCounts,
) -> Result<(), Error> {
    let failed = |source| Error::Processes {
        operation: "end",
        source,
    };
    let give_up = Instant::now().checked_add(patience);
    for member in members.iter_mut().filter(|it| it.ended.is_none()) {
        member.ended_by = Some(EndedBy::Timeout);
    }
    processes.signal_all(Signal::TERM).map_err(failed)?;
    // What is stopped would not notice.
    processes.signal_all(Signal::CONT).map_err(failed)?;
    let is_late = || give_up.is_some_and(|give_up| Instant::now() >= give_up);
    while !is_late() && !bounds.is_interrupted() {
        let mut all_ended = true;
        for member in members.iter_mut() {
            member.drain()?;
            all_ended &= member.has_ended(&requests)?;
        }
        if all_ended && processes.count().map_err(failed)? == 0 {
            return Ok(());
        }
        let look = Instant::now() + LOOK;
        let until = give_up.map_or(look, |give_up| give_up.min(look));
        sleep(members, bounds, Some(until))?;
    }
    Ok(())
}

/// Until a step ends, writes something or `until` has come.
fn sleep(members: &[Member], bounds: Bounds<'_>, until: Option<Instant>) -> Result<(), Error> {
    let running = members.iter().filter(|it| it.ended.is_none());
    let descriptors = running.flat_map(|member| {
        let pipes = member.streams.open_pipes();
        pipes.chain([member.running.as_fd()])
    });
    let descriptors = descriptors.chain(bounds.interrupt.map(AsFd::as_fd));
    let descriptors = descriptors.chain(bounds.session.map(SessionEnd::ended));
    let waited = poll::wait_readable(descriptors, until);
    waited.map(drop).map_err(|source| Error::Streams {
        program: members.first().map(Member::program).unwrap_or_default(),
        source,
    })
}

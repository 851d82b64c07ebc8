//! Which CPUs a job uses: its processes and the thread that serves its mount together.
//!
//! A request costs about 5 µs when the serving thread runs on the CPU that asked, and several times
//! as much when the wake-up has to cross to another one, above all between virtual CPUs. The kernel
//! has one queue for all threads that serve a mount, so a thread cannot be bound to the requests of
//! its CPU; but a job and its serving thread can share a CPU. That takes parallelism from a job
//! that has it, which is why a single job keeps all CPUs unless told otherwise, and jobs that run
//! side by side get one each. On several CPUs, a thread of the job that asks alone is served on its
//! own without being bound to it (`fuse::locality`).

use std::fmt;
use std::io;
use std::sync::Arc;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::sync::Mutex;

/// CPUs for jobs that run side by side: one each, for a job and the thread that serves it.
///
/// Clones share them. A job takes the CPU that the fewest jobs have, when it starts, and leaves it when it ends.
///
/// # Examples
///
/// ```
/// use notapipe::{Job, Slots};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let slots = Slots::new()?;
/// let jobs: Vec<_> = (0..4)
///     .map(|_| Job::new().slots(&slots).step(["true"]).start())
///     .collect::<Result<_, _>>()?;
/// for job in jobs {
///     job.wait()?;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Slots {
    cpus: Arc<Mutex<Vec<CpuLoad>>>,
}

#[derive(Debug)]
struct CpuLoad {
    cpu: usize,
    jobs: usize,
}

impl Slots {
    /// A slot for each CPU that the calling thread may use.
    ///
    /// # Errors
    ///
    /// When the kernel does not tell (sched_getaffinity(2)).
    pub fn new() -> io::Result<Self> {
        let allowed = sched_getaffinity(None)?;
        let cpus = numbers(&allowed)
            .map(|cpu| CpuLoad { cpu, jobs: 0 })
            .collect();
        Ok(Self {
            cpus: Arc::new(Mutex::new(cpus)),
        })
    }

    /// The least used CPU; left when the result is dropped.
    pub(super) fn take(&self) -> Slot {
        let mut cpus = self.cpus.lock();
        let least = cpus.iter_mut().min_by_key(|slot| slot.jobs);
        let cpu = least.map(|slot| {
            slot.jobs += 1;
            slot.cpu
        });
        Slot {
            slots: self.clone(),
            cpu,
        }
    }
}

/// A CPU that is taken.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Slots,
    cpu: Option<usize>,
}

impl Slot {
    pub fn cpus(&self) -> Cpus {
        Cpus::new(self.cpu)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut cpus = self.slots.cpus.lock();
        if let Some(slot) = cpus.iter_mut().find(|slot| Some(slot.cpu) == self.cpu) {
            slot.jobs -= 1;
        }
    }
}

/// Which CPUs a job uses.
///
/// # Examples
///
/// ```
/// use notapipe::Job;
/// use notapipe::run::Cpus;
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let outcome = Job::new().cpus(Cpus::One).step(["nproc"]).run()?;
/// assert_eq!(outcome.steps()[0].stdout.to_text(), "1\n");
/// assert_eq!(Cpus::new([0, 2]).to_string(), "0,2");
/// assert_ne!(Cpus::current(), Cpus::All);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cpus {
    /// All that the calling thread may use.
    #[default]
    All,
    /// The one on which the thread that runs the job is when it begins.
    One,
    /// Those of these numbers.
    These(Vec<usize>),
}

impl Cpus {
    /// These CPUs. Numbers that the kernel has no room for are left out.
    pub fn new(numbers: impl IntoIterator<Item = usize>) -> Self {
        let known = |&number: &usize| number < CpuSet::MAX_CPU;
        Self::These(numbers.into_iter().filter(known).collect())
    }

    /// The CPU on which the calling thread is at this moment.
    pub fn current() -> Self {
        Self::new([rustix::thread::sched_getcpu()])
    }

    /// Binds the calling thread, and with it every thread and process that it starts from now on,
    /// until the result is dropped.
    pub(super) fn bind(&self) -> io::Result<Option<Bound>> {
        let here = [rustix::thread::sched_getcpu()];
        let numbers = match self {
            Self::All => return Ok(None),
            Self::One => &here,
            Self::These(numbers) => numbers.as_slice(),
        };
        let before = sched_getaffinity(None)?;
        let mut set = CpuSet::new();
        let known = numbers.iter().filter(|&&it| it < CpuSet::MAX_CPU);
        known.for_each(|&number| set.set(number));
        sched_setaffinity(None, &set)?;
        Ok(Some(Bound { before }))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::One => f.write_str("one"),
            Self::These(numbers) => {
                let words: Vec<String> = numbers.iter().map(usize::to_string).collect();
                f.write_str(&words.join(","))
            }
        }
    }
}

fn numbers(set: &CpuSet) -> impl Iterator<Item = usize> {
    (0..CpuSet::MAX_CPU).filter(|&number| set.is_set(number))
}

/// The calling thread is bound. Must be dropped on the same thread.
#[derive(Debug)]
pub(super) struct Bound {
    before: CpuSet,
}

impl Drop for Bound {
    fn drop(&mut self) {
        // Refused only where the CPUs were taken from us meanwhile: then we stay where we are.
        let _ = sched_setaffinity(None, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_side_by_side_are_spread_evenly() {
        let slots = Slots::new().unwrap();
        let count = slots.cpus.lock().len();
        let taken: Vec<Slot> = (0..2 * count).map(|_| slots.take()).collect();
        assert!(slots.cpus.lock().iter().all(|slot| slot.jobs == 2));
        drop(taken);
        assert!(slots.cpus.lock().iter().all(|slot| slot.jobs == 0));
    }

    #[test]
    fn a_binding_ends_with_its_guard() {
        let before = sched_getaffinity(None).unwrap();
        let bound = Cpus::One.bind().unwrap();
        assert_eq!(numbers(&sched_getaffinity(None).unwrap()).count(), 1);
        drop(bound);
        assert!(sched_getaffinity(None).unwrap() == before);
    }
}

#[cfg(all(test, shuttle))]
mod interleavings {
    use super::*;
    use crate::sync::{interleave, thread};

    #[test]
    fn no_two_jobs_share_a_cpu_while_another_is_free() {
        interleave(|| {
            let free = |cpu| CpuLoad { cpu, jobs: 0 };
            let slots = Slots {
                cpus: Arc::new(Mutex::new(vec![free(0), free(1)])),
            };
            let used = Arc::new(Mutex::new(Vec::new()));
            let jobs = [(); 2].map(|()| {
                let (slots, used) = (slots.clone(), Arc::clone(&used));
                thread::spawn(move || {
                    for _ in 0..2 {
                        let slot = slots.take();
                        let mut now = used.lock();
                        assert!(!now.contains(&slot.cpu), "{:?} is used already", slot.cpu);
                        now.push(slot.cpu);
                        drop(now);
                        used.lock().retain(|cpu| *cpu != slot.cpu);
                    }
                })
            });
            jobs.into_iter().for_each(|it| it.join().unwrap());
            assert!(slots.cpus.lock().iter().all(|slot| slot.jobs == 0));
        });
    }
}

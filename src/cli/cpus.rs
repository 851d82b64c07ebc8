//! Which CPUs there are to choose from.

use notapipe::run::Cpus;

/// The CPUs that this process may use, as `--cpus` takes them.
pub fn usable() -> String {
    let allowed = rustix::thread::sched_getaffinity(None).unwrap_or_default();
    let numbers = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&it| allowed.is_set(it));
    Cpus::new(numbers).to_string()
}

//! How many requests small things cost: the one cost that no machine's mood changes.
//!
//! Each is counted on a file system that is mounted for it, after everything that is said to be
//! warm has been done once.

use notapipe::fuse::{Profile, Request, RequestCounts};
use notapipe::{Job, Scratch};

use crate::support::site::{Puppet, in_own_process};

/// A scratch directory with a process in it, as a job has it: without extended attributes.
struct Bench {
    puppet: Puppet,
    scratch: Scratch,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(profile: Profile) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let scratch = Scratch::builder()
            .public_at(dir.path())
            .profile(profile)
            .extended_attributes(false)
            .build()
            .unwrap();
        let mut puppet = Puppet::start(dir.path());
        // The requests that are asked once and never again: with these, a connection is warm.
        puppet.tell("root = os.open('.', os.O_RDONLY)");
        puppet.tell("f = os.open('warm', os.O_RDWR | os.O_CREAT); os.write(f, b'x'); os.fsync(f); os.close(f)");
        puppet.tell("f = os.open('warm', os.O_RDONLY); os.read(f, 1); os.close(f); os.listdir('.'); os.unlink('warm'); os.access('.', os.R_OK)");
        Self {
            puppet,
            scratch,
            _dir: dir,
        }
    }

    /// Nobody waits for a release: it has come when a request behind it in the queue is answered.
    fn settle(&mut self) {
        // By a descriptor: a path would be checked, for which the kernel may have to ask.
        self.puppet.ask("os.fstatvfs(root)");
    }

    /// What the process's doing costs, by kind and in all.
    fn cost(&mut self, line: &str) -> Vec<(&'static str, u64)> {
        let requests = self.scratch.requests();
        self.settle();
        let before = requests.since(&RequestCounts::default());
        self.puppet.ask(line);
        self.settle();
        let cost = requests.since(&before);
        // Forgets have no answer, and the statfs are our own.
        let counted =
            |&(kind, _): &(Request, u64)| !matches!(kind, Request::Forget | Request::Statfs);
        cost.iter()
            .filter(counted)
            .map(|(kind, count)| (kind.name(), count))
            .collect()
    }
}

/// A small workload: what comes first, what is counted, and what it may cost at most.
///
/// Where a request of another kind than the work itself is in the budget, its reason is given. A change
/// of a directory makes the kernel forget the directory's attributes, which it asks for before the
/// next permission check (`fuse_dir_changed`, `fuse_permission`): one getattr, called the parent's.
struct Budget {
    what: &'static str,
    before: &'static str,
    work: &'static str,
    fast: u64,
    observed: u64,
}

const fn budget(
    what: &'static str,
    before: &'static str,
    work: &'static str,
    [fast, observed]: [u64; 2],
) -> Budget {
    Budget {
        what,
        before,
        work,
        fast,
        observed,
    }
}

#[rustfmt::skip]
const BUDGETS: &[Budget] = &[
    // What is known is not asked for again.
    budget("a second stat", "open('s', 'w').close(); os.stat('s')", "os.stat('s')", [0, 0]),
    budget("a missing name", "1", "os.path.exists('missing')", [1, 1]),
    budget("a missing name again", "os.path.exists('missing')", "os.path.exists('missing')", [0, 0]),
    budget("a second access", "os.access('s', os.W_OK)", "os.access('s', os.W_OK)", [0, 0]),
    budget("the other end of a symlink", "os.symlink('s', 'l'); os.stat('l')", "os.stat('l'), os.readlink('l')", [0, 0]),
    budget("a stat of each file after a listing", "os.mkdir('d'); [open(f'd/{n}', 'w').close() for n in range(50)]; os.listdir('d')",
        "[os.stat(f'd/{n}') for n in range(50)]", [0, 0]),
    // A listing moves the directory's access time, as far as the kernel knows: one getattr.
    budget("a second listing", "os.listdir('d')", "os.listdir('d')", [1, 1]),
    // Pages stay over a close; Observed sees open and release.
    budget("reading a warm file", "open('s', 'w').write('x' * 5000); open('s').read()",
        "f = os.open('s', os.O_RDONLY); os.read(f, 8192); os.close(f)", [0, 2]),
    budget("reading again through one open", "f = os.open('s', os.O_RDONLY); os.read(f, 8192)", "os.pread(f, 8192, 0)", [0, 0]),
    budget("mapping a warm file", "os.fstat(f)", "m = mmap.mmap(f, 4096, prot=mmap.PROT_READ); m[0]; m.close()", [0, 0]),
    budget("opening, closing and syncing a warm file", "os.close(f)", "f = os.open('s', os.O_RDWR); os.fsync(f); os.close(f)", [0, 2]),
    // Making files. Fast: lookup, mknod, write; Observed: lookup, create, write, release; and the parent's.
    budget("create, write 4 KiB, close", "os.stat('.')",
        "f = os.open('c', os.O_WRONLY | os.O_CREAT); os.write(f, b'x' * 4096); os.close(f)", [3, 4]),
    // The truncation by setattr; the parent's.
    budget("truncate, write 4 KiB, close", "os.stat('.')",
        "f = os.open('c', os.O_WRONLY | os.O_TRUNC); os.write(f, b'x' * 4096); os.close(f)", [2, 4]),
    // The write's own pages are cached: only the size is asked for.
    budget("reading what was just written", "1", "f = os.open('c', os.O_RDONLY); os.read(f, 8192); os.close(f)", [1, 3]),
    // Both names looked up, the parent's twice.
    budget("write beside and rename over", "os.stat('.'), os.stat('c')",
        "f = os.open('t', os.O_WRONLY | os.O_CREAT | os.O_EXCL); os.write(f, b'x'); os.close(f); os.rename('t', 'c')", [6, 7]),
    budget("unlink", "os.stat('.')", "os.unlink('c')", [1, 1]),
    budget("mkdir", "os.stat('.')", "os.mkdir('e')", [2, 2]),
    // The negative lookup, mknod or create with release, and the parent's.
    budget("50 new files", "os.stat('e')", "[os.close(os.open(f'e/{n}', os.O_WRONLY | os.O_CREAT)) for n in range(50)]", [150, 200]),
    // Data. One request may carry 1 MiB (MAX_PAGES), and nothing else is asked.
    budget("writing 1 MiB", "f = os.open('m', os.O_RDWR | os.O_CREAT); os.fstat(f)", "os.write(f, b'x' * (1 << 20))", [1, 1]),
    budget("reading that 1 MiB", "os.fstat(f)", "os.pread(f, 1 << 20, 0)", [0, 0]),
    // No writeback cache, so that a write over the limit is told to who writes: one for each.
    budget("100 appends of a byte", "f = os.open('a', os.O_WRONLY | os.O_CREAT | os.O_APPEND)", "[os.write(f, b'x') for _ in range(100)]", [100, 100]),
    budget("changing attributes", "1", "os.fchmod(f, 0o600), os.fstat(f)", [1, 1]),
];

#[test]
fn small_things_cost_few_requests() {
    in_own_process(|| {
        for profile in [Profile::Fast, Profile::Observed] {
            let mut bench = Bench::new(profile);
            for budget in BUDGETS {
                bench.puppet.ask(budget.before);
                let cost = bench.cost(budget.work);
                let total: u64 = cost.iter().map(|(_, count)| count).sum();
                let allowed = match profile {
                    Profile::Fast => budget.fast,
                    Profile::Observed => budget.observed,
                };
                assert!(
                    total <= allowed,
                    "{profile:?}: {}: more than {allowed}: {cost:?}",
                    budget.what
                );
            }
        }
    });
}

/// Where the kernel checks no permissions (root's own private mount), nothing is asked for it.
#[test]
fn a_job_costs_few_requests() {
    let outcome = Job::new()
        .input("in", vec![b'x'; 10_000])
        .step(["cp", "in", "out"])
        .output("out")
        .run()
        .unwrap();
    let requests = outcome.requests();
    let kinds: Vec<_> = requests
        .iter()
        .map(|(kind, count)| (kind.name(), count))
        .collect();
    // Both looked up, the source read and its attributes, the copy made, written, its attributes.
    assert!(requests.total() <= 12, "{kinds:?}");
}

/// An input's bytes are asked for once, however often it is read, and one page ahead at the most.
#[test]
fn a_staged_file_is_read_once() {
    let outcome = Job::new()
        .input("in", vec![b'x'; 1 << 20])
        .step([
            "sh",
            "-c",
            "cat in in in > /dev/null; cksum < in; cmp in in",
        ])
        .run()
        .unwrap();
    let reads = outcome.requests().get(Request::Read);
    // 128 KiB a request, unless the kernel reads further ahead.
    assert!((1..=8).contains(&reads), "{reads}");
}

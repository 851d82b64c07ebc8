//! The first process of a job's PID namespace: what it shows, and that everything ends with the program that made it.

use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use notapipe::Job;

use crate::degraded::{HIDE_PART_OF_PROC, behind};
use crate::stage::{self, INIT, Stage, Who, both, eventually};

/// Prints who the first process of the job is, word by word.
const WHO_IS_FIRST: &str = "tr '\\0' '|' </proc/1/cmdline; tr -d '\\0' </proc/1/environ; \
                            readlink /proc/1/fd/0 /proc/1/fd/1 /proc/1/cwd; ls /proc/1/fd | wc -l; \
                            grep CapEff /proc/1/status; grep -c . /proc/1/maps";

/// `notapipe run -i in=/dev/null -- sh -c …`, with what it wrote and its exit status.
fn run(script: &str) -> (String, i32) {
    let output = Command::new(stage::notapipe())
        .args(["run", "-i", "in=/dev/null", "--", "sh", "-c", script])
        .env("SECRET", "a-secret-in-the-environment")
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    (said, output.status.code().unwrap())
}

#[test]
fn a_job_sees_nothing_of_our_command_in_it() {
    both("init::a_job_sees_nothing_of_our_command_in_it", || {
        let (said, status) = run(WHO_IS_FIRST);
        assert_eq!(status, 0);
        assert!(said.starts_with(&format!("{INIT}|/dev/null\n")), "{said}");
        for hidden in ["SECRET", "in=", "cmdline"] {
            assert!(!said.contains(hidden), "{hidden} is in {said}");
        }
        // Three streams, our process and the end of a pipe; and of our memory nothing.
        assert!(said.contains("/dev/null\n/dev/null\n/\n5\n"), "{said}");
        let mappings = said.lines().last().unwrap().parse::<u32>().unwrap();
        assert!(mappings < 8, "{said}");
        if !rustix::process::geteuid().is_root() {
            assert!(said.contains("CapEff:\t0000000000000000\n"), "{said}");
        }
    });
}

/// It has entered the job's namespaces by then, and made a process.
#[test]
fn where_proc_is_refused_there_is_a_subreaper() {
    let name = "init::where_proc_is_refused_there_is_a_subreaper";
    behind(HIDE_PART_OF_PROC, name, Who::User, || {
        let (said, status) = run("readlink /proc/self/ns/pid; exit 5");
        assert_eq!(status, 5);
        let ours = std::fs::read_link("/proc/self/ns/pid").unwrap();
        assert_eq!(said.trim_end(), ours.to_str().unwrap());
    });
}

const MOMENTS: u32 = 100;
/// What a program may take to be gone with its jobs, after kill -9.
const WITHIN: Duration = Duration::from_secs(1);

/// A program with threads and a heap that runs jobs as the library's defaults have it.
fn program() {
    let heap = vec![1_u8; 256 << 20];
    let name = format!("faults-{}", stage::tag());
    std::thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| sleep(stage::PATIENCE));
        }
        for index in 0..2 {
            let name = &name;
            scope.spawn(move || {
                for round in 0.. {
                    let [sleep, time] = stage::sleep_for_long();
                    let away =
                        format!("(setsid {sleep} {time} &); echo {name} > x; exec sleep 0.0$0");
                    let times = ["1", "02"];
                    let job = Job::new().step(["sh", "-c", &away, times[(round + index) % 2]]);
                    job.run().unwrap();
                }
            });
        }
    });
    drop(std::hint::black_box(heap));
}

fn leaves_nothing(who: Who) {
    const NAME: [&str; 2] = [
        "init::a_program_that_is_killed_leaves_nothing",
        "init::a_users_program_that_is_killed_leaves_nothing",
    ];
    let name = NAME[usize::from(who == Who::User)];
    if stage::is_playing(name) {
        return program();
    }
    let stage = Stage::new();
    let mut slowest = Duration::ZERO;
    for moment in 0..MOMENTS {
        let mut program = start(&stage, name, who);
        // Two jobs run at any time, from some moment on.
        sleep(Duration::from_millis(u64::from(moment) * 3));
        program.kill().unwrap();
        program.wait().unwrap();
        let killed = Instant::now();
        eventually("nothing is left", || stage.is_empty());
        slowest = slowest.max(killed.elapsed());
    }
    println!("FIGURE {who:?}: gone {slowest:?} after kill -9, at the slowest of {MOMENTS}");
    // A machine that is busy with other things may take longer; what is to be found here are processes that stay.
    assert!(slowest < stage::PATIENCE.min(10 * WITHIN), "{slowest:?}");
}

fn start(stage: &Stage, name: &str, who: Who) -> Child {
    let mut command = stage.command(name, who);
    command.stdout(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_program_that_is_killed_leaves_nothing() {
    leaves_nothing(Who::Root);
}

#[test]
fn a_users_program_that_is_killed_leaves_nothing() {
    leaves_nothing(Who::User);
}

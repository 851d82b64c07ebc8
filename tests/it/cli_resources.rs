//! `--limit`: what the processes of a job may use, by whatever means this machine gives each user.
//!
//! As root and in a delegated control group, that is a control group of the job's own: scripts/kernels.sh runs these
//! tests where it has all controllers. Elsewhere it is limits of each process.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;

use serde_json::Value;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::support::site::{Call, Site, both, eventually, until};

/// What the report says of the limits.
fn limits(site: &Site, limit: &str) -> Value {
    let words = ["--limit", limit, "--report", "held-by", "--", "true"];
    site.run(&words).ended(0);
    let report: Value = serde_json::from_slice(&site.read("held-by")).unwrap();
    fs::remove_file(site.path("held-by")).unwrap();
    report["resource_limits"].clone()
}

fn is_cgroup(site: &Site, limit: &str) -> bool {
    let (name, _) = limit.split_once('=').unwrap();
    limits(site, limit)[format!("{name}_by")] == "cgroup"
}

/// The directory of a group that `/proc/PID/cgroup` tells of.
fn directory_of(membership: &str) -> PathBuf {
    let path = membership
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "));
    let mount = mount.unwrap().split(' ').nth(4).unwrap();
    PathBuf::from(mount).join(path)
}

/// Starts a job that does not end, and waits for the directory of its group.
fn endless(site: &Site) -> (Call, PathBuf) {
    let told = site.text("group");
    let script = format!("cat /proc/self/cgroup > {told}; {}", site.endless());
    let words = [
        "run", "--tmp", "host", "--limit", "cpu=1h", "--", "sh", "-c", &script,
    ];
    let mut command = site.command(&words);
    command.process_group(0);
    let call = Call::start(command);
    until("the job runs", || site.endless_ones() == 1);
    let group = directory_of(&String::from_utf8(site.read("group")).unwrap());
    (call, group)
}

#[test]
fn processor_time_ends_a_step_and_is_told() {
    both(|site| {
        let told = site.run(&[
            "--limit",
            "cpu=1s",
            "-o",
            "x",
            "--",
            "sh",
            "-c",
            "while :; do :; done",
        ]);
        told.ended(128 + 24).saying(&[
            "\"sh\" was killed: the cpu limit of 1s",
            "help: raise the limit with --limit cpu=TIME",
        ]);
        // What it started is limited as well, and told by the shell's own status.
        let work = "sh -c 'while :; do :; done'; exit $?";
        let told = site.run(&["--limit", "cpu=1s", "--", "sh", "-c", work]);
        told.ended(128 + 24).saying(&["the cpu limit of 1s"]);
        // So is what does not listen to the first signal.
        let deaf = "trap '' XCPU; while :; do :; done";
        let told = site.run(&["--limit", "cpu=1s", "--", "sh", "-c", deaf]);
        told.ended(128 + 9).saying(&["the cpu limit of 1s"]);
    });
}

/// Uses this much processor time, and ends.
fn busy(seconds: &str) -> String {
    format!("python3 -c 'import time\nwhile time.process_time() < {seconds}: pass'")
}

#[test]
fn processor_time_is_that_of_all_processes_where_a_control_group_counts_it() {
    both(|site| {
        let one = busy("0.5");
        let work = format!("{one} & {one} & wait; {one} & {one} & wait");
        let words = ["--limit", "cpu=1s", "--", "sh", "-c", &work];
        if is_cgroup(site, "cpu=1s") {
            let told = site.run(&words).ended(128 + 24);
            told.saying(&["\"sh\" was killed: the cpu limit of 1s"]);
            // Steps share it.
            let step = busy("0.7");
            let words = [
                "--limit", "cpu=1s", "--", "sh", "-c", &step, "--then", "sh", "-c", &step,
            ];
            site.run(&words)
                .ended(128 + 24)
                .saying(&["the cpu limit of 1s"]);
        } else {
            site.run(&words).ended(0);
        }
    });
}

#[test]
fn memory_and_files_are_refused_beyond_their_limits() {
    both(|site| {
        let ask =
            "import mmap, sys\ntry: x = mmap.mmap(-1, 500 << 20)\nexcept OSError: sys.exit(7)\n";
        let words = ["--limit", "memory=300M", "--", "python3", "-c", ask];
        // What is reserved and not used is no memory.
        let status = if is_cgroup(site, "memory=300M") { 0 } else { 7 };
        site.run(&words).ended(status);
        site.run(&["--limit", "memory=2G", "--", "python3", "-c", ask])
            .ended(0);
        let open = "import sys\nfiles = []\ntry:\n  while True: files.append(open('/dev/null'))\n\
            except OSError: sys.exit(len(files) > 20)\n";
        site.run(&["--limit", "files=20", "--", "python3", "-c", open])
            .ended(0);
    });
}

#[test]
fn memory_is_that_of_all_processes_where_a_control_group_counts_it() {
    both(|site| {
        let two = "import os, time\nos.fork()\nx = b'x' * (200 << 20)\ntime.sleep(1)\n";
        let words = ["--limit", "memory=300M", "--", "python3", "-c", two];
        if !is_cgroup(site, "memory=300M") {
            // Each has enough.
            site.run(&words).ended(0);
            return;
        }
        site.run(&words).ended(128 + 9).saying(&[
            "needed more than the memory limit of 300 MiB",
            "help: raise the limit with --limit memory=SIZE",
        ]);
        // Whatever a tool makes of a child that was killed.
        let forgiving = "python3 -c 'x = b\"x\" * (200 << 20)' || exit 0";
        let words = ["--limit", "memory=100M", "--", "sh", "-c", forgiving];
        site.run(&words)
            .ended(128 + 9)
            .saying(&["the memory limit of 100 MiB"]);
        // Too little for any program.
        site.run(&["--limit", "memory=64K", "--", "true"])
            .ended(128 + 9)
            .saying(&["the memory limit of 64 KiB"]);
        // Files in the mount are not the job's memory.
        let write = ["--stdout", "big", "head", "-c", "64M", "/dev/zero"];
        let words = ["--limit", "memory=32M", "--"];
        site.run(&[&words[..], &write].concat()).ended(0);
    });
}

#[test]
fn more_processes_than_there_may_be_fail_the_job() {
    both(|site| {
        let many = format!("for n in 1 2 3 4 5; do {} & done; wait", site.endless());
        // One more than there may be, so that whoever looks while they are being started cannot count fewer.
        let told = site.run(&["--limit", "processes=5", "-o", "x", "--", "sh", "-c", &many]);
        let told = told.ended(125).saying(&["--limit processes="]);
        if is_cgroup(site, "processes=5") {
            told.saying(&["it wanted more processes and threads together than the limit of 5"]);
            // Before anybody could count them.
            let brief = "(true & true & true & true & true & true & wait); true";
            site.run(&["--limit", "processes=2", "--", "sh", "-c", brief])
                .ended(125)
                .saying(&["than the limit of 2"]);
        } else {
            told.saying(&["6 processes", "the limit is 5"]);
        }
        site.expect_nothing_left();
        let few = "for n in 1 2 3; do sleep 0.1 & done; wait";
        site.run(&["--limit", "processes=5", "--", "sh", "-c", few])
            .ended(0);
    });
}

#[test]
fn the_report_tells_the_limits_and_what_held_them() {
    both(|site| {
        let told = limits(site, "cpu=1s,memory=1G,processes=50,files=64");
        assert_eq!(told["cpu_seconds"], 1.0);
        assert_eq!(told["memory_bytes"], 1 << 30);
        assert_eq!(told["processes"], 50);
        assert_eq!(told["files"], 64);
        assert_eq!(told["files_by"], "rlimit");
        let by = ["cpu", "memory", "processes"].map(|name| told[format!("{name}_by")].clone());
        let otherwise = ["rlimit", "rlimit", "count"];
        for (by, otherwise) in by.iter().zip(otherwise) {
            assert!(by == "cgroup" || by == otherwise, "{told}");
        }
        let any = by.iter().any(|by| by == "cgroup");
        assert_eq!(told["by"], if any { "cgroup" } else { "rlimit" });
        assert_eq!(limits(site, "files=64")["by"], "rlimit");
        assert!(limits(site, "files=64").get("cpu_by").is_none());
        site.run(&["--report", "r", "--", "true"]).ended(0);
        let report: Value = serde_json::from_slice(&site.read("r")).unwrap();
        assert!(report.get("resource_limits").is_none());
    });
}

#[test]
fn doctor_tells_what_holds_limits() {
    both(|site| {
        let told = limits(site, "cpu=1s,memory=1G,processes=50");
        let all = ["cpu_by", "memory_by", "processes_by"];
        let sign = match all.iter().all(|by| told[by] == "cgroup") {
            true => "ok    --limit ",
            false => "note  --limit ",
        };
        let text = site.call(&["doctor"]).ended(0).text();
        assert!(text.contains(sign), "{told}: {text}");
    });
}

#[test]
fn the_control_group_of_a_job_goes_with_it_however_it_ends() {
    both(|site| {
        if !is_cgroup(site, "cpu=1h") {
            // Then the job is in the group of its caller.
            let words = ["--limit", "cpu=1h", "--", "cat", "/proc/self/cgroup"];
            let told = site.run(&words).ended(0).text();
            assert_eq!(told, fs::read_to_string("/proc/self/cgroup").unwrap());
            return;
        }
        for signal in [Signal::TERM, Signal::KILL] {
            let (call, group) = endless(site);
            assert!(group.join("cgroup.procs").exists());
            call.signal(signal);
            call.finish();
            until("the group is gone", || !group.exists());
        }
        // Killed together with its init, nobody is left to remove it: the next job does.
        let (call, group) = endless(site);
        kill_process_group(Pid::from_raw(call.pid()).unwrap(), Signal::KILL).unwrap();
        call.finish();
        eventually(|| {
            site.run(&["--limit", "cpu=1h", "--", "true"]).ended(0);
            match group.exists() {
                true => Err(format!("{group:?} is left")),
                false => Ok(()),
            }
        });
    });
}

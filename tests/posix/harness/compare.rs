//! Performing a case on both sides, and comparing the two accounts.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::MemfdFlags;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::case::Case;
use super::settings::{Mounts, Setting};

/// Far more than any case takes. Only something that hangs gets there.
const HANGS_AFTER: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// Runs every case in every setting that it can run in.
pub fn run_all(cases: Vec<Case>) -> ExitCode {
    let arguments = Arguments::from_args();
    let mounts = match Mounts::new() {
        Ok(mounts) => mounts,
        Err(error) => {
            eprintln!("the programs cannot be copied to a directory that all may enter: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = Vec::new();
    for &setting in Setting::existing() {
        for case in cases.iter().copied().filter(|case| setting.allows(case)) {
            let mounts = Arc::clone(&mounts);
            let name = format!("{}::{}", setting.name(), case.full_name());
            trials.push(Trial::test(name, move || compare(&mounts, setting, &case)));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    if let Err(failure) = mounts.close() {
        eprintln!("the end of the mounts: {failure}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn compare(mounts: &Mounts, setting: Setting, case: &Case) -> Result<(), Failed> {
    let tmpfs = account_of(&mut mounts.on_tmpfs(setting, case)?)
        .map_err(|failure| format!("on tmpfs: {failure}"))?;
    let mount = account_of(&mut mounts.in_mount(setting, case)?)
        .map_err(|failure| format!("in the mount: {failure}"))?;
    if tmpfs == mount {
        Ok(())
    } else {
        Err(describe(&tmpfs, &mount).into())
    }
}

/// Both accounts around every line that differs.
fn describe(tmpfs: &str, mount: &str) -> String {
    const MOST: usize = 12;
    let (tmpfs, mount): (Vec<_>, Vec<_>) = (tmpfs.lines().collect(), mount.lines().collect());
    let count = tmpfs.len().max(mount.len());
    let differing: Vec<_> = (0..count)
        .filter(|&at| tmpfs.get(at) != mount.get(at))
        .collect();
    let mut text = format!("{} of {count} lines differ\n", differing.len());
    let line = |lines: &[&str], at: usize| lines.get(at).copied().unwrap_or("(nothing)").to_owned();
    for &at in differing.iter().take(MOST) {
        if let Some(before) = at
            .checked_sub(1)
            .filter(|&before| tmpfs.get(before) == mount.get(before))
        {
            text += &format!("          {}\n", line(&tmpfs, before));
        }
        text += &format!(
            "  tmpfs:  {}\n  mount:  {}\n",
            line(&tmpfs, at),
            line(&mount, at)
        );
    }
    text
}

/// Runs a command that must succeed; the text is what it said otherwise.
pub fn must_succeed(command: &mut Command) -> Result<(), String> {
    account_of(command).map(drop)
}

/// Runs a command to its end, with a deadline, and returns all that it wrote.
fn account_of(command: &mut Command) -> Result<String, String> {
    // In a file, not a pipe: what a process that goes on in the background has inherited does not keep
    // anyone waiting, and nothing blocks when it is full.
    let mut written = output_file().map_err(|error| format!("memfd: {error}"))?;
    let output = |file: &File| file.try_clone().map(Stdio::from);
    let (stdout, stderr) = output(&written)
        .and_then(|stdout| Ok((stdout, output(&written)?)))
        .map_err(|error| format!("dup: {error}"))?;
    let name = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start {name}: {error}"))?;
    let pid = Pid::from_child(&child);
    let ended = wait_until_ended(pid);
    if !ended {
        let _ = kill_process_group(pid, Signal::KILL);
    }
    let text = read_back(&mut written);
    if !ended {
        // Not waited for: in an uninterruptible sleep it would take this process along.
        let last = text.lines().last().unwrap_or("(its first line)");
        return Err(format!(
            "hangs: nothing for {} s after: {last}",
            HANGS_AFTER.tv_sec
        ));
    }
    let status = child.wait().map_err(|error| format!("wait: {error}"))?;
    match (status.success(), status.signal()) {
        (true, _) => Ok(text),
        (false, Some(signal)) => Err(format!("ended by signal {signal}\n{text}")),
        (false, None) => Err(format!("{status}\n{text}")),
    }
}

fn output_file() -> rustix::io::Result<File> {
    rustix::fs::memfd_create("account", MemfdFlags::CLOEXEC).map(File::from)
}

fn read_back(written: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = written
        .rewind()
        .and_then(|()| written.read_to_end(&mut bytes));
    match read {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) => format!("the account cannot be read: {error}"),
    }
}

fn wait_until_ended(pid: Pid) -> bool {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return true;
    };
    let mut waited_for = [PollFd::new(&pidfd, PollFlags::IN)];
    loop {
        match poll(&mut waited_for, Some(&HANGS_AFTER)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) => return false,
            _ => return true,
        }
    }
}

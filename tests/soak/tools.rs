//! Chance, and bad luck for tools.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Random numbers that are the same for the same seed (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}

/// The programs that jobs here run. What has another name is a child of ours that is still to become one.
const TOOLS: [&str; 5] = ["sh", "sort", "sleep", "cat", "dd"];

/// Kills a tool of some job, if one runs.
pub fn kill_one(dice: &mut Dice) -> bool {
    let tools: Vec<i32> = descendants()
        .into_iter()
        .filter(|(_, name)| TOOLS.contains(&name.as_str()))
        .filter(|(pid, _)| !is_watchdog(*pid))
        .map(|(pid, _)| pid)
        .collect();
    if tools.is_empty() {
        return false;
    }
    let chosen = tools[dice.below(tools.len() as u64) as usize];
    let Some(held) =
        Pid::from_raw(chosen).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
    else {
        return false;
    };
    // The number may be another's by now.
    let still = descendants().iter().any(|(pid, _)| *pid == chosen);
    still && pidfd_send_signal(held, Signal::KILL).is_ok()
}

/// The shell that stands by to remove a public mount: without it, there is no such mount.
fn is_watchdog(pid: i32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words
        .split(|&byte| byte == 0)
        .any(|word| word == b"notapipe-watchdog")
}

/// The processes that descend from this one, zombies included, and their names.
pub fn descendants() -> Vec<(i32, String)> {
    let all: Vec<(i32, i32, String)> = fs::read_dir("/proc")
        .expect("procfs is mounted")
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
            let mut fields = rest.split(' ');
            let dead = if fields.next()? == "Z" {
                " (zombie)"
            } else {
                ""
            };
            let parent = fields.next()?.parse().ok()?;
            Some((pid, parent, format!("{name}{dead}")))
        })
        .collect();
    let mut found = Vec::new();
    let mut parents = vec![std::process::id() as i32];
    while let Some(parent) = parents.pop() {
        for (pid, _, name) in all.iter().filter(|(_, its, _)| *its == parent) {
            parents.push(*pid);
            found.push((*pid, name.clone()));
        }
    }
    found
}

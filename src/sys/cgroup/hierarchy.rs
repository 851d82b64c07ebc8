//! Where in the tree a group of ours may be made, and what of its limits that place can hold.
//!
//! Our own group is the natural parent, and hardly ever does: a group that has processes may not hand
//! controllers on to children (the "no internal process" rule of the kernel's cgroup-v2.rst), and we are in
//! it. So the child goes below the nearest ancestor that we may write to and that hands on what is wanted:
//! for a scope of systemd's user manager that is the slice around the scope, which belongs to the user. It
//! then stands beside our own group, and only what is started in it is moved. What bounds our own
//! group must bound it as well: limits of memory and processes are carried over, and past a limit that
//! cannot be carried over it does not climb.

use std::path::{Path, PathBuf};

use crate::sys::mountinfo::MountLine;

/// A set of the controllers that we know a use for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Controllers {
    pub(crate) memory: bool,
    pub(crate) pids: bool,
}

impl Controllers {
    /// Out of `cgroup.controllers` or `cgroup.subtree_control`.
    pub(super) fn parse(list: &str) -> Self {
        let has = |name| list.split_ascii_whitespace().any(|it| it == name);
        Self {
            memory: has("memory"),
            pids: has("pids"),
        }
    }

    fn both(self, other: Self, with: impl Fn(bool, bool) -> bool) -> Self {
        Self {
            memory: with(self.memory, other.memory),
            pids: with(self.pids, other.pids),
        }
    }

    fn and(self, other: Self) -> Self {
        self.both(other, |ours, theirs| ours && theirs)
    }

    fn or(self, other: Self) -> Self {
        self.both(other, |ours, theirs| ours || theirs)
    }

    fn without(self, other: Self) -> Self {
        self.both(other, |ours, theirs| ours && !theirs)
    }

    fn count(self) -> usize {
        usize::from(self.memory) + usize::from(self.pids)
    }

    /// As `cgroup.subtree_control` takes it; nothing to write when it is empty.
    pub(super) fn to_enable(self) -> Option<String> {
        let names = [(self.memory, "+memory"), (self.pids, "+pids")];
        let names: Vec<&str> = names
            .iter()
            .filter_map(|&(is_in, name)| is_in.then_some(name))
            .collect();
        (!names.is_empty()).then(|| names.join(" "))
    }
}

/// A group between ours and the root of what we see, ours first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) dir: PathBuf,
    /// Whether we may make a child of it and move a process of ours there.
    pub(super) is_writable: bool,
    /// Whether children of it can be given controllers that it does not hand on yet.
    pub(super) can_enable: bool,
    /// What it could hand on.
    pub(super) offered: Controllers,
    /// What it hands on.
    pub(super) enabled: Controllers,
    pub(super) bounds: Bounds,
}

/// What bounds the processes of a group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) processes: Option<u64>,
    /// Something that cannot be carried over to another group: a share of CPU time, CPUs, input and output.
    pub(super) others: bool,
}

impl Bounds {
    /// The stricter of each.
    pub(super) fn and(self, other: Self) -> Self {
        let least = |ours: Option<u64>, theirs: Option<u64>| ours.into_iter().chain(theirs).min();
        Self {
            memory_bytes: least(self.memory_bytes, other.memory_bytes),
            processes: least(self.processes, other.processes),
            others: self.others || other.others,
        }
    }
}

/// A place for a group, and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParentChoice {
    /// Below which level.
    pub(super) level: usize,
    /// What that one must be told to hand on.
    pub(super) enable: Controllers,
    /// What of the wanted it then holds.
    pub(super) holds: Controllers,
    /// What bounds us and would not bound a group there.
    pub(super) carried: Bounds,
}

/// The places worth trying, the best first: the most of what is wanted; then where nothing need be changed; then the
/// nearest.
pub(super) fn choices(levels: &[Level], wanted: Controllers) -> Vec<ParentChoice> {
    let mut choices = Vec::new();
    let mut carried = Bounds::default();
    for (index, level) in levels.iter().enumerate() {
        if level.is_writable {
            let here = ParentChoice {
                level: index,
                enable: Controllers::default(),
                holds: wanted.and(level.enabled),
                carried,
            };
            choices.push(here);
            let missing = wanted.without(level.enabled).and(level.offered);
            if level.can_enable && missing.count() > 0 {
                choices.push(ParentChoice {
                    enable: missing,
                    holds: here.holds.or(missing),
                    ..here
                });
            }
        }
        carried = carried.and(level.bounds);
        if carried.others {
            break;
        }
    }
    // Stable: what is nearer stays before what is farther.
    choices.sort_by_key(|it| (2 - it.holds.count(), it.enable.count()));
    choices
}

/// Our own group's path, out of `/proc/self/cgroup` (cgroups(7)): the one of hierarchy 0 is version 2's.
pub(super) fn own_path(membership: &str) -> Option<&Path> {
    let path = membership.lines().find_map(|line| line.strip_prefix("0::"));
    // What lies outside of our cgroup namespace is shown with `..`.
    let path = path.filter(|path| !path.split('/').any(|part| part == ".."));
    path.map(Path::new)
}

/// The directories of a group and of those above it, as far as a mount shows them, the group's own first.
pub(super) fn directories(mount: &MountLine, own: &Path) -> Option<Vec<PathBuf>> {
    let below = own.strip_prefix(&mount.root).ok()?;
    let directories = below.ancestors().map(|part| mount.path.join(part));
    Some(directories.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Controllers = Controllers {
        memory: true,
        pids: true,
    };
    const NONE: Controllers = Controllers {
        memory: false,
        pids: false,
    };
    const PIDS: Controllers = Controllers {
        memory: false,
        pids: true,
    };

    fn level(is_writable: bool, offered: Controllers, enabled: Controllers) -> Level {
        Level {
            is_writable,
            can_enable: true,
            offered,
            enabled,
            ..Level::default()
        }
    }

    /// The group that the caller is in.
    fn own(is_writable: bool, offered: Controllers) -> Level {
        Level {
            can_enable: false,
            ..level(is_writable, offered, NONE)
        }
    }

    fn first(levels: &[Level], wanted: Controllers) -> Option<(usize, Controllers, Controllers)> {
        let choice = choices(levels, wanted).into_iter().next()?;
        Some((choice.level, choice.enable, choice.holds))
    }

    #[test]
    fn a_scope_of_the_user_manager_gets_a_group_beside_it() {
        // run-u1.scope, app.slice, user@1000.service; then what is root's.
        let levels = [
            own(true, BOTH),
            level(true, BOTH, BOTH),
            level(true, BOTH, BOTH),
            level(false, BOTH, BOTH),
        ];
        assert_eq!(first(&levels, BOTH), Some((1, NONE, BOTH)));
        // Nothing but processor time is wanted: our own group's child.
        assert_eq!(first(&levels, NONE), Some((0, NONE, NONE)));
    }

    #[test]
    fn a_session_of_an_ordinary_user_has_no_place() {
        let levels = [own(false, BOTH), level(false, BOTH, BOTH)];
        assert_eq!(first(&levels, BOTH), None);
    }

    #[test]
    fn controllers_are_enabled_where_nobody_has_enabled_them() {
        // A machine without systemd, everybody in the root.
        let root = level(true, BOTH, NONE);
        assert_eq!(first(&[root], BOTH), Some((0, BOTH, BOTH)));
        // One further up that needs no change is better.
        let levels = [
            own(true, BOTH),
            level(true, BOTH, PIDS),
            level(true, BOTH, BOTH),
        ];
        assert_eq!(first(&levels, BOTH), Some((2, NONE, BOTH)));
        let levels = &levels[..2];
        let memory = Controllers {
            memory: true,
            pids: false,
        };
        assert_eq!(first(levels, BOTH), Some((1, memory, BOTH)));
        assert_eq!(choices(levels, BOTH).len(), 3);
    }

    #[test]
    fn part_of_what_is_wanted_is_better_than_nothing() {
        let levels = [own(true, PIDS), level(true, PIDS, PIDS)];
        assert_eq!(first(&levels, BOTH), Some((1, NONE, PIDS)));
        // As in a container, whose processes are in the one group that it sees.
        assert_eq!(first(&levels[..1], BOTH), Some((0, NONE, NONE)));
    }

    #[test]
    fn what_bounds_us_bounds_the_group_beside_us() {
        let bounded = |memory_bytes, processes, others| Bounds {
            memory_bytes,
            processes,
            others,
        };
        let mut levels = [
            own(true, BOTH),
            level(true, BOTH, NONE),
            level(true, BOTH, BOTH),
        ];
        levels[0].bounds = bounded(Some(4), Some(9), false);
        levels[1].bounds = bounded(Some(7), None, false);
        levels[2].bounds = bounded(Some(1), Some(1), true);
        let choice = choices(&levels, BOTH)[0];
        assert_eq!(
            (choice.level, choice.carried),
            (2, bounded(Some(4), Some(9), false))
        );
        // A share of CPU time cannot be carried over.
        levels[1].bounds.others = true;
        assert!(choices(&levels, BOTH).iter().all(|it| it.level < 2));
        levels[0].bounds.others = true;
        assert_eq!(first(&levels, BOTH), Some((0, NONE, NONE)));
    }

    #[test]
    fn lists_of_controllers_are_read_and_written() {
        assert_eq!(Controllers::parse("cpu io memory pids\n"), BOTH);
        assert_eq!(Controllers::parse("cpuset hugetlb\n"), NONE);
        assert_eq!(BOTH.to_enable().unwrap(), "+memory +pids");
        assert_eq!(PIDS.to_enable().unwrap(), "+pids");
        assert_eq!(NONE.to_enable(), None);
    }

    #[test]
    fn our_own_group_is_found_below_the_mount() {
        let membership = "4:memory:/a\n0::/user.slice/run.scope\n";
        let own = own_path(membership).unwrap();
        assert_eq!(own, Path::new("/user.slice/run.scope"));
        assert_eq!(own_path("4:memory:/a\n"), None);
        assert_eq!(own_path("0::/../other\n"), None);
        let mount = |root: &str| MountLine {
            id: 1,
            parent: 1,
            device: "0:1".to_owned(),
            root: root.into(),
            path: "/sys/fs/cgroup".into(),
            kind: "cgroup2".to_owned(),
        };
        let dirs = directories(&mount("/"), own).unwrap();
        let expected = ["/user.slice/run.scope", "/user.slice", ""];
        assert_eq!(
            dirs,
            expected.map(|dir| PathBuf::from(format!("/sys/fs/cgroup{dir}")))
        );
        let dirs = directories(&mount("/user.slice"), own).unwrap();
        assert_eq!(dirs.len(), 2);
        assert_eq!(dirs[0], Path::new("/sys/fs/cgroup/run.scope"));
        assert_eq!(directories(&mount("/system.slice"), own), None);
    }
}

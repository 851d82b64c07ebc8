//! The ways in which a tool meets the file system, each with a tmpfs directory beside it.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};

use rustix::mount::{MountFlags, UnmountFlags};
use tempfile::TempDir;

use super::case::{Case, Needs, PERFORM};
use super::compare;
use super::differences::Side;

/// An ordinary user that every system has (daemon or bin). Not 65534, which is what a user namespace calls all users
/// that it does not map.
const ORDINARY_USER: u32 = 1;

/// How a case gets at the mount, and as whom; see the table in `main.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setting {
    Root,
    Guest,
    User,
    RunRoot,
    RunUser,
}

impl Setting {
    /// Those that exist for the user who runs the tests.
    pub fn existing() -> &'static [Self] {
        if rustix::process::geteuid().is_root() {
            &[
                Self::Root,
                Self::Guest,
                Self::User,
                Self::RunRoot,
                Self::RunUser,
            ]
        } else {
            &[Self::User, Self::RunUser]
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Guest => "guest",
            Self::User => "user",
            Self::RunRoot => "run_root",
            Self::RunUser => "run_user",
        }
    }

    pub fn allows(self, case: &Case) -> bool {
        match case.needs {
            Needs::Anyone => true,
            Needs::Root => matches!(self, Self::Root | Self::RunRoot),
            // A private mount lets nobody else in.
            Needs::Others => self == Self::Root,
        }
    }

    /// The user to become for it.
    fn user(self) -> Option<u32> {
        let others = matches!(self, Self::Guest | Self::User | Self::RunUser);
        (others && rustix::process::geteuid().is_root()).then_some(ORDINARY_USER)
    }
}

/// What all settings share: the programs and the mounts, made when first needed.
#[derive(Debug)]
pub struct Mounts {
    /// Open to every user, as `target/` and what is above it need not be.
    dir: TempDir,
    root_mount: OnceLock<Result<PathBuf, String>>,
    user_mount: OnceLock<Result<PathBuf, String>>,
    tmpfs: OnceLock<Result<PathBuf, String>>,
    /// Held while a setting's directory is made.
    making: Mutex<()>,
    /// What `close` has to undo, in the order in which it was done.
    mounted: Mutex<Vec<Mounted>>,
}

#[derive(Debug)]
enum Mounted {
    Notapipe { at: PathBuf, user: Option<u32> },
    Tmpfs(PathBuf),
    DirectoryOnTmpfs(TempDir),
}

/// Tools must see no difference between the two.
fn profile() -> String {
    std::env::var("NOTAPIPE_PROFILE").unwrap_or_else(|_| "fast".to_owned())
}

impl Mounts {
    pub fn new() -> io::Result<Arc<Self>> {
        let dir = tempfile::Builder::new()
            .prefix("notapipe-posix.")
            .tempdir()?;
        fs::set_permissions(&dir, Permissions::from_mode(0o755))?;
        provide_program(
            Path::new(env!("CARGO_BIN_EXE_notapipe")),
            &dir.path().join("notapipe"),
        )?;
        provide_program(&std::env::current_exe()?, &dir.path().join("posix"))?;
        Ok(Arc::new(Self {
            dir,
            root_mount: OnceLock::new(),
            user_mount: OnceLock::new(),
            tmpfs: OnceLock::new(),
            making: Mutex::default(),
            mounted: Mutex::default(),
        }))
    }

    fn notapipe(&self) -> PathBuf {
        self.dir.path().join("notapipe")
    }

    /// The command that performs a case in the mount, as this setting has it.
    pub fn in_mount(&self, setting: Setting, case: &Case) -> Result<Command, String> {
        let mut command = match setting {
            Setting::Root | Setting::Guest => {
                let base = self.made_for(setting, &self.root_mount()?)?;
                self.perform(Side::Mount, case, &base)
            }
            Setting::User => self.perform(Side::Mount, case, &self.user_mount()?),
            Setting::RunRoot | Setting::RunUser => {
                // Extended attributes, as a mount has them: `run` leaves them out by default.
                let mut run = Command::new(self.notapipe());
                run.args(["run", "--xattr", "--profile", &profile(), "--"])
                    .arg(self.dir.path().join("posix"));
                run.args([PERFORM, Side::Mount.name(), &case.full_name(), "."]);
                run
            }
        };
        become_user(&mut command, setting.user());
        Ok(command)
    }

    /// The command that performs a case on tmpfs, as the same user.
    pub fn on_tmpfs(&self, setting: Setting, case: &Case) -> Result<Command, String> {
        let base = self.made_for(setting, &self.tmpfs()?)?;
        let mut command = self.perform(Side::Tmpfs, case, &base);
        become_user(&mut command, setting.user());
        Ok(command)
    }

    /// A directory for a setting's cases, which its user may fill.
    fn made_for(&self, setting: Setting, base: &Path) -> Result<PathBuf, String> {
        // Cases start side by side: none may find it made and not yet open.
        let _alone = self.making.lock().unwrap();
        let dir = base.join(setting.name());
        if !dir.exists() {
            fs::create_dir(&dir)
                .and_then(|()| fs::set_permissions(&dir, Permissions::from_mode(0o1777)))
                .map_err(|error| format!("cannot make {}: {error}", dir.display()))?;
        }
        Ok(dir)
    }

    fn perform(&self, side: Side, case: &Case, dir: &Path) -> Command {
        let mut command = Command::new(self.dir.path().join("posix"));
        command
            .args([PERFORM, side.name(), &case.full_name()])
            .arg(dir);
        command
    }

    fn root_mount(&self) -> Result<PathBuf, String> {
        self.root_mount
            .get_or_init(|| self.mount("root", None, &["--allow-other"]))
            .clone()
    }

    fn user_mount(&self) -> Result<PathBuf, String> {
        self.user_mount
            .get_or_init(|| self.mount("user", Setting::User.user(), &[]))
            .clone()
    }

    fn mount(&self, name: &str, user: Option<u32>, options: &[&str]) -> Result<PathBuf, String> {
        let at = self.dir.path().join(name);
        fs::create_dir(&at).map_err(|error| format!("cannot make {}: {error}", at.display()))?;
        if let Some(id) = user {
            chown(&at, Some(id), Some(id)).map_err(|error| format!("chown: {error}"))?;
        }
        let mut command = Command::new(self.notapipe());
        command
            .args(["mount", "--background", "--mode", "1777"])
            .args(["--profile", &profile()])
            .args(options)
            .arg(&at);
        become_user(&mut command, user);
        compare::must_succeed(&mut command)?;
        self.mounted.lock().unwrap().push(Mounted::Notapipe {
            at: at.clone(),
            user,
        });
        Ok(at)
    }

    /// As root a tmpfs of our own, mounted as notapipe mounts (nosuid, nodev), on which nobody else
    /// writes. Otherwise a directory on the one that every user has.
    fn tmpfs(&self) -> Result<PathBuf, String> {
        let make = || -> io::Result<PathBuf> {
            let made = if rustix::process::geteuid().is_root() {
                let at = self.dir.path().join("tmpfs");
                fs::create_dir(&at)?;
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                rustix::mount::mount("tmpfs", &at, "tmpfs", flags, Some(c"mode=1777"))?;
                (at.clone(), Mounted::Tmpfs(at))
            } else {
                let dir = tempfile::Builder::new()
                    .prefix("notapipe-posix.")
                    .tempdir_in("/dev/shm")?;
                (dir.path().to_owned(), Mounted::DirectoryOnTmpfs(dir))
            };
            self.mounted.lock().unwrap().push(made.1);
            Ok(made.0)
        };
        self.tmpfs
            .get_or_init(|| make().map_err(|error| format!("no tmpfs to compare with: {error}")))
            .clone()
    }

    /// Unmounts all, and looks that it is gone.
    pub fn close(&self) -> Result<(), String> {
        let mut failures = Vec::new();
        for mounted in self.mounted.lock().unwrap().drain(..).rev() {
            let undone = match mounted {
                Mounted::Notapipe { at, user } => self.umount(&at, user),
                Mounted::Tmpfs(at) => rustix::mount::unmount(&at, UnmountFlags::empty())
                    .map_err(|error| format!("umount {}: {error}", at.display())),
                Mounted::DirectoryOnTmpfs(dir) => dir
                    .close()
                    .map_err(|error| format!("removing what was on tmpfs: {error}")),
            };
            failures.extend(undone.err());
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(failures.join("\n"))
        }
    }

    fn umount(&self, at: &Path, user: Option<u32>) -> Result<(), String> {
        let mut command = Command::new(self.notapipe());
        command.arg("umount").arg(at);
        become_user(&mut command, user);
        let unmounted = compare::must_succeed(&mut command);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        if mounts.contains(&*at.to_string_lossy()) {
            // Nothing may stay behind for the next run, and what hangs in it must end.
            let _ = rustix::mount::unmount(at, UnmountFlags::DETACH | UnmountFlags::FORCE);
            return Err(format!(
                "{} is still mounted after umount: {unmounted:?}",
                at.display()
            ));
        }
        unmounted
    }
}

/// As a hard link where that is possible: programs with debug information are large, and a runner that
/// starts a process for each test does this for each test.
fn provide_program(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop))?;
    fs::set_permissions(to, Permissions::from_mode(0o755))
}

fn become_user(command: &mut Command, user: Option<u32>) {
    if let Some(id) = user {
        // Also gives up the supplementary groups.
        command.uid(id).gid(id);
        // What root's environment points at is not for this user.
        command
            .env("HOME", "/nonexistent")
            .env_remove("XDG_RUNTIME_DIR");
    }
}

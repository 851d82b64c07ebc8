//! What clap reads of `notapipe mount`, with its help.

use std::path::PathBuf;

use clap::Args;
use notapipe::Profile;

use super::args::{LimitArgs, VerbosityArgs, one_of};
use super::config::{Caller, Filling, MountConfig};
use super::mount_options::{self, MountOptionError};

const ABOUT: &str = "\
Mount a directory in RAM, with limits, without root.

It lives until `notapipe umount DIR`, Ctrl-C or the end of this process; then all of it is gone,
unless --save keeps it.";

const AFTER: &str = "\
Filling and saving:
  --from project               all that is in the directory; changes do not go back to it
  --from tree.tar.zst          a tar (plain, gzip, zstd, xz) or a zip, told by its content
  --from -                     an archive on standard input
  --save tree.tar.zst          written when it is unmounted, beside the old file, then renamed
  --save out/                  a directory (with the closing `/`, or one that is there). It is
                               replaced as a whole, at one moment, and so must be absent, empty,
                               or the directory that --from named
  What ends the mount does not matter: `notapipe umount`, umount(8), fusermount3 -u, Ctrl-C, SIGTERM.
  `notapipe umount` returns when all is saved, umount(8) at once. If it cannot be saved there, it is
  put into an archive in the directory for temporary files, and the message says where.
  kill -9 and a loss of power save nothing.

Options for fstab (-o):
  size=1G  inodes=N  mode=755  uid=N  gid=N  ro  allow_other  nonempty  from=SRC  save=DEST
  dev  suid  noexec (dev and suid as root)
  `mount -t fuse.notapipe NAME DIR -o size=1G` and such a line in /etc/fstab work when notapipe is
  in root's PATH and mount.fuse3 (package fuse3) is there:

      notapipe  /scratch  fuse.notapipe  size=4G,mode=1777,allow_other  0  0

Examples:
  notapipe mount --size 1G --background /tmp/scratch
  notapipe umount /tmp/scratch
  notapipe mount --from src.tar.gz --save src.tar.gz --background work
  curl -s $URL | notapipe mount --from - --background --read-only /tmp/look";

/// `notapipe mount`.
#[derive(Debug, Args)]
#[command(about = "Mount a directory in RAM", long_about = ABOUT, after_long_help = AFTER)]
pub struct MountArgs {
    /// An existing directory
    #[arg(value_hint = clap::ValueHint::DirPath)]
    dir: PathBuf,

    #[command(flatten)]
    limits: LimitArgs,

    /// Fill it from a directory or an archive; `-` is an archive on standard input
    #[arg(long, value_name = "SRC", value_hint = clap::ValueHint::AnyPath)]
    from: Option<PathBuf>,

    /// Write what it holds to an archive or a directory when it is unmounted
    #[arg(long, value_name = "DEST", value_hint = clap::ValueHint::AnyPath)]
    save: Option<PathBuf>,

    /// Return when it is ready, and serve it in the background
    #[arg(long)]
    background: bool,

    /// Permission bits of the root directory, in octal
    #[arg(long, default_value = "700", value_parser = mode)]
    mode: u32,

    /// Owner of the root directory, instead of the caller
    #[arg(long)]
    uid: Option<u32>,

    /// Group of the root directory, instead of the caller's
    #[arg(long)]
    gid: Option<u32>,

    /// Let other users in, as far as the permission bits allow
    #[arg(long)]
    allow_other: bool,

    /// Make it read-only
    #[arg(long)]
    read_only: bool,

    /// What df and findmnt show as its source
    #[arg(long)]
    name: Option<String>,

    /// What it sees of opens and closes: nothing, which is fastest, or all of them
    #[arg(long, value_name = "PROFILE", value_parser = one_of!(Profile), default_value_t)]
    profile: Profile,

    /// Options as a line of fstab has them: `size=1G,mode=755,ro`
    #[arg(short = 'o', value_name = "OPTIONS")]
    options: Vec<String>,

    #[command(flatten)]
    verbosity: VerbosityArgs,
}

impl MountArgs {
    /// The configuration; what `-o` says comes last and wins.
    pub fn config(self) -> Result<MountConfig, MountOptionError> {
        let mut config = MountConfig {
            dir: self.dir,
            limits: self.limits,
            from: self.from.map(filling),
            save: self.save,
            background: self.background,
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            allow_other: self.allow_other,
            read_only: self.read_only,
            devices: false,
            set_user_id: false,
            no_exec: false,
            nonempty: false,
            name: self.name,
            profile: self.profile,
            caller: Caller::Person,
            verbosity: self.verbosity.into(),
        };
        for options in &self.options {
            mount_options::apply(options, &mut config)?;
        }
        Ok(config)
    }
}

/// `700`, `1777`: permission bits in octal.
pub fn mode(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o1777 => Ok(mode),
        _ => Err("write permission bits in octal, such as 700 or 1777".to_owned()),
    }
}

/// A value of `--from`.
pub fn filling(source: PathBuf) -> Filling {
    match source.as_os_str().as_encoded_bytes() {
        b"-" => Filling::Stdin,
        _ => Filling::Host(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        assert_eq!(mode("700"), Ok(0o700));
        assert_eq!(mode("1777"), Ok(0o1777));
        for text in ["", "8", "+700", "2000", "rwx", "77777"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}

//! `-o`: the mount options that an fstab line needs, and calls of this program by mount(8).

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use notapipe::run::words;
use notapipe::text::quoted;

use super::config::MountConfig;
use super::mount_args::{filling, mode};

/// An option that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountOptionError {
    /// No option has this name.
    #[error("there is no mount option {name}", name = quoted(name))]
    Unknown {
        /// As it was written.
        name: String,
    },
    /// Its value makes no sense, or is missing.
    #[error("the mount option {name}={value} cannot be used", value = quoted(value))]
    Value {
        /// Its name.
        name: String,
        /// As it was written; empty where there is none.
        value: String,
        /// What to write.
        remedy: String,
    },
}

impl MountOptionError {
    /// What to write instead.
    pub fn remedy(&self) -> String {
        match self {
            Self::Unknown { .. } => {
                "options are size, inodes, mode, uid, gid, ro, allow_other, nonempty, from, save, \
                 dev, suid, noexec"
                    .to_owned()
            }
            Self::Value { remedy, .. } => remedy.clone(),
        }
    }
}

/// Options that change nothing here: mount(8) has dealt with them, or they are about times of reading, which move as
/// with noatime.
const IGNORED: &str = "defaults auto noauto user users nouser owner group nofail _netdev async sync \
    atime noatime diratime nodiratime relatime norelatime strictatime nostrictatime lazytime nolazytime";

/// Sets what a list of options says.
pub fn apply(options: &str, config: &mut MountConfig) -> Result<(), MountOptionError> {
    let mut options = options.split(',').filter(|option| !option.is_empty());
    options.try_for_each(|option| apply_one(option, config))
}

fn apply_one(option: &str, config: &mut MountConfig) -> Result<(), MountOptionError> {
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (option, None),
    };
    let refuse = |remedy: String| MountOptionError::Value {
        name: name.to_owned(),
        value: value.unwrap_or_default().to_owned(),
        remedy,
    };
    let text = || {
        let given = value.filter(|value| !value.is_empty());
        given.ok_or_else(|| refuse(format!("write {name}=VALUE")))
    };
    let id = || {
        let id = text()?.parse().map(Some);
        id.map_err(|_| refuse("write the number of a user or group".to_owned()))
    };
    match (name, value) {
        ("size", _) => config.limits.size = Some(words::size(text()?).map_err(refuse)?),
        ("inodes" | "nr_inodes", _) => {
            config.limits.inodes = Some(words::inodes(text()?).map_err(refuse)?);
        }
        ("mode", _) => config.mode = mode(text()?).map_err(refuse)?,
        ("uid", _) => config.uid = id()?,
        ("gid", _) => config.gid = id()?,
        ("from", _) => config.from = Some(filling(text()?.into())),
        ("save", _) => config.save = Some(text()?.into()),
        ("subtype", Some("notapipe")) => {}
        ("ro", None) => config.read_only = true,
        ("rw", None) => config.read_only = false,
        ("allow_other", None) => config.allow_other = true,
        ("nonempty", None) => config.nonempty = true,
        ("dev", None) => config.devices = true,
        ("nodev", None) => config.devices = false,
        ("suid", None) => config.set_user_id = true,
        ("nosuid", None) => config.set_user_id = false,
        ("exec", None) => config.no_exec = false,
        ("noexec", None) => config.no_exec = true,
        (_, None) if IGNORED.split(' ').any(|ignored| ignored == name) => {}
        // Of systemd and other programs that read fstab.
        _ if name.starts_with("x-") || name.starts_with("X-") => {}
        _ => {
            return Err(MountOptionError::Unknown {
                name: name.to_owned(),
            });
        }
    }
    Ok(())
}

/// How mount(8) and its helper mount.fuse3 call a program for a file system of its type: the words of
/// `notapipe mount` for it; none when this is no such call.
///
/// mount.fuse3 runs `notapipe SOURCE DIR -o OPTIONS` through a shell (libfuse's util/mount.fuse.c), to which it adds
/// `dev` and `suid` unless told otherwise. As `/sbin/mount.fuse.notapipe` we are called by mount(8) itself, `SOURCE DIR
/// [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]` (mount(8), EXTERNAL HELPERS). The name of one of our
/// commands is that command, also where a source has such a name.
pub fn of_mount8(words: &[OsString], is_command: impl Fn(&OsStr) -> bool) -> Option<Vec<OsString>> {
    let program = std::path::Path::new(words.first()?).file_name()?;
    let by_name = ["mount.fuse.notapipe", "mount.notapipe"]
        .iter()
        .any(|name| program == *name);
    let [source, dir, rest @ ..] = words.get(1..)? else {
        return None;
    };
    let as_helper =
        rest.len() == 2 && rest[0] == "-o" && !is_command(source) && !starts_with_dash(source);
    if !by_name && !as_helper {
        return None;
    }
    let mut line: Vec<OsString> = vec!["notapipe".into(), "mount".into(), "--background".into()];
    if !source.is_empty() && source != "none" {
        line.push(OsString::from_vec([b"--name=", source.as_bytes()].concat()));
    }
    let mut rest = rest.iter();
    while let Some(word) = rest.next() {
        match word.as_bytes() {
            b"-o" => line.extend(
                rest.next()
                    .map(|options| OsString::from_vec([b"-o", options.as_bytes()].concat())),
            ),
            // A namespace, a type.
            b"-N" | b"-t" => drop(rest.next()),
            _ => {}
        }
    }
    line.extend(["--".into(), dir.clone()]);
    Some(line)
}

fn starts_with_dash(word: &OsStr) -> bool {
    word.as_bytes().starts_with(b"-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_mount8_are_known() {
        let translated = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            let line = of_mount8(&words, |word| word == "mount" || word == "run")?;
            Some(line.join(OsStr::new(" ")).into_string().unwrap())
        };
        let expected =
            Some("notapipe mount --background --name=src -orw,size=1G -- /mnt".to_owned());
        assert_eq!(
            translated(&["notapipe", "src", "/mnt", "-o", "rw,size=1G"]),
            expected
        );
        let by_name = [
            "/sbin/mount.fuse.notapipe",
            "src",
            "/mnt",
            "-n",
            "-v",
            "-o",
            "rw,size=1G",
            "-t",
            "fuse.notapipe",
        ];
        assert_eq!(translated(&by_name), expected);
        assert_eq!(
            translated(&["mount.notapipe", "none", "/mnt"]),
            Some("notapipe mount --background -- /mnt".to_owned())
        );
        for ours in [
            &["notapipe", "mount", "/mnt", "-o", "ro"][..],
            &["notapipe", "-q", "x", "-o", "y"],
            &["notapipe", "list"],
        ] {
            assert_eq!(translated(ours), None, "{ours:?}");
        }
    }
}

//! `-o`: mount options as mount(8) and fstab(5) write them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::ValueEnum;

use notapipe::text::quoted;

use super::config::{MountConfig, Profile};
use super::mount_args::filling;
use super::size;

/// An option that cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MountOptionError {
    /// Nobody knows it.
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
                                     fsname, profile, dev, suid, noexec"
                    .to_owned()
            }
            Self::Value { remedy, .. } => remedy.clone(),
        }
    }
}

/// Options of mount(8) that ask nothing of us: it has dealt with them, they are the case anyway, or they are about times
/// of reading, which move as with noatime.
const PASSED_OVER: &[&str] = &[
    "",
    "defaults",
    "auto",
    "noauto",
    "user",
    "users",
    "nouser",
    "owner",
    "group",
    "nofail",
    "_netdev",
    "async",
    "sync",
    "dirsync",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "lazytime",
    "nolazytime",
    "silent",
    "loud",
    "mand",
    "nomand",
    "iversion",
    "noiversion",
    "default_permissions",
    "rw",
];

/// Sets what a list of options says.
pub fn apply(options: &OsStr, config: &mut MountConfig) -> Result<(), MountOptionError> {
    split(options)
        .into_iter()
        .try_for_each(|option| apply_one(&option, config))
}

fn apply_one(option: &[u8], config: &mut MountConfig) -> Result<(), MountOptionError> {
    let (name, value) = match option.iter().position(|&byte| byte == b'=') {
        Some(at) => (&option[..at], Some(OsStr::from_bytes(&option[at + 1..]))),
        None => (option, None),
    };
    let name = String::from_utf8_lossy(name).into_owned();
    let refuse = |remedy: &str| MountOptionError::Value {
        name: name.clone(),
        value: value.unwrap_or_default().to_string_lossy().into_owned(),
        remedy: remedy.to_owned(),
    };
    let text = || {
        let text = value.filter(|value| !value.is_empty());
        text.and_then(OsStr::to_str)
            .ok_or_else(|| refuse(&format!("write {name}=VALUE")))
    };
    let id = || {
        let text = text()?;
        text.parse::<u32>()
            .map(Some)
            .map_err(|_| refuse("write the number of a user or group"))
    };
    match name.as_str() {
        "size" => config.limits.size = Some(size::size(text()?).map_err(|e| refuse(&e))?),
        "inodes" | "nr_inodes" => {
            config.limits.inodes = Some(size::inodes(text()?).map_err(|e| refuse(&e))?);
        }
        "mode" => config.mode = size::mode(text()?).map_err(|e| refuse(&e))?,
        "uid" => config.uid = id()?,
        "gid" => config.gid = id()?,
        "fsname" | "name" => config.name = Some(text()?.to_owned()),
        "subtype" if value == Some(OsStr::new("notapipe")) => {}
        "profile" => {
            config.profile = Profile::from_str(text()?, false)
                .map_err(|_| refuse("write profile=fast or profile=observed"))?;
        }
        "from" => config.from = Some(filling(path(value, &refuse)?)),
        "save" => config.save = Some(path(value, &refuse)?),
        // The rest has no value, apart from what is nobody's but mount(8)'s.
        _ if name.starts_with("x-") || name.starts_with("X-") || name == "comment" => {}
        _ if value.is_some() => return Err(MountOptionError::Unknown { name }),
        "ro" => config.read_only = true,
        "allow_other" => config.allow_other = true,
        "nonempty" => config.nonempty = true,
        "dev" => config.devices = true,
        "nodev" => config.devices = false,
        "suid" => config.set_user_id = true,
        "nosuid" => config.set_user_id = false,
        "exec" => config.no_exec = false,
        "noexec" => config.no_exec = true,
        known if PASSED_OVER.contains(&known) => {
            if known == "rw" {
                config.read_only = false;
            }
        }
        _ => return Err(MountOptionError::Unknown { name }),
    }
    Ok(())
}

fn path(
    value: Option<&OsStr>,
    refuse: &dyn Fn(&str) -> MountOptionError,
) -> Result<std::path::PathBuf, MountOptionError> {
    let value = value.filter(|value| !value.is_empty());
    value
        .map(Into::into)
        .ok_or_else(|| refuse("write the path of a directory or an archive"))
}

/// The options between commas; a backslash before a comma or a backslash makes it a part of the value, as for libfuse.
fn split(options: &OsStr) -> Vec<Vec<u8>> {
    let mut found = vec![Vec::new()];
    let mut bytes = options.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b',' => found.push(Vec::new()),
            _ => {
                let escaped = byte == b'\\' && matches!(bytes.peek(), Some(b',' | b'\\'));
                let byte = if escaped { bytes.next() } else { Some(byte) };
                if let Some(last) = found.last_mut() {
                    last.extend(byte);
                }
            }
        }
    }
    found
}

/// How mount(8) and its helper mount.fuse3 call a program for a file system of its type: the words of
/// `notapipe mount` that mean the same; none when this is no such call.
///
/// mount.fuse3 runs `notapipe SOURCE DIR -o OPTIONS` through a shell (libfuse's util/mount.fuse.c), to which it adds
/// `dev` and `suid` unless told otherwise. As `/sbin/mount.fuse.notapipe` we are called by mount(8) itself, `SOURCE DIR
/// [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]` (mount(8), EXTERNAL HELPERS). The name of a command of ours is a
/// command, also when somebody calls a source so.
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
    fn commas_can_be_written() {
        let text = |options: &str| -> Vec<String> {
            let split = split(OsStr::new(options)).into_iter();
            split
                .map(|option| String::from_utf8(option).unwrap())
                .collect()
        };
        assert_eq!(text("a,b=c"), ["a", "b=c"]);
        assert_eq!(text(r"a=b\,c,d"), ["a=b,c", "d"]);
        assert_eq!(text(r"a=b\\,d"), [r"a=b\", "d"]);
        assert_eq!(text(r"a=\n"), [r"a=\n"]);
        assert_eq!(text(""), [""]);
    }

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

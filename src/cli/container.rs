//! What a job has where there is no FUSE, and how a container is started that has it.

use std::fs::{self, File};

use notapipe::ByteCount;
use notapipe::mount::{BackedBy, MountError, Operation, Remedy, Storage};
use notapipe::text::shown;

/// What would make private mounts work: the options of `docker run` that this container lacks, unless it is known to be
/// something else.
pub fn remedy(refused: &MountError, storage: Storage) -> String {
    match refused.remedy() {
        None | Some(Remedy::ProvideDevice | Remedy::OpenUpDevice | Remedy::LoosenSandbox) => {
            format!(
                "a container is started with docker run {}",
                flags(refused, storage).join(" ")
            )
        }
        Some(remedy) => remedy.to_string(),
    }
}

fn flags(refused: &MountError, storage: Storage) -> Vec<&'static str> {
    let mut flags = Vec::new();
    if File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .is_err()
    {
        flags.push("--device /dev/fuse");
    }
    // Who may mount a tmpfs in namespaces lacks the device alone.
    let may_mount = storage == Storage::OwnTmpfs && !is_refused_to_mount(refused);
    if !may_mount {
        flags.push("--cap-add SYS_ADMIN");
        if is_confined() {
            flags.push("--security-opt apparmor=unconfined");
        }
    }
    flags
}

fn is_refused_to_mount(refused: &MountError) -> bool {
    match refused {
        MountError::Neither { private, .. } => is_refused_to_mount(private),
        MountError::System { operation, .. } => *operation != Operation::OpenDevice,
        _ => false,
    }
}

/// By an AppArmor profile, such as docker-default, which allows no mount(2).
fn is_confined() -> bool {
    let profile = [
        "/proc/self/attr/apparmor/current",
        "/proc/self/attr/current",
    ]
    .iter()
    .find_map(|file| fs::read_to_string(file).ok());
    profile.is_some_and(|profile| {
        !profile.trim_end_matches(['\0', '\n']).is_empty() && !profile.starts_with("unconfined")
    })
}

/// Where a job runs, how large that is, and what is not as in a mount.
pub fn words(backed: &BackedBy) -> String {
    let (place, size) = (shown(&backed.directory), ByteCount(backed.limits.bytes));
    let mut words = match backed.storage {
        Storage::OwnTmpfs => format!("on a tmpfs of its own at {place}, of {size}"),
        Storage::Disk => format!(
            "ON DISK, in {place}, with room for {size}, as no tmpfs has room for its inputs; \
             its limits are watched and not enforced"
        ),
        _ => format!(
            "in a directory on tmpfs, {place}, with room for {size}; its limits are watched and not enforced"
        ),
    };
    if backed.no_exec {
        words += "; programs that it makes cannot be executed there (noexec: docker run --tmpfs /tmp:exec)";
    }
    if backed.stays_when_killed {
        words += "; it stays if notapipe is killed, as there is no /bin/sh to remove it";
    }
    words
}

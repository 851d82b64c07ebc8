//! `--from`: what a mount holds at the beginning.

use std::error::Error;
use std::path::Path;

use notapipe::Interrupt;
use notapipe::archive::Unpack;
use notapipe::stage::{Owner, Stage, Staged};
use notapipe::store::{Timestamp, Tree, TreePath};

use super::config::{Filling, MountConfig, Verbosity};
use super::progress::Line;
use super::{report, streams};

/// A tree as the configuration wants it, filled. Nothing is mounted yet, so that no process sees half of it.
pub fn tree(config: &MountConfig, interrupt: &Interrupt) -> Result<Tree, Box<dyn Error>> {
    let owner = Owner {
        uid: config
            .uid
            .unwrap_or_else(|| rustix::process::geteuid().as_raw()),
        gid: config
            .gid
            .unwrap_or_else(|| rustix::process::getegid().as_raw()),
    };
    let now = Timestamp::now();
    let limits = config.limits.limits();
    let mut tree = Tree::new(limits, config.mode, owner.uid, owner.gid, now);
    let Some(filling) = &config.from else {
        return Ok(tree);
    };
    let listener = Line::new("filling", config.verbosity).listener(interrupt.clone());
    let staged = match filling {
        Filling::Host(path) if path.is_dir() => {
            let mut stage = Stage::new(&mut tree, owner, now).listen(listener);
            if config.uid.is_none() && config.gid.is_none() {
                stage = stage.keep_metadata();
            }
            directory(stage, path)?
        }
        Filling::Host(path) => Unpack::new(&mut tree, owner, now)
            .listen(listener)
            .host(path)?,
        Filling::Stdin => Unpack::new(&mut tree, owner, now)
            .listen(listener)
            .read(streams::input()?)?,
    };
    if config.verbosity >= Verbosity::Normal && !staged.skipped.is_empty() {
        report::warning(&staged.skipped.to_string());
    }
    Ok(tree)
}

fn directory(mut stage: Stage<'_>, path: &Path) -> Result<Staged, Box<dyn Error>> {
    stage.host(&TreePath::root(), path)?;
    Ok(stage.finish())
}

//! `notapipe mount`: a scratch directory in RAM, in the foreground or behind.

use std::error::Error as StdError;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use notapipe::control::{Description, Server, Unmounted};
use notapipe::mount::{MountError, MountOptions, Visibility};
use notapipe::scratch::Handle;
use notapipe::store::Tree;
use notapipe::{Error, Interrupt, Scratch};

use super::background::{self, ReadySignal};
use super::config::{Caller, Filling, MountConfig, Verbosity};
use super::lost::LostPages;
use super::save::{SavedFrom, Saving};
use super::signals::{Signals, Watch};
use super::staging::Staging;
use super::trim::Trim;
use super::{exit, fill, log, report, socket_dir};

/// How often is looked whether memory can be given back.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Mounts, and serves until it is unmounted or a signal comes.
pub fn mount(mut config: MountConfig, signals: Signals) -> ExitCode {
    if config.verbosity >= Verbosity::Debug {
        log::tell();
    }
    let failed = failed_code(&config);
    let refuse = |error: &(dyn StdError + 'static)| {
        report::failure(error);
        ExitCode::from(failed)
    };
    let saving = match absolute(&mut config) {
        Ok(saving) => saving,
        Err(error) => return refuse(&*error),
    };
    if !config.background {
        return serve(&config, saving, signals, None);
    }
    match background::detach(signals) {
        Ok(background::Fork::Caller(waiting)) => waiting.wait(),
        Ok(background::Fork::Server(ready, signals)) => {
            serve(&config, saving, signals, Some(ready))
        }
        Err(error) => refuse(&error),
    }
}

/// Makes all paths hold wherever we are: a server behind has the root as its working directory.
fn absolute(config: &mut MountConfig) -> Result<Option<Saving>, Box<dyn StdError>> {
    let failed = |source| NoDirectory {
        dir: config.dir.clone(),
        source,
    };
    // What is mounted over is looked up again, once.
    let dir = fs::canonicalize(&config.dir).map_err(failed)?;
    config.dir = std::path::absolute(&config.dir).map_err(failed)?;
    if let Some(Filling::Host(path)) = &mut config.from {
        *path = std::path::absolute(&path)?;
    }
    let saving = config.save.as_ref().map(|place| {
        let from = SavedFrom::Mount {
            dir: &dir,
            filling: config.from.as_ref(),
        };
        Saving::preflight(place, from, config.verbosity)
    });
    Ok(saving.transpose()?)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot mount over {dir:?}")]
struct NoDirectory {
    dir: std::path::PathBuf,
    source: std::io::Error,
}

/// mount(8) has exit codes of its own.
fn failed_code(config: &MountConfig) -> u8 {
    match config.caller {
        Caller::Person => exit::FAILED,
        Caller::Mount8 => exit::MOUNT8_FAILED,
    }
}

fn serve(
    config: &MountConfig,
    saving: Option<Saving>,
    signals: Signals,
    ready: Option<ReadySignal>,
) -> ExitCode {
    let served = (|| {
        let interrupt = Interrupt::new()?;
        let staging = Staging::default();
        let watch = signals.watch(|| false, {
            let (interrupt, staging) = (interrupt.clone(), staging.clone());
            move |signal| {
                interrupt.raise();
                staging.end_by(signal);
            }
        })?;
        let filled = {
            let _guard = staging.guard();
            fill::tree(config, &interrupt)
        };
        let result = match filled {
            Err(_) if interrupt.is_raised() => Ok(Ended::Early),
            Err(error) => Err(error),
            Ok(tree) => try_serve(config, tree, saving, &interrupt, &watch, ready),
        };
        Ok::<_, Box<dyn StdError>>((result, watch.received()))
    })();
    let (result, signal) = match served {
        Ok((result, signal)) => (result, signal),
        Err(error) => (Err(error), None),
    };
    match (result, signal) {
        (Ok(Ended::Whole), None) => ExitCode::SUCCESS,
        // What was interrupted has no more to say.
        (Ok(Ended::Whole), Some(signal)) | (Ok(Ended::Early), Some(signal)) => {
            ExitCode::from(signal.exit_code())
        }
        (Ok(Ended::Early), None) => ExitCode::from(failed_code(config)),
        (Err(error), _) => {
            report::failure(&*error);
            ExitCode::from(failed_code(config))
        }
    }
}

/// How serving ended.
enum Ended {
    /// Unmounted, and saved.
    Whole,
    /// A signal came before it was mounted.
    Early,
}

fn try_serve(
    config: &MountConfig,
    tree: Tree,
    saving: Option<Saving>,
    interrupt: &Interrupt,
    watch: &Watch,
    ready: Option<ReadySignal>,
) -> Result<Ended, Box<dyn StdError>> {
    let scratch = build(config, tree)?;
    let server = control(config, saving.as_ref(), &scratch);
    if config.verbosity >= Verbosity::Verbose {
        report::note(&format!("{} is ready", scratch.path().display()));
    }
    if let Some(ready) = ready {
        ready.tell()?;
    }
    idle(&scratch, interrupt)?;
    let limit_bytes = scratch.usage().limits.bytes;
    let is_copied = watch.received().is_none() && scratch.is_in_use();
    let (ended, copied) = match is_copied {
        true => (unmounted(&scratch.handle(), saving, true), Some(scratch)),
        false => (end(scratch, saving, watch), None),
    };
    if let Some(server) = server {
        let told = ended.as_ref().map_err(|error| report::chain(&**error));
        server.finish(told.cloned());
    }
    if let Some(copied) = copied {
        serve_copies(&copied, interrupt)?;
    }
    LostPages::check(ended?.lost_files, limit_bytes)?;
    Ok(Ended::Whole)
}

/// Serves what is left of a mount that was unmounted and saved.
fn serve_copies(scratch: &Scratch, interrupt: &Interrupt) -> std::io::Result<()> {
    report::warning(&format!(
        "{:?} is unmounted; a bind mount or another mount namespace has a copy that is used, and served until it is not: \
         what is written there is not saved",
        scratch.path()
    ));
    scratch.wait_unused(interrupt)
}

/// Waits for the end, and gives memory back meanwhile.
fn idle(scratch: &Scratch, interrupt: &Interrupt) -> std::io::Result<()> {
    let mut trim = Trim::default();
    while !scratch.wait_for(interrupt, LOOK_EVERY)? {
        trim.look(scratch.usage());
    }
    Ok(())
}

/// Unmounts what is still mounted, and saves.
fn end(
    scratch: Scratch,
    saving: Option<Saving>,
    watch: &Watch,
) -> Result<Unmounted, Box<dyn StdError>> {
    let handle = scratch.handle();
    let refused = match scratch.unmount() {
        Ok(()) => None,
        // It is not needed any more, or the signal would not have come: those who use it lose it.
        Err(Error::Mount(busy @ MountError::Busy { .. })) if watch.received().is_some() => {
            report::warning(&format!("{busy}; it is gone for them now"));
            None
        }
        Err(error) => Some(error),
    };
    let unmounted = unmounted(&handle, saving, false)?;
    match refused {
        Some(error) => Err(error.into()),
        None => Ok(unmounted),
    }
}

/// Saves what there is, and says what is to be known of it.
fn unmounted(
    handle: &Handle,
    saving: Option<Saving>,
    is_served: bool,
) -> Result<Unmounted, Box<dyn StdError>> {
    let mut unmounted = Unmounted::saved_to(None);
    if let Some(saving) = saving {
        // The signal that ended the mount is no wish to lose it; a second one kills.
        let place = saving.place().to_string_lossy().into_owned();
        saving.save(&handle.snapshot(), &Interrupt::new()?)?;
        unmounted.saved = Some(place);
    }
    let lost = handle.lost_files();
    unmounted.lost_files = lost.iter().map(ToString::to_string).collect();
    unmounted.served_by = is_served.then(|| rustix::process::getpid().as_raw_nonzero().get());
    Ok(unmounted)
}

/// Answers for the mount. Without it everything else works, and so a failure is only told.
fn control(config: &MountConfig, saving: Option<&Saving>, scratch: &Scratch) -> Option<Server> {
    let description = Description {
        name: source(config).to_owned(),
        read_only: config.read_only,
        from: config.from.as_ref().map(|from| match from {
            Filling::Host(path) => path.to_string_lossy().into_owned(),
            Filling::Stdin => "standard input".to_owned(),
        }),
        save: saving.map(|saving| saving.place().to_string_lossy().into_owned()),
    };
    let started = Server::start(&socket_dir::socket_dir(), scratch.handle(), description);
    started
        .inspect_err(|error| {
            let why = report::chain(error);
            report::warning(&format!(
                "list, status, snapshot and resize will not work: {why}"
            ));
        })
        .ok()
}

fn source(config: &MountConfig) -> &str {
    config.name.as_deref().unwrap_or("notapipe")
}

fn build(config: &MountConfig, tree: Tree) -> Result<Scratch, Box<dyn StdError>> {
    let options = MountOptions {
        visibility: Visibility::Public,
        at: Some(config.dir.clone()),
        allow_nonempty: config.nonempty,
        allow_other: config.allow_other,
        read_only: config.read_only,
        set_user_id: config.set_user_id,
        devices: config.devices,
        no_exec: config.no_exec,
        source: source(config).to_owned(),
        helper_path: std::env::var_os("PATH").unwrap_or_default(),
        ..MountOptions::default()
    };
    let scratch = Scratch::builder()
        .tree(tree)
        .profile(config.profile)
        .mount(options)
        .build()?;
    Ok(scratch)
}

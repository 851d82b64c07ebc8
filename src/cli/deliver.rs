//! Where the outputs of a job go: files of their own, or one archive.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;

use notapipe::archive::{ArchiveError, Format};
use notapipe::collect::{
    AtomicFile, CollectError, Delivery, Destination, InterruptibleWriter, Prepared, Wanted,
};
use notapipe::stage::LeftBehind;
use notapipe::text::quoted;
use notapipe::{Interrupt, Outcome};

use super::config::{Matching, Output, OutputDest, Packing, RunConfig, Verbosity};
use super::progress::Line;
use super::streams;

/// Destinations that were looked at before anything ran.
#[derive(Debug)]
pub struct Delivering {
    place: Place,
    interrupt: Interrupt,
    verbosity: Verbosity,
}

#[derive(Debug)]
enum Place {
    Files(Delivery<'static>),
    Archive {
        file: AtomicFile,
        place: PathBuf,
        format: Format,
    },
    Stdout,
}

/// Why outputs were not delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error("cannot write the archive {place}", place = quoted(place))]
    Archive {
        place: PathBuf,
        source: ArchiveError,
    },
    #[error("cannot write the archive to standard output")]
    Stdout { source: ArchiveError },
    #[error("cannot write the archive {place}", place = quoted(place))]
    Place { place: PathBuf, source: io::Error },
    #[error("cannot write to standard output")]
    Descriptor(#[from] io::Error),
}

impl DeliverError {
    /// Whether it is told also after a signal: a file of the host could not be put back.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Collect(CollectError::NotPutBack { .. }))
    }
}

impl Delivering {
    /// Looks at every destination and refuses what can be seen to fail.
    pub fn preflight(config: &RunConfig, interrupt: &Interrupt) -> Result<Self, DeliverError> {
        let place = match &config.pack {
            None => Place::Files(Delivery::preflight(destinations(config)?)?),
            Some(Packing::Stdout) => {
                streams::output()?;
                Place::Stdout
            }
            Some(Packing::File { place, format }) => Place::Archive {
                file: AtomicFile::preflight(place).map_err(|source| DeliverError::Place {
                    place: place.clone(),
                    source,
                })?,
                place: place.clone(),
                format: *format,
            },
        };
        Ok(Self {
            place,
            interrupt: interrupt.clone(),
            verbosity: config.verbosity,
        })
    }

    /// Delivers everything, or changes nothing; tells what was left behind.
    pub fn deliver(self, outcome: &Outcome) -> Result<LeftBehind, DeliverError> {
        let line = Line::new("delivering", self.verbosity);
        let listener = line.listener(self.interrupt.clone());
        match self.place {
            Place::Files(delivery) => {
                let prepared = delivery
                    .listen(listener)
                    .prepare(outcome.tree(), outcome.staged());
                Ok(prepared.and_then(Prepared::commit)?.skipped)
            }
            Place::Archive {
                file,
                place,
                format,
            } => {
                let failed = |source| DeliverError::Place {
                    place: place.clone(),
                    source,
                };
                let mut open = file.open().map_err(failed)?;
                let packed = outcome
                    .pack(format)
                    .listen(listener)
                    .write(open.writer())
                    .map_err(|source| DeliverError::Archive {
                        place: place.clone(),
                        source,
                    })?;
                open.place().map_err(failed)?;
                Ok(packed.skipped)
            }
            Place::Stdout => {
                let interrupt = self.interrupt;
                let outlet = InterruptibleWriter::new(streams::output_descriptor()?, move || {
                    if interrupt.is_raised() {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                })?;
                let packed = outcome.pack(Format::Tar).listen(listener).write(outlet);
                Ok(packed
                    .map_err(|source| DeliverError::Stdout { source })?
                    .skipped)
            }
        }
    }
}

/// All that is wanted.
pub fn wanted(config: &RunConfig) -> impl Iterator<Item = Wanted> {
    let named = config
        .outputs
        .iter()
        .map(|it| Wanted::Named(it.name.clone()));
    let optional = config.optional.iter();
    let optional = optional.map(|it| Wanted::Optional(it.name.clone()));
    let matching = config.collect.iter();
    let matching = matching.map(|it| Wanted::Matching(it.glob.clone()));
    let changed = config.changed.iter().map(|_| Wanted::Changed);
    named.chain(optional).chain(matching).chain(changed)
}

/// Where each goes, in the order of [`wanted`].
fn destinations(config: &RunConfig) -> io::Result<Vec<(Wanted, Destination)>> {
    let named = config.outputs.iter().chain(&config.optional);
    let named = named.map(|Output { dest, .. }| -> io::Result<_> {
        Ok(match dest {
            OutputDest::Host(path) => {
                streams::unless_closed_one(path)?;
                Destination::Host(path.clone())
            }
            OutputDest::Stdout => Destination::Descriptor(streams::output_descriptor()?),
        })
    });
    let matching = config.collect.iter().map(|Matching { dest, .. }| dest);
    let several = matching.chain(&config.changed);
    let several = several.map(|dest| Ok(Destination::Host(dest.clone())));
    let all = wanted(config).zip(named.chain(several));
    all.map(|(wanted, destination)| Ok((wanted, destination?)))
        .collect()
}

//! Where the outputs of a job go: files of their own, or one archive.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use notapipe::archive::{ArchiveError, Format};
use notapipe::collect::{
    AtomicFile, CollectError, Delivery, Destination, InterruptibleWriter, Prepared, Wanted,
};
use notapipe::run::{MatchingOutput, OutputDest, OutputSpec};
use notapipe::stage::LeftBehind;
use notapipe::text::quoted;
use notapipe::{Interrupt, JobSpec, Outcome};

use super::config::Verbosity;
use super::progress::Line;
use super::streams;

/// Destinations that were looked at before anything ran.
#[derive(Debug)]
pub struct Delivering {
    target: Target,
    interrupt: Interrupt,
    verbosity: Verbosity,
}

#[derive(Debug)]
enum Target {
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
    pub fn preflight(spec: &JobSpec, interrupt: &Interrupt) -> Result<Self, DeliverError> {
        let target = match &spec.pack {
            None => Target::Files(Delivery::preflight(destinations(spec)?)?),
            Some(place) if place == Path::new("-") => {
                streams::output()?;
                Target::Stdout
            }
            Some(place) => Target::Archive {
                file: AtomicFile::preflight(place).map_err(|source| DeliverError::Place {
                    place: place.clone(),
                    source,
                })?,
                place: place.clone(),
                // The check of the specification refuses other names.
                format: Format::of_name(place).unwrap_or(Format::Tar),
            },
        };
        Ok(Self {
            target,
            interrupt: interrupt.clone(),
            verbosity: spec.verbosity,
        })
    }

    /// Delivers everything, or changes nothing; tells what was left behind.
    pub fn deliver(self, outcome: &Outcome) -> Result<LeftBehind, DeliverError> {
        let line = Line::new("delivering", self.verbosity);
        let listener = line.listener(self.interrupt.clone());
        match self.target {
            Target::Files(delivery) => {
                let prepared = delivery
                    .listen(listener)
                    .prepare(outcome.tree(), outcome.staged());
                Ok(prepared.and_then(Prepared::commit)?.skipped)
            }
            Target::Archive {
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
            Target::Stdout => {
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

/// Where each output goes, in the order of [`JobSpec::wanted`].
fn destinations(spec: &JobSpec) -> io::Result<Vec<(Wanted, Destination)>> {
    let named = spec.output.iter().chain(&spec.optional);
    let named = named.map(|OutputSpec { dest, .. }| -> io::Result<_> {
        Ok(match dest {
            OutputDest::Host(path) => {
                streams::unless_closed_one(path)?;
                Destination::Host(path.clone())
            }
            OutputDest::Stdout => Destination::Descriptor(streams::output_descriptor()?),
        })
    });
    let matching = spec.collect.iter();
    let matching = matching.map(|MatchingOutput { dest, .. }| dest);
    let several = matching.chain(&spec.changed);
    let several = several.map(|dest| Ok(Destination::Host(dest.clone())));
    let all = spec.wanted().zip(named.chain(several));
    all.map(|(wanted, destination)| Ok((wanted, destination?)))
        .collect()
}

//! One step: a command, its surroundings and its streams.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use super::error::Error;
use super::inputs::check_name;
use super::outcome::StepReport;
use super::pipeline::{Bounds, Pipeline};
use super::process::{Patience, Processes, Running, StepCommand};
use super::stdio::{ChildStreams, Stdin, Stdout, Streams};
use crate::scratch::Scratch;

/// One command of a job, and its streams.
///
/// # Examples
///
/// ```
/// use notapipe::{Job, Step, Stdin};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let sort = Step::new(["sort", "-o", "sorted"]).stdin(Stdin::Bytes("b\na\n".into()));
/// let outcome = Job::new().step(sort).output("sorted").run()?;
/// assert_eq!(outcome.output("sorted").unwrap(), "a\nb\n");
/// # Ok(())
/// # }
/// ```
///
/// Its streams may be files in the mount, and it may start in a directory of it:
///
/// ```
/// use notapipe::{Job, Step, Stdin, Stdout};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let sort = Step::new(["sort"])
///     .stdin(Stdin::File("words".into()))
///     .stdout(Stdout::File("out/sorted".into()))
///     .env_var("LC_ALL", "C");
/// let outcome = Job::new()
///     .input("words", "b\na\nB\n")
///     .step(sort)
///     .step(Step::new(["wc", "-l", "sorted"]).directory("out"))
///     .output("out/sorted")
///     .run()?;
/// assert_eq!(outcome.output("out/sorted").unwrap(), "B\na\nb\n");
/// assert_eq!(outcome.steps()[1].stdout.to_text(), "3 sorted\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Step {
    command: Vec<OsString>,
    env: Option<Vec<(OsString, OsString)>>,
    variables: Vec<(OsString, OsString)>,
    /// Below the root; empty for the root itself.
    directory: PathBuf,
    stdin: Stdin,
    stdout: Stdout,
    stderr: Stdout,
}

impl Step {
    /// A program and its arguments, not touched by any shell.
    ///
    /// The program is looked up as a shell would, with one difference: a relative path such as
    /// `./tool` is first looked for in the caller's working directory, then in the mount.
    pub fn new<A: Into<OsString>>(command: impl IntoIterator<Item = A>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            env: None,
            variables: Vec::new(),
            directory: PathBuf::new(),
            stdin: Stdin::default(),
            stdout: Stdout::default(),
            stderr: Stdout::default(),
        }
    }

    /// The whole environment of this step, instead of the one of this process.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Job, Stdout, Step};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let step = Step::new(["env"]).env([("LANG".into(), "C".into())]).stderr(Stdout::Null);
    /// let outcome = Job::new().step(step).run()?;
    /// assert_eq!(outcome.steps()[0].stdout.to_text(), "LANG=C\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env(mut self, env: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        self.env = Some(env.into_iter().collect());
        self
    }

    /// A variable of its environment, in the place of one of this name.
    #[must_use]
    pub fn env_var(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.push((name.into(), value.into()));
        self
    }

    /// The directory in the mount where it starts; the root unless said. Names of files for its
    /// standard streams stay relative to the root.
    #[must_use]
    pub fn directory(mut self, name: impl Into<PathBuf>) -> Self {
        self.directory = name.into();
        self
    }

    /// Where its standard input comes from; nothing unless said.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.stdin = stdin;
        self
    }

    /// Where its standard output goes; captured unless said.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdout) -> Self {
        self.stdout = stdout;
        self
    }

    /// Where its standard error goes; captured unless said.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdout) -> Self {
        self.stderr = stderr;
        self
    }
}

impl<A: Into<OsString>, const N: usize> From<[A; N]> for Step {
    fn from(command: [A; N]) -> Self {
        Self::new(command)
    }
}

impl<A: Into<OsString>> From<Vec<A>> for Step {
    fn from(command: Vec<A>) -> Self {
        Self::new(command)
    }
}

impl Step {
    pub(super) fn program(&self) -> OsString {
        self.command.first().cloned().unwrap_or_default()
    }

    /// What its environment says.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        let find = |variables: &[(OsString, OsString)]| {
            let found = variables.iter().rfind(|(other, _)| other == name);
            found.map(|(_, value)| value.clone())
        };
        find(&self.variables).or_else(|| match &self.env {
            Some(env) => find(env),
            None => std::env::var_os(name),
        })
    }

    /// The values of all environment variables, and of some that others hide.
    pub(super) fn values(&self) -> Vec<OsString> {
        let inherited = self.env.is_none().then(inherited_variables);
        let values = inherited.into_iter().flatten().map(|(_, value)| value);
        let given = self.env.iter().flatten().chain(&self.variables);
        values
            .chain(given.map(|(_, value)| value.clone()))
            .collect()
    }

    pub(super) fn command(&self) -> &[OsString] {
        &self.command
    }

    pub(super) fn set_stdin(&mut self, stdin: Stdin) {
        self.stdin = stdin;
    }

    pub(super) fn set_stdout(&mut self, stdout: Stdout) {
        self.stdout = stdout;
    }

    /// Whether every name in it can stand in the mount.
    pub(super) fn check(&self) -> Result<(), Error> {
        let files = [
            ("standard input", self.stdin.file()),
            ("standard output", self.stdout.file()),
            ("standard error", self.stderr.file()),
            ("working directory", Some(&self.directory)),
        ];
        for (role, name) in files {
            if let Some(name) = name.filter(|name| !name.as_os_str().is_empty()) {
                check_name(role, name)?;
            }
        }
        Ok(())
    }

    /// Starts the step: its command, its process and its streams.
    pub(super) fn start(
        self,
        processes: &Processes,
        patience: Patience<'_>,
    ) -> Result<(Vec<OsString>, Running, Streams), Error> {
        let program = self.program();
        let directory = match self.directory.as_os_str().is_empty() {
            true => processes.root().to_owned(),
            false => processes.root().join(&self.directory),
        };
        let environment = self
            .env
            .unwrap_or_else(|| processes.with_own_tmp(inherited_environment(&directory)));
        let (streams, ChildStreams { ends, files }) =
            Streams::open(self.stdin, self.stdout, self.stderr).map_err(|source| {
                Error::Streams {
                    program: program.clone(),
                    source,
                }
            })?;
        let [stdin, stdout, stderr] = &ends;
        let command = StepCommand {
            program,
            arguments: self.command.get(1..).unwrap_or_default().to_vec(),
            environment: with_variables(environment, self.variables),
            caller_directory: caller_directory(),
            directory: self.directory,
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
            stream_files: files,
        };
        let running = processes.spawn_within(&command, patience)?;
        Ok((self.command, running, streams))
    }
}

/// `environment` with these in the place of those of the same name.
pub(super) fn with_variables(
    mut environment: Vec<(OsString, OsString)>,
    variables: Vec<(OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    for (name, value) in variables {
        environment.retain(|(other, _)| *other != name);
        environment.push((name, value));
    }
    environment
}

/// The environment of this process, which steps get unless told otherwise, as the children of
/// [`std::process::Command`] do. It is passed on; but PWD, where there is one, names the working directory of the step
/// and not ours, and where temporary files belong is looked at ([`own_tmp`](super::own_tmp)).
fn inherited_environment(directory: &Path) -> Vec<(OsString, OsString)> {
    let in_directory = |(name, value): (OsString, OsString)| match name.to_str() {
        Some("PWD") => (name, directory.as_os_str().to_owned()),
        _ => (name, value),
    };
    inherited_variables().map(in_directory).collect()
}

/// The environment of this process, passed on as it is.
pub(super) fn inherited_variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os()
}

/// Where a relative program is looked for first. Empty where the directory is gone: then it is not
/// found.
pub(super) fn caller_directory() -> PathBuf {
    use std::os::unix::ffi::OsStringExt;

    let bytes = rustix::process::getcwd(Vec::new()).map(std::ffi::CString::into_bytes);
    OsString::from_vec(bytes.unwrap_or_default()).into()
}

impl Scratch {
    /// Runs a command with the root as its working directory, and waits for it.
    ///
    /// Unless the step says otherwise, its output is captured and it reads nothing. When it has
    /// ended, processes that it left behind are ended too.
    ///
    /// # Errors
    ///
    /// [`Error::Spawn`] and the like. A status other than 0 is no error here: see
    /// [`StepReport::status`].
    pub fn run(&self, step: impl Into<Step>) -> Result<StepReport, Error> {
        let processes = Processes::start(self.place(), None)
            .map_err(|source| Error::Processes {
                operation: "prepare",
                source,
            })?
            .ending_with_thread();
        let bounds = Bounds {
            session: Some(self.session_end()),
            ..Bounds::default()
        };
        let step: Step = step.into();
        step.check()?;
        let ran = Pipeline::from(step).run(&processes, &self.requests(), bounds);
        processes.end()?;
        let mut reports = ran.map_err(|stopped| stopped.error)?.reports;
        // One step, one report.
        Ok(reports.remove(0))
    }
}

//! One step: a command, its surroundings and its streams.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::error::Error;
use super::inputs::check_name;
use super::process::{Patience, Processes, Running, StepCommand};
use super::spec::StepSpec;
use super::stdio::{CAPTURE_BYTES, ChildStreams, Descriptors, Stdin, Stdout, Streams};
use crate::store::TreePath;

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
/// use notapipe::{Job, Step};
///
/// # fn main() -> Result<(), notapipe::Error> {
/// let sort = Step::new(["sort"])
///     .stdin_file("words")
///     .stdout_file("out/sorted")
///     .env("LC_ALL", "C");
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
    pub(super) spec: StepSpec,
    pub(super) descriptors: Descriptors,
    pub(super) capture_bytes: usize,
    /// The first name that was refused; told when the step is to run.
    pub(super) invalid: Option<Error>,
}

impl From<StepSpec> for Step {
    fn from(spec: StepSpec) -> Self {
        Self {
            spec,
            descriptors: Descriptors::default(),
            capture_bytes: CAPTURE_BYTES,
            invalid: None,
        }
    }
}

impl Step {
    /// A program and its arguments, not touched by any shell.
    ///
    /// The program is looked up as a shell would, with one difference: a relative path such as
    /// `./tool` is first looked for in the caller's working directory, then in the mount.
    pub fn new<A: Into<OsString>>(command: impl IntoIterator<Item = A>) -> Self {
        Self::from(StepSpec {
            command: command.into_iter().map(Into::into).collect(),
            ..StepSpec::default()
        })
    }

    /// A variable of its environment, in the place of one of this name, as [`std::process::Command::env`] has it.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.spec.env.push((name.into(), value.into()));
        self
    }

    /// Several variables; see [`env`](Self::env).
    #[must_use]
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let add = |step: Self, (name, value)| step.env(name, value);
        variables.into_iter().fold(self, add)
    }

    /// Leaves it nothing of the environment of this process or of its job, nor of what was said before, as
    /// [`std::process::Command::env_clear`] has it.
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Job, Stdout, Step};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let step = Step::new(["/usr/bin/env"]).env_clear().envs([("LANG", "C")]).stderr(Stdout::Null);
    /// let outcome = Job::new().step(step).run()?;
    /// assert_eq!(outcome.steps()[0].stdout.to_text(), "LANG=C\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.spec.env_clear = true;
        self.spec.env.clear();
        self
    }

    /// The directory in the mount where it starts; the root unless said. Names of files for its
    /// standard streams stay relative to the root.
    #[must_use]
    pub fn directory(mut self, name: impl AsRef<Path>) -> Self {
        self.spec.chdir = self.checked("working directory", name.as_ref());
        self
    }

    /// Where its standard input comes from; nothing unless said.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> Self {
        self.spec.stdin = Some(stdin);
        self
    }

    /// Where its standard output goes; captured unless said.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdout) -> Self {
        self.spec.stdout = Some(stdout);
        self
    }

    /// Where its standard error goes; captured unless said.
    #[must_use]
    pub fn stderr(mut self, stderr: Stdout) -> Self {
        self.spec.stderr = Some(stderr);
        self
    }

    /// A file in the mount as its standard input: [`Stdin::File`].
    #[must_use]
    pub fn stdin_file(mut self, name: impl AsRef<Path>) -> Self {
        let file = self.checked("standard input", name.as_ref());
        self.spec.stdin = file.map(Stdin::File);
        self
    }

    /// A file in the mount for its standard output: [`Stdout::File`].
    #[must_use]
    pub fn stdout_file(mut self, name: impl AsRef<Path>) -> Self {
        let file = self.checked("standard output", name.as_ref());
        self.spec.stdout = file.map(Stdout::File);
        self
    }

    /// A file in the mount for its standard error: [`Stdout::File`].
    ///
    /// # Examples
    ///
    /// ```
    /// use notapipe::{Job, Step};
    ///
    /// # fn main() -> Result<(), notapipe::Error> {
    /// let chatty = Step::new(["sh", "-c", "echo out; echo err >&2"]);
    /// let chatty = chatty.stdout_file("log").stderr_file("log");
    /// let outcome = Job::new().step(chatty).output("log").run()?;
    /// assert_eq!(outcome.output("log").unwrap(), "out\nerr\n");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stderr_file(mut self, name: impl AsRef<Path>) -> Self {
        let file = self.checked("standard error", name.as_ref());
        self.spec.stderr = file.map(Stdout::File);
        self
    }

    /// A descriptor as its standard input, such as a pipe to write to while the step runs. The step sees its end when
    /// the writer is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{BufRead, BufReader, Write};
    ///
    /// use notapipe::{Job, Step};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (stdin, mut to_tool) = std::io::pipe()?;
    /// let (from_tool, stdout) = std::io::pipe()?;
    /// let step = Step::new(["sed", "-u", "s/$/!/"]).stdin_fd(stdin).stdout_fd(stdout);
    /// let running = Job::new().step(step).start()?;
    /// writeln!(to_tool, "ceci")?;
    /// let mut answer = String::new();
    /// BufReader::new(from_tool).read_line(&mut answer)?;
    /// assert_eq!(answer, "ceci!\n");
    /// drop(to_tool);
    /// running.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stdin_fd(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.descriptors[0] = Some(fd.into());
        self
    }

    /// A descriptor for its standard output, such as a pipe to read from while the step runs; see
    /// [`stdin_fd`](Self::stdin_fd). A step that writes more than a pipe holds waits until it is read.
    #[must_use]
    pub fn stdout_fd(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.descriptors[1] = Some(fd.into());
        self
    }

    /// A descriptor for its standard error; see [`stdin_fd`](Self::stdin_fd).
    #[must_use]
    pub fn stderr_fd(mut self, fd: impl Into<OwnedFd>) -> Self {
        self.descriptors[2] = Some(fd.into());
        self
    }

    fn checked(&mut self, role: &'static str, name: &Path) -> Option<TreePath> {
        let path = check_name(role, name);
        path.map_err(|error| self.invalid.get_or_insert(error)).ok()
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
        self.spec.command.first().cloned().unwrap_or_default()
    }

    /// Starts the step: its command, its process and its streams.
    pub(super) fn start(
        self,
        processes: &Processes,
        patience: Patience<'_>,
    ) -> Result<(Vec<OsString>, Running, Streams), Error> {
        let program = self.program();
        let spec = self.spec;
        let below = spec.chdir.map(|it| it.to_path_buf()).unwrap_or_default();
        let directory = match below.as_os_str().is_empty() {
            true => processes.root().to_owned(),
            false => processes.root().join(&below),
        };
        let environment = match spec.env_clear {
            true => Vec::new(),
            false => processes.with_own_tmp(inherited_environment(&directory)),
        };
        let outputs = [spec.stdout, spec.stderr];
        let (streams, ChildStreams { ends, files }) =
            Streams::open(spec.stdin, outputs, self.descriptors, self.capture_bytes).map_err(
                |source| Error::Streams {
                    program: program.clone(),
                    source,
                },
            )?;
        let [stdin, stdout, stderr] = &ends;
        let command = StepCommand {
            program,
            arguments: spec.command.get(1..).unwrap_or_default().to_vec(),
            environment: with_variables(environment, spec.env),
            caller_directory: caller_directory(),
            directory: below,
            stdin: stdin.as_fd(),
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
            stream_files: files,
        };
        let running = processes.spawn_within(&command, patience)?;
        Ok((spec.command, running, streams))
    }
}

impl StepSpec {
    /// What its environment says.
    pub(super) fn variable(&self, name: &str) -> Option<OsString> {
        let said = self.env.iter().rfind(|(other, _)| other == name);
        match said {
            Some((_, value)) => Some(value.clone()),
            None if self.env_clear => None,
            None => std::env::var_os(name),
        }
    }

    /// The values of all environment variables, and of some that others hide.
    pub(super) fn values(&self) -> Vec<OsString> {
        let inherited = (!self.env_clear).then(inherited_variables);
        let inherited = inherited.into_iter().flatten().map(|(_, value)| value);
        let given = self.env.iter().map(|(_, value)| value.clone());
        inherited.chain(given).collect()
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

//! A case, and performing one in this process.

use std::process::ExitCode;

use super::differences::Side;

/// The flag by which this binary is told to perform one case and nothing else.
pub const PERFORM: &str = "--perform";

/// What a case needs to make sense, which decides the settings that it runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it holds for everybody, though what is seen may depend on who looks.
    Anyone,
    /// Root's capabilities.
    Root,
    /// Root, who also becomes other users: a mount that lets them in.
    Others,
}

/// A sequence of system calls that writes down what it saw, in an empty working directory of its own.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub operation: &'static str,
    pub name: &'static str,
    pub needs: Needs,
    pub steps: fn(),
}

impl Case {
    /// `operation::name`.
    pub fn full_name(&self) -> String {
        format!("{}::{}", self.operation, self.name)
    }
}

/// The cases of one file: functions by who can perform them.
///
/// A function that is not listed is dead code, which fails the build under `-D warnings`.
macro_rules! cases {
    ($($needs:ident: $($name:ident),* $(,)?);* $(;)?) => {
        pub fn cases() -> Vec<$crate::harness::Case> {
            let operation = module_path!().rsplit("::").next().unwrap_or_default();
            vec![$($($crate::harness::Case {
                operation,
                name: stringify!($name),
                needs: $crate::harness::Needs::$needs,
                steps: $name,
            }),*),*]
        }
    };
}

/// Performs one case below `dir`; the account goes to standard output.
pub fn perform(cases: &[Case], side: &str, name: &str, dir: &str) -> ExitCode {
    let Some(case) = cases.iter().find(|case| case.full_name() == name) else {
        eprintln!("there is no case {name}");
        return ExitCode::FAILURE;
    };
    // What is inherited differs from shell to shell.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let own = format!("{dir}/{}", name.replace("::", "."));
    if let Err(error) = std::fs::create_dir(&own).and_then(|()| std::env::set_current_dir(&own)) {
        eprintln!("cannot make and enter {own}: {error}");
        return ExitCode::FAILURE;
    }
    // Where the mount has gone, its directory is an ordinary one, which would pass for a poor copy of it.
    if Side::here().is_none_or(|here| here.name() != side) {
        eprintln!("{dir} is not in the {side}: has that ended?");
        return ExitCode::FAILURE;
    }
    (case.steps)();
    ExitCode::SUCCESS
}

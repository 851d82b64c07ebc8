//! Every console block of the README and of `docs` is run, and gives what stands there.
//!
//! The blocks of a page run one after another in one shell, in a directory of their own. A comment that begins with
//! `<!-- setup` holds commands which the page does not show. In a shown output `…` stands for any text, and spaces in a row
//! are one: columns are as wide as what else is on the machine. What cannot be run by a test (an installation, a container)
//! is in a block of another language than `console`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use libtest_mimic::{Arguments, Failed, Trial};

/// One thing that the page's shell does.
#[derive(Debug, PartialEq)]
struct Run {
    command: String,
    /// What the page shows; `None` for what it hides.
    output: Option<String>,
    line: usize,
}

/// Ends the output of each command.
const END: &str = "\u{1}end of output";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = pages()
        .into_iter()
        .map(|page| {
            let name = page.display().to_string();
            Trial::test(name, move || check(&page))
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The pages, below the project's directory.
fn pages() -> Vec<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<_> = walkdir::WalkDir::new(project.join("docs"))
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.expect("docs can be read").into_path())
        .filter(|path| path.extension().is_some_and(|end| end == "md"))
        .map(|path| path.strip_prefix(project).expect("below").to_owned())
        .collect();
    pages.push("README.md".into());
    pages
}

fn check(page: &Path) -> Result<(), Failed> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page))?;
    let runs = runs(&text);
    let told = outputs(&runs)?;
    let mut told = told.split(END);
    let mut wrong = String::new();
    for run in &runs {
        let Some(seen) = told.next() else {
            return Err(format!("{}:{}: was not reached", page.display(), run.line).into());
        };
        let seen = seen.trim_matches('\n');
        let Some(shown) = &run.output else { continue };
        if !matches(shown.trim_matches('\n'), seen) {
            let at = format!("{}:{}", page.display(), run.line);
            write!(
                wrong,
                "{at}: $ {}\nshown:\n{shown}\nseen:\n{seen}\n\n",
                run.command
            )?;
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.into())
    }
}

/// What the page runs, in its order.
fn runs(page: &str) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut lines = page.lines().zip(1..);
    while let Some((line, at)) = lines.next() {
        if line.starts_with("<!-- setup") {
            let hidden = lines.by_ref().map(|(line, _)| line);
            let hidden: Vec<_> = hidden.take_while(|line| *line != "-->").collect();
            runs.push(Run {
                command: hidden.join("\n"),
                output: None,
                line: at,
            });
        } else if line == "```console" {
            block(
                lines.by_ref().take_while(|(line, _)| *line != "```"),
                &mut runs,
            );
        }
    }
    runs
}

/// The commands of one console block. A command goes on after a backslash, and on lines that begin with `> `.
fn block<'p>(lines: impl Iterator<Item = (&'p str, usize)>, runs: &mut Vec<Run>) {
    for (text, line) in lines {
        if let Some(command) = text.strip_prefix("$ ") {
            runs.push(Run {
                command: command.to_owned(),
                output: Some(String::new()),
                line,
            });
            continue;
        }
        let run = runs.last_mut().expect("a block begins with a command");
        let output = run.output.as_mut().expect("a block begins with a command");
        let goes_on = output.is_empty() && run.command.ends_with('\\');
        if goes_on || (output.is_empty() && text.starts_with("> ")) {
            write!(run.command, "\n{}", text.strip_prefix("> ").unwrap_or(text)).unwrap();
        } else {
            writeln!(output, "{text}").unwrap();
        }
    }
}

/// What the commands say, standard output and standard error together, each ended by [`END`].
fn outputs(runs: &[Run]) -> Result<String, Failed> {
    let site = tempfile::tempdir()?;
    fs::create_dir(site.path().join("work"))?;
    let mut script = String::from("exec 2>&1\n");
    for run in runs {
        // The next command sees the status of this one in `$?`.
        write!(
            script,
            "{}\n_status=$?; printf '\\n%s\\n' \"$_end\"; (exit $_status)\n",
            run.command
        )?;
    }
    let program = PathBuf::from(env!("CARGO_BIN_EXE_notapipe"));
    let path = format!(
        "{}:{}",
        program.parent().expect("a directory").display(),
        env::var("PATH")?
    );
    let told = Command::new("timeout")
        .args(["--kill-after=5", "300", "bash", "--norc", "-c", &script])
        .current_dir(site.path().join("work"))
        .env("PATH", path)
        .env("HOME", site.path())
        .env("LC_ALL", "C.UTF-8")
        .env("_end", END)
        .env("project", env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .output()?;
    Ok(String::from_utf8_lossy(&told.stdout).into_owned())
}

/// Whether `seen` is `shown`, in which `…` stands for any text, and spaces in a row for one.
fn matches(shown: &str, seen: &str) -> bool {
    let [shown, seen] = [shown, seen].map(with_single_spaces);
    let mut parts = shown.split('…');
    let first = parts.next().expect("split gives one part at least");
    let Some(mut rest) = seen.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

fn with_single_spaces(text: &str) -> String {
    let parts: Vec<_> = text.split(' ').filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

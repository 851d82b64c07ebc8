//! `--job FILE` and `--print-job`: a job as a file, in TOML or JSON, with the names of the options as keys.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use notapipe::JobSpec;
use notapipe::run::words::nearest;
use notapipe::text::{quoted, shown};

use super::grammar::UsageError;
use super::{exit, report, streams};

/// Far more than a person writes; what is longer is not a job file.
const BYTES_MAX: u64 = 16 << 20;

/// Reads a job; `-` is standard input.
///
/// # Errors
///
/// [`UsageError`], with the line that cannot be used.
pub fn read(file: &Path) -> Result<JobSpec, UsageError> {
    let text = read_text(file).map_err(|error| {
        UsageError::new(
            format!(
                "cannot read the job file {}: {}",
                quoted(file),
                report::chain(&error)
            ),
            "write --job FILE, or --job - for standard input; --print-job writes one",
        )
    })?;
    parse(&text).map_err(|(line, message)| {
        let (message, remedy) = explain(&message);
        UsageError::new(format!("{}:{line}: {message}", shown(file)), remedy)
    })
}

/// What it says, or a line, of which the first is 1, and what is wrong there.
fn parse(text: &str) -> Result<JobSpec, (usize, String)> {
    // No TOML begins so.
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(text).map_err(|error| {
            let message = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let message = message.strip_suffix(&place).unwrap_or(&message);
            (error.line(), message.to_owned())
        });
    }
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.as_bytes().get(..at).unwrap_or_default();
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        (line, error.message().to_owned())
    })
}

fn read_text(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        streams::input()?
            .take(BYTES_MAX + 1)
            .read_to_string(&mut text)?;
    } else {
        File::open(file)?
            .take(BYTES_MAX + 1)
            .read_to_string(&mut text)?;
    }
    if text.len() as u64 > BYTES_MAX {
        return Err(io::Error::other("it is longer than 16 MiB"));
    }
    Ok(text)
}

/// serde's words in ours, with what to do.
///
/// An unknown key is told by serde as ``unknown field `x`, expected one of `a`, `b` ``.
fn explain(message: &str) -> (String, String) {
    let help = || "notapipe run --help explains job files; --print-job writes one".to_owned();
    let Some(rest) = message.strip_prefix("unknown field ") else {
        return (message.trim().replace('\n', ", "), help());
    };
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.collect();
    let remedy = match nearest(unknown, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the keys here are {}", known.join(", ")),
    };
    (format!("unknown key `{unknown}`"), remedy)
}

/// In which language a job is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Toml,
    Json,
}

impl Format {
    /// The file from which the same job is read.
    fn text(self, spec: &JobSpec) -> Result<String, Box<dyn std::error::Error>> {
        Ok(match self {
            Self::Toml => toml::to_string_pretty(spec)?,
            Self::Json => serde_json::to_string_pretty(spec)? + "\n",
        })
    }
}

/// `notapipe run --print-job`
pub fn print(spec: &JobSpec, format: Format) -> ExitCode {
    match format.text(spec) {
        Ok(text) => streams::print(text),
        Err(error) => {
            report::failure(&*error);
            ExitCode::from(exit::FAILED)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::io::Write;
    use std::os::unix::ffi::OsStringExt;

    use clap::CommandFactory;
    use notapipe::run::Verbosity;

    use super::super::{Command, RefusalKind, args::Cli, parse};
    use super::*;

    fn run(line: Vec<OsString>) -> Result<JobSpec, UsageError> {
        let program = ["notapipe", "run"].map(OsString::from);
        match parse(program.into_iter().chain(line)) {
            Ok(Command::Run(config)) => Ok(*config),
            Err(refusal) => match refusal.kind {
                RefusalKind::Usage { error, .. } => Err(error),
                other @ RefusalKind::Clap(_) => panic!("{other:?}"),
            },
            Ok(other) => panic!("{other:?}"),
        }
    }

    fn words(line: &[&str]) -> Vec<OsString> {
        line.iter().map(OsString::from).collect()
    }

    /// The job of a file with this text and of these further words.
    fn run_file(text: &str, line: &[&str]) -> Result<JobSpec, UsageError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let job = [OsString::from("--job"), file.path().into()];
        run(job.into_iter().chain(words(line)).collect())
    }

    #[test]
    fn what_is_printed_is_the_same_job() {
        let odd = OsString::from_vec(b"-o\xff\n=x".to_vec());
        let lines = [
            words(&["--", "true"]),
            words(&[
                "-i", "A.asm", "-i", "x=-", "--input", "a=b", "-", "-i", ".=/usr", "-o",
                "out/A.gb", "-o", "y=-", "--output", "z=", "d/", "--", "a b", "\"'\\\n", "--then",
                "b", "", "é",
            ]),
            words(&[
                "--size",
                "512M",
                "--inodes",
                "64K",
                "--at",
                "/mnt",
                "--mount",
                "public",
                "--tmp",
                "host",
                "--timeout",
                "1.5",
                "--limit",
                "cpu=1.5s,memory=2G,processes=3,files=9",
                "--follow",
                "log",
                "--kill-after",
                "2s",
                "--settle",
                "0",
                "--allow-other",
                "--xattr",
                "--profile",
                "observed",
                "--cpus",
                "0,2-3",
                "--report",
                "r.json",
                "--backing",
                "tmpfs",
                "--keep-on-failure",
                "left.tar",
                "-vv",
                "--",
                "true",
            ]),
            words(&[
                "--",
                "--stdin",
                "a=b",
                "--env",
                "X=1=2",
                "--env=Y=",
                "--chdir",
                "d",
                "cat",
                "--pipe",
                "--stdout",
                "o",
                "--stderr=o",
                "--",
                "--x",
                "--then",
                "y",
            ]),
            words(&[
                "--size",
                "50%",
                "--timeout",
                "1h 30m 1ns",
                "--cpus",
                "one",
                "-q",
                "--",
                "x",
            ]),
            vec![odd.clone(), "--".into(), "tool".into(), odd],
        ];
        for line in lines {
            // Two inputs cannot both be standard input: one of them is a file of that name here.
            let line = line.into_iter().map(|word| match word.to_str() {
                Some("-") => "./-".into(),
                _ => word,
            });
            let config = run(line.collect()).unwrap();
            for format in [Format::Toml, Format::Json] {
                let text = format.text(&config).unwrap();
                let back = run_file(&text, &[]).unwrap_or_else(|error| panic!("{error}:\n{text}"));
                assert_eq!(back, config, "{text}");
            }
        }
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let text = r#"
            timeout = 30
            size = "1M"
            verbosity = "quiet"
            input = ["a", { name = "b", source = "of-file" }]
            output = ["c"]
            [[step]]
            command = ["of-file"]
        "#;
        let config = run_file(
            text,
            &["--size", "2M", "-i", "b=mine", "-i", "d", "-o", "e"],
        )
        .unwrap();
        let expected = words(&[
            "--timeout",
            "30s",
            "--size",
            "2M",
            "-q",
            "-i",
            "a",
            "-i",
            "b=mine",
            "-i",
            "d",
            "-o",
            "c",
            "-o",
            "e",
            "--",
            "of-file",
        ]);
        assert_eq!(config, run(expected).unwrap());
        let config = run_file(text, &["-v", "--", "x", "--then", "y"]).unwrap();
        assert_eq!(config.verbosity, Verbosity::Verbose);
        let tools: Vec<_> = config.step.iter().map(|step| &step.command[0]).collect();
        assert_eq!(tools, ["x", "y"]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let step = "[[step]]\ncommand = [\"true\"]\n";
        let table: &[(&str, usize, &str, &str)] = &[
            (
                "\ninptu = []\n",
                2,
                "unknown key `inptu`",
                "did you mean `input`?",
            ),
            (
                "time-out = 3\n",
                1,
                "unknown key `time-out`",
                "did you mean `timeout`?",
            ),
            (
                "\n\nzzz = 1\n",
                3,
                "unknown key `zzz`",
                "the keys here are size, inodes",
            ),
            (
                "[[step]]\ncomand = []\n",
                2,
                "unknown key `comand`",
                "did you mean `command`?",
            ),
            ("[[step]]\n", 1, "missing field `command`", "--print-job"),
            (
                "[[step]]\ncommand = \"make all\"\n",
                2,
                "invalid type: string",
                "--print-job",
            ),
            (
                "[[input]]\nname = \"a\"\nsrc = \"b\"\n",
                3,
                "unknown key `src`",
                "`source`",
            ),
            (
                "input = [\n\"a\",\n\"../..\"]\n",
                3,
                "\"../..\" gives the input no name",
                "-i NAME=../..",
            ),
            (
                "output = [\"/x\"]\n",
                1,
                "the output name \"/x\"",
                "-o x=DEST",
            ),
            (
                "output = [{ name = \"../x\", dest = \"y\" }]\n",
                1,
                "climbs",
                "-o x=DEST",
            ),
            (
                "input = [3]\n",
                1,
                "invalid type: integer `3`",
                "--print-job",
            ),
            ("timeout = \"soon\"\n", 1, "\"soon\" cannot be used", "30s"),
            ("timeout = -1\n", 1, "\"-1\" cannot be used", "30s"),
            ("size = 1\n", 1, "\"1\" cannot be used", "one page"),
            ("size = true\n", 1, "invalid type: boolean", "--print-job"),
            (
                "mount = \"secret\"\n",
                1,
                "\"secret\" cannot be used",
                "auto, private, public",
            ),
            (
                "verbosity = \"loud\"\n",
                1,
                "\"loud\" cannot be used",
                "quiet, normal",
            ),
            ("cpus = \"x\"\n", 1, "\"x\" cannot be used", "0,2-3"),
            (
                "allow-other = \"yes\"\n",
                1,
                "invalid type: string",
                "--print-job",
            ),
            ("at = [300]\n", 1, "300", "--print-job"),
            (
                "size = \"1M\"\nsize = \"2M\"\n",
                2,
                "duplicate key",
                "--print-job",
            ),
            (
                "[[step]]\ncommand=[\"x\"]\nstdin=\"../x\"",
                3,
                "\"../x\" cannot be used",
                "below",
            ),
            (
                "[[step]]\ncommand=[\"x\"]\nenv=[\"=x\"]",
                3,
                "\"=x\" cannot be set",
                "NAME=VALUE",
            ),
            ("size = \n", 1, "", "--print-job"),
            ("a b\n", 1, "", "--print-job"),
        ];
        for (text, line, message, remedy) in table {
            let error = run_file(text, &["--", "true"]).expect_err(text);
            let told = format!("{error}; {}", error.remedy());
            assert!(told.contains(&format!(":{line}: ")), "{text:?}: {told}");
            assert!(
                told.contains(message) && told.contains(remedy),
                "{text:?}: {told}"
            );
            assert!(
                !told.contains('\n') && !told.contains('\0'),
                "{text:?}: {told}"
            );
        }
        assert!(run_file(step, &[]).is_ok());
        let nothing = run_file("size = \"1M\"", &[]).unwrap_err();
        assert_eq!(nothing.to_string(), "there is no command to run");
        let gone = run(words(&["--job", "/nonexistent/job.toml"])).unwrap_err();
        assert!(
            gone.to_string()
                .contains("\"/nonexistent/job.toml\": No such file"),
            "{gone}"
        );
    }

    #[test]
    fn every_option_has_its_key() {
        // What is about the command line itself, or has a key of another name.
        const WITHOUT: [&str; 8] = [
            "job",
            "print-job",
            "shell",
            "then-word",
            "pipe-word",
            "verbose",
            "quiet",
            "help",
        ];
        let error = toml::from_str::<JobSpec>("x = 1").unwrap_err();
        let keys: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
        let mut cli = Cli::command();
        cli.build();
        let run = cli.find_subcommand("run").unwrap();
        for option in run.get_arguments().filter_map(|it| it.get_long()) {
            assert!(
                WITHOUT.contains(&option) || keys.contains(&option),
                "--{option}"
            );
        }
    }
}

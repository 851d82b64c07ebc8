//! Every line that is accepted, and every class of lines that is refused.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notapipe::Profile;
use notapipe::mount::Visibility;
use notapipe::run::{InputSource, InputSpec, JobSpec, OutputDest, OutputSpec, Size, StepSpec};
use notapipe::store::TreePath;
use proptest::prelude::*;

use super::args::LimitArgs;
use super::config::*;
use super::steps;
use super::{Command, Plain, Refusal, RefusalKind, parse};

fn words(line: &[&str]) -> Vec<OsString> {
    line.iter().map(OsString::from).collect()
}

/// `notapipe run` with these options and the step `true`.
fn run_with(options: &[&str]) -> Result<JobSpec, String> {
    run(&[options, &["--", "true"]].concat())
}

fn run(rest: &[&str]) -> Result<JobSpec, String> {
    run_words([words(&["notapipe", "run"]), words(rest)].concat())
}

fn run_words(line: Vec<OsString>) -> Result<JobSpec, String> {
    match parse(line) {
        Ok(Command::Run(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(Refusal {
            kind: RefusalKind::Clap(error),
            ..
        }) => {
            assert_eq!(error.exit_code(), 2, "{error}");
            Err(error.to_string())
        }
        Err(Refusal {
            kind: RefusalKind::Usage { error, .. },
            ..
        }) => {
            let remedy = error.remedy();
            assert!(!remedy.is_empty() && !remedy.contains('\n'), "{remedy}");
            Err(format!("{error}; {remedy}"))
        }
    }
}

fn path(text: &str) -> TreePath {
    TreePath::parse(text).unwrap()
}

fn host(name: &str, source: &str) -> InputSpec {
    InputSpec {
        name: path(name),
        source: InputSource::Host(source.into()),
    }
}

fn to_host(name: &str, dest: &str) -> OutputSpec {
    OutputSpec {
        name: path(name),
        dest: OutputDest::Host(dest.into()),
    }
}

#[test]
fn the_main_job() {
    let config = run(&[
        "-i", "A.asm", "-i", "B.o", "-o", "A.gb", "-o", "A.map", "-o", "A.sym", "--", "rgbasm",
        "A.asm", "-o", "A.o", "--then", "rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n",
        "A.sym",
    ])
    .unwrap();
    let step = |command: &[&str]| {
        let mut step = StepSpec::default();
        step.command = words(command);
        step
    };
    let mut expected = JobSpec::default();
    expected.input = vec![host("A.asm", "A.asm"), host("B.o", "B.o")];
    expected.output = vec![
        to_host("A.gb", "./"),
        to_host("A.map", "./"),
        to_host("A.sym", "./"),
    ];
    expected.step = vec![
        step(&["rgbasm", "A.asm", "-o", "A.o"]),
        step(&[
            "rgblink", "A.o", "B.o", "-o", "A.gb", "-m", "A.map", "-n", "A.sym",
        ]),
    ];
    assert_eq!(config, expected);
    assert!(!config.uses_stdin() && !config.uses_stdout());
}

#[test]
fn inputs_are_named() {
    for (given, name, source) in [
        ("A.asm", "A.asm", "A.asm"),
        ("./A.asm", "A.asm", "./A.asm"),
        ("src//A.asm", "src/A.asm", "src//A.asm"),
        ("src/", "src", "src/"),
        ("src/../inc/x", "inc/x", "src/../inc/x"),
        ("/usr/lib/B.o", "B.o", "/usr/lib/B.o"),
        ("../lib/B.o", "B.o", "../lib/B.o"),
        ("a/../../B.o", "B.o", "a/../../B.o"),
        ("../lib/", "lib", "../lib/"),
        (".", ".", "."),
        ("./", ".", "./"),
        ("a/..", ".", "a/.."),
        ("x=y", "x", "y"),
        ("x=y=z", "x", "y=z"),
        ("./d/x=../y", "d/x", "../y"),
        (".=dir", ".", "dir"),
        ("x=./-", "x", "./-"),
        ("two words", "two words", "two words"),
        ("line\nbreak", "line\nbreak", "line\nbreak"),
        ("./-x", "-x", "./-x"),
        ("...", "...", "..."),
    ] {
        let config = run_with(&["-i", given]).unwrap_or_else(|error| panic!("{given:?}: {error}"));
        assert_eq!(config.input, [host(name, source)], "{given:?}");
    }
}

#[test]
fn outputs_are_named() {
    for (given, name, dest) in [
        ("A.gb", "A.gb", "./"),
        ("out/A.gb", "out/A.gb", "out/"),
        ("./out//A.gb", "out/A.gb", "out/"),
        ("build/", "build", "./"),
        ("A.gb=B.gb", "A.gb", "B.gb"),
        ("A.gb=../x/", "A.gb", "../x/"),
        ("A.gb=/dev/stdout", "A.gb", "/dev/stdout"),
        ("A.gb=x=y", "A.gb", "x=y"),
        (".=all", ".", "all"),
    ] {
        let config = run_with(&["-o", given]).unwrap_or_else(|error| panic!("{given:?}: {error}"));
        assert_eq!(config.output, [to_host(name, dest)], "{given:?}");
    }
}

#[test]
fn streams() {
    let config = run_with(&["-i", "in=-", "-o", "out=-"]).unwrap();
    assert_eq!(
        config.input,
        [InputSpec {
            name: path("in"),
            source: InputSource::Stdin
        }]
    );
    assert_eq!(
        config.output,
        [OutputSpec {
            name: path("out"),
            dest: OutputDest::Stdout
        }]
    );
    assert!(config.uses_stdin() && config.uses_stdout());
}

#[test]
fn literal_forms_take_any_characters() {
    let config = run_with(&[
        "--input", "a=b", "c=d", "--output", "-x", "-y", "--input", "s", "-", "--output", "t", "-",
    ])
    .unwrap();
    let stdin = InputSpec {
        name: path("s"),
        source: InputSource::Stdin,
    };
    assert_eq!(config.input, [host("a=b", "c=d"), stdin]);
    let stdout = OutputSpec {
        name: path("t"),
        dest: OutputDest::Stdout,
    };
    assert_eq!(config.output, [to_host("-x", "-y"), stdout]);
}

#[test]
fn short_and_literal_forms_keep_their_order() {
    let config = run_with(&[
        "-i", "a", "--input", "b", "B", "-i", "c", "--input", "d", "D", "--input", "e", "E", "-i",
        "f=F", "-o", "a=x", "--output", "b", "y", "-o", "c=z",
    ])
    .unwrap();
    let names: Vec<_> = config
        .input
        .iter()
        .map(|input| input.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b", "c", "d", "e", "f"]);
    let names: Vec<_> = config
        .output
        .iter()
        .map(|output| output.name.to_string())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[test]
fn bytes_that_are_not_utf_8_pass() {
    let odd = OsString::from_vec(b"\xff\xfe".to_vec());
    let both = OsString::from_vec(b"n\xff=s\xfe".to_vec());
    let mut line = words(&["notapipe", "run", "-i"]);
    line.extend([
        odd.clone(),
        "-o".into(),
        both,
        "--input".into(),
        "l".into(),
        odd.clone(),
    ]);
    line.extend(["--".into(), odd.clone(), "x".into()]);
    let config = run_words(line).unwrap();
    let name = TreePath::parse(b"\xff\xfe").unwrap();
    assert_eq!(
        config.input[0],
        InputSpec {
            name,
            source: InputSource::Host(PathBuf::from(&odd))
        }
    );
    assert_eq!(
        config.input[1].source,
        InputSource::Host(PathBuf::from(&odd))
    );
    let dest = PathBuf::from(OsString::from_vec(b"s\xfe".to_vec()));
    let name = TreePath::parse(b"n\xff").unwrap();
    assert_eq!(
        config.output,
        [OutputSpec {
            name,
            dest: OutputDest::Host(dest)
        }]
    );
    assert_eq!(config.step[0].command, [odd, "x".into()]);
}

#[test]
fn other_options() {
    let config = run_with(&[
        "--size",
        "50%",
        "--inodes=64K",
        "--at",
        "/mnt",
        "--mount",
        "private",
        "--timeout",
        "1.5",
        "-v",
    ])
    .unwrap();
    assert_eq!(
        (config.size, config.inodes),
        (Some(Size::Percent(50)), Some(65536))
    );
    assert_eq!(config.at.as_deref(), Some(Path::new("/mnt")));
    assert_eq!(config.mount, Visibility::Private);
    assert_eq!(config.timeout, Some(Duration::from_millis(1500)));
    assert_eq!(config.verbosity, Verbosity::Verbose);
    assert_eq!(run_with(&["-vv"]).unwrap().verbosity, Verbosity::Debug);
    assert_eq!(run_with(&["-q"]).unwrap().verbosity, Verbosity::Quiet);
}

#[test]
fn steps_are_separated_by_whole_words_only() {
    let config = run(&[
        "--", "echo", "--then=x", "a--then", "--", "-i", "x", "--then", "true",
    ])
    .unwrap();
    assert_eq!(config.step.len(), 2);
    assert_eq!(
        config.step[0].command,
        ["echo", "--then=x", "a--then", "--", "-i", "x"]
    );
    let config = run(&[
        "--then-word",
        "--next",
        "--",
        "a",
        "--then",
        "b",
        "--next",
        "c",
    ])
    .unwrap();
    assert_eq!(config.step[0].command, ["a", "--then", "b"]);
    assert_eq!(config.step[1].command, ["c"]);
    let config = run(&["--then-word", "+", "--", "a", "+", "b"]).unwrap();
    assert_eq!(config.step.len(), 2);
}

/// Each refused class, with words that its message must hold: the value and what to do.
#[test]
fn refused() {
    let long_name = "n".repeat(256);
    let long_path = "n/".repeat(2049);
    let table: &[(&[&str], &[&str])] = &[
        // Names of inputs.
        (
            &["-i", "../x=y"],
            &["input name \"../x\"", "climbs with `..`", "-i x=SRC"],
        ),
        (&["-i", "a/../x=y"], &["\"a/../x\"", "climbs"]),
        (&["-i", "..=y"], &["\"..\"", "climbs", "-i NAME=SRC"]),
        (&["-i", "/x=y"], &["\"/x\"", "absolute", "-i x=SRC"]),
        (&["-i", "=y"], &["\"\"", "empty", "-i NAME=SRC"]),
        (&["-i", ""], &["\"\"", "empty"]),
        (&["-i", &long_name], &["longer than 255 bytes", "shorter"]),
        (
            &["-i", &format!("{long_name}=y")],
            &["longer than 255 bytes"],
        ),
        (&["-i", &long_path], &["longer than 4095 bytes"]),
        (
            &["-i", ".."],
            &["\"..\" gives the input no name", "-i NAME=.."],
        ),
        (&["-i", "/"], &["\"/\" gives the input no name", "-i .=/"]),
        (&["-i", "../.."], &["no name"]),
        // The `--` that follows is taken for the value.
        (&["--input", "x"], &["--input lacks a value", "./--"]),
        (&["--output", "x"], &["--output lacks a value"]),
        (
            &["-i", ".=/etc/hostname"],
            &["\"/etc/hostname\" is a file", "-i NAME=/etc/hostname"],
        ),
        (
            &["-i", "x="],
            &["\"x\" has nothing after its name", "-i x=SRC", "-i x=-"],
        ),
        (&["-i", "-"], &["standard input has no name", "-i NAME=-"]),
        (&["-i", ".=-"], &["cannot fill the whole mount"]),
        (&["--input", "/x", "y"], &["\"/x\"", "absolute"]),
        (&["--input", "", "y"], &["empty"]),
        (&["--input", "x", ""], &["\"x\" has nothing"]),
        (
            &["-i", "a", "-i", "b", "-i", "./a"],
            &["two inputs are named \"a\"", "-i NAME=SRC"],
        ),
        (
            &["-i", "a", "--input", "a", "b"],
            &["two inputs are named \"a\""],
        ),
        (
            &["-i", "../x/a", "-i", "a"],
            &["two inputs are named \"a\""],
        ),
        (
            &["-i", "a=-", "-i", "b=-"],
            &["\"a\" and \"b\"", "standard input", "/dev/fd/N"],
        ),
        (
            &["-i", "a=-", "-i", "a/b=y"],
            &["\"a\" is a file", "\"a/b\"", "another name"],
        ),
        (
            &["-i", "a/b=y", "-i", "a=-"],
            &["\"a\" is a file", "\"a/b\""],
        ),
        (
            &["-i", "a=-", "-o", "a/b"],
            &["\"a\" is a file", "output \"a/b\""],
        ),
        // Names of outputs.
        (
            &["-o", "../x"],
            &["output name \"../x\"", "climbs", "-o x=DEST"],
        ),
        (&["-o", "../x=y"], &["output name \"../x\"", "climbs"]),
        (&["-o", "a/../x"], &["climbs"]),
        (&["-o", "/x"], &["output name \"/x\"", "absolute"]),
        (&["-o", ""], &["output name \"\"", "empty"]),
        (&["-o", "=y"], &["empty", "-o NAME=DEST"]),
        (&["-o", "x="], &["\"x\" has nothing", "-o x=DEST"]),
        (&["-o", "-"], &["standard output has no name", "-o NAME=-"]),
        (&["-o", "."], &["output \".\"", "-o .=DIRECTORY"]),
        (
            &["-o", &long_name],
            &["longer than 255 bytes", "-o NAME=DEST"],
        ),
        (&["--output", "../x", "y"], &["climbs"]),
        (&["--output", "x", ""], &["\"x\" has nothing"]),
        (
            &["-o", "a", "-o", "a=b"],
            &["two outputs are named \"a\"", "-o NAME=DEST"],
        ),
        (
            &["-o", "a", "--output", "a", "b"],
            &["two outputs are named \"a\""],
        ),
        (
            &["-o", "a=-", "-o", "b=-"],
            &["\"a\" and \"b\"", "standard output"],
        ),
        // Other values.
        (&["--size", "12X"], &["12X", "512M"]),
        (&["--size", "0"], &["'0'", "4096"]),
        (&["--size", "101%"], &["101%", "100%"]),
        (&["--size="], &["--size"]),
        (&["--size", "-5"], &["-5"]),
        (&["--inodes", "50%"], &["50%", "64K"]),
        (&["--inodes", "1"], &["'1'", "at least 2"]),
        (&["--timeout", "soon"], &["soon", "30s"]),
        (&["--timeout", "0"], &["'0'", "no limit"]),
        (&["--mount", "secret"], &["secret", "private", "public"]),
        (&["--follow", "../log"], &["after --follow", "climbs"]),
        (
            &["--follow", "log", "-o", "x=-"],
            &["\"log\" is followed", "\"x\"", "/dev/fd/N"],
        ),
        (
            &["--follow", "log", "-o", "x", "--pack", "-"],
            &["\"log\" is followed", "--pack"],
        ),
        (&["--limit", "memry=1G"], &["memry", "did you mean memory?"]),
        (&["-v", "-q"], &["--quiet"]),
        (&["--then-word", ""], &["empty"]),
        (&["--nonsense"], &["--nonsense"]),
        (&["-x"], &["-x"]),
        (
            &["--size", "1M", "--size", "2M"],
            &["--size", "multiple times"],
        ),
        (&["make"], &["\"make\" stands before the `--`", "-- make"]),
        (
            &["-i", "a", "rgbasm", "a"],
            &["\"rgbasm\" stands before", "-i stages one"],
        ),
        // What a shell makes of *.asm and *.gb.
        (
            &["-i", "p1.asm", "p2.asm", "p3.asm", "-o", "x"],
            &["\"p2.asm\" stands", "-i stages one file", "-i DIR"],
        ),
        (
            &["-o", "a.gb", "b.gb"],
            &["\"b.gb\" stands", "-o takes one", "--collect '*.gb'"],
        ),
        (
            &["--input", "a", "b", "c", "d"],
            &["\"c\" stands", "--input stages one"],
        ),
        (&["-qvi", "a", "b"], &["\"b\" stands", "-i stages one"]),
        (&["-ia", "b"], &["\"b\" stands", "leave it out"]),
        (
            &["--timeout", "5", "s"],
            &["\"s\" stands", "as one word", "5s"],
        ),
        (&["--size=50", "%"], &["\"%\" stands"]),
        // Of steps, and so behind the `--`.
        (
            &["--stdin", "a"],
            &["\"--stdin\" stands before", "belongs to a step"],
        ),
        (&["--env=A=b"], &["belongs to a step"]),
        (
            &["--then", "true"],
            &["\"--then\" stands before", "--then TOOL"],
        ),
    ];
    for (options, expected) in table {
        let message = run_with(options).expect_err(&format!("{options:?}"));
        for part in *expected {
            assert!(
                message.contains(part),
                "{options:?}: {message:?} lacks {part:?}"
            );
        }
    }
}

#[test]
fn a_forgotten_value_is_told_whatever_the_step_is() {
    for line in [
        &["--input", "x", "--", "sh", "-c", "y"][..],
        &["--input", "--", "sh", "-c", "y"],
        &[
            "--input", "a", "b", "-o", "c", "--input", "x", "--", "sh", "-c",
        ],
    ] {
        let message = run(line).expect_err(&format!("{line:?}"));
        assert!(message.contains("--input lacks a value"), "{message}");
    }
    let message = run(&["--input", "a", "b", "-z", "--", "sh", "-c"]).unwrap_err();
    assert!(message.contains("'-z'"), "{message}");
}

#[test]
fn refused_steps() {
    let table: &[(&[&str], &str)] = &[
        (&[], "there is no command to run"),
        (&["--"], "there is no command to run"),
        (&["-i", "a"], "there is no command to run"),
        (&["true"], "\"true\" stands before the `--`"),
        (&["ls", "-l"], "-- ls"),
        (&["-i", "a", "ls", "-l"], "-i takes one name"),
        (&["--", "--timeout", "5s", "a"], "before the first `--`"),
        (&["--", "--then"], "before \"--then\""),
        (&["--", "--then", "a"], "before \"--then\""),
        (&["--", "a", "--then"], "after \"--then\""),
        (&["--", "a", "--then", "--then", "b"], "after \"--then\""),
        (&["--", "a", "--then", "--pipe", "b"], "after \"--then\""),
        (&["--", "a", "--pipe"], "after \"--pipe\""),
        (&["--", "--pipe", "b"], "before \"--pipe\""),
        (&["--then-word", "+", "--", "+"], "before \"+\""),
        (&["--pipe-word", "+", "--", "a", "+"], "after \"+\""),
        (&["--pipe-word", "--then", "--", "a"], "both separated by"),
        (&["--pipe-word", "", "--", "a"], "empty"),
        (&["--", ""], "a command begins with an empty word"),
        (
            &["--", "a", "--then", "", "b"],
            "a command begins with an empty word",
        ),
        (&["--", "--stdni", "x", "a"], "did you mean --stdin?"),
        (&["--", "-x", "a"], "a step has no option \"-x\""),
        (&["--", "--size", "1M", "a"], "before the first `--`"),
        (&["--", "--nothing", "a"], "./--nothing"),
        (&["--", "--stdin"], "--stdin lacks a value"),
        (&["--", "--stdin", "x"], "options and no command"),
        (&["--", "--"], "options and no command"),
        (&["--", "--stdin", "--then", "x"], "--stdin lacks a value"),
        (&["--", "--stdin", "../x", "a"], "\"../x\""),
        (&["--", "--stdout=/x", "a"], "absolute"),
        (&["--", "--stderr", "", "a"], "empty"),
        (&["--", "--chdir", "a/../..", "a"], "climbs"),
        (
            &["--", "--chdir", "a", "--chdir=b", "a"],
            "--chdir is given twice",
        ),
        (
            &["--", "--env", "X", "a"],
            "the variable \"X\" cannot be set",
        ),
        (&["--", "--env==1", "a"], "\"=1\" cannot be set"),
        (&["--", "--stdin", "x", ""], "an empty word"),
        (
            &["--", "--stdout", "x", "a", "--pipe", "b"],
            "\"a\" has its standard output in a pipe",
        ),
        (
            &["--", "a", "--pipe", "--stdin", "x", "b"],
            "\"b\" has its standard input in a pipe",
        ),
        (
            &["--", "--stdin", "x", "--stdout", "x", "sort"],
            "\"sort\" would read \"x\"",
        ),
        (&["-i"], "a value is required"),
        (&["--input", "a"], "2 values required"),
        (&["--size"], "a value is required"),
    ];
    for (line, expected) in table {
        let message = run(line).expect_err(&format!("{line:?}"));
        assert!(
            message.contains(expected),
            "{line:?}: {message:?} lacks {expected:?}"
        );
    }
}

#[test]
fn an_input_that_is_a_file_holds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let file = format!("a={}", file.display());
    let inside = format!("a={}", directory.path().display());
    let gone = format!("a={}", directory.path().join("gone").display());
    assert!(
        run_with(&["-i", &file, "-i", "a/b=x"])
            .unwrap_err()
            .contains("\"a\" is a file")
    );
    assert!(
        run_with(&["-i", &file, "-o", "a/b"])
            .unwrap_err()
            .contains("\"a\" is a file")
    );
    assert!(run_with(&["-i", &file, "-o", "a", "-i", "ab=x"]).is_ok());
    assert!(run_with(&["-i", &inside, "-i", "a/b=x", "-o", "a/c"]).is_ok());
    // What is missing is told by staging, as a missing file.
    assert!(run_with(&["-i", &gone, "-i", "a/b=x"]).is_ok());
}

#[test]
fn mount_and_umount() {
    let line = words(&[
        "notapipe",
        "mount",
        "--size",
        "1G",
        "--background",
        "--mode",
        "1777",
        "--uid",
        "5",
        "--gid",
        "6",
        "--allow-other",
        "--read-only",
        "--name",
        "scratch",
        "--profile",
        "observed",
        "-q",
        "/mnt",
    ]);
    let Ok(Command::Mount(config)) = parse(line) else {
        panic!()
    };
    assert_eq!(
        config,
        MountConfig {
            dir: "/mnt".into(),
            limits: LimitArgs {
                size: Some(Size::Bytes(1 << 30)),
                inodes: None
            },
            background: true,
            mode: 0o1777,
            uid: Some(5),
            gid: Some(6),
            allow_other: true,
            read_only: true,
            from: None,
            save: None,
            devices: false,
            set_user_id: false,
            no_exec: false,
            nonempty: false,
            caller: Caller::Person,
            name: Some("scratch".into()),
            profile: Profile::Observed,
            verbosity: Verbosity::Quiet,
        }
    );
    let Ok(Command::Mount(config)) = parse(words(&["notapipe", "mount", "d"])) else {
        panic!()
    };
    assert_eq!((config.mode, config.profile), (0o700, Profile::Fast));
    let Ok(Command::Plain(Plain::Umount(args))) =
        parse(words(&["notapipe", "umount", "--lazy", "d"]))
    else {
        panic!()
    };
    assert!(args.lazy && args.dir == std::path::Path::new("d"));
}

#[test]
fn mount_options_are_those_of_fstab() {
    let mount = |options: &str| {
        let line = words(&["notapipe", "src", "/mnt", "-o", options]);
        match parse(line) {
            Ok(Command::Mount(config)) => Ok(config),
            Ok(_) => panic!("{options}"),
            Err(refusal) => Err(format!("{refusal:?}")),
        }
    };
    let config =
        mount("rw,size=1G,nr_inodes=64K,mode=1777,uid=5,gid=6,allow_other,dev,suid,noexec")
            .unwrap();
    assert_eq!(config.limits.size, Some(Size::Bytes(1 << 30)));
    assert_eq!(config.limits.inodes, Some(65536));
    assert_eq!(
        (config.mode, config.uid, config.gid),
        (0o1777, Some(5), Some(6))
    );
    assert!(config.allow_other && config.devices && config.set_user_id && config.no_exec);
    assert!(config.background && !config.read_only);
    assert_eq!(
        (config.name.as_deref(), config.caller),
        (Some("src"), Caller::Mount8)
    );
    let config =
        mount("ro,_netdev,x-systemd.automount,noatime,from=a.tar,save=/c.zip,nodev,nosuid")
            .unwrap();
    assert!(config.read_only && !config.devices && !config.set_user_id);
    assert_eq!(config.from, Some(Filling::Host("a.tar".into())));
    assert_eq!(config.save, Some("/c.zip".into()));
    for bad in [
        "nonsense",
        "size",
        "size=",
        "size=x",
        "mode=9",
        "uid=root",
        "from=",
        "ro=1",
        "subtype=sshfs",
    ] {
        assert!(mount(bad).is_err(), "{bad}");
    }
}

#[test]
fn clap_agrees_with_its_definition() {
    use clap::CommandFactory;
    super::args::Cli::command().debug_assert();
}

proptest! {
    /// Joined by the separator and taken apart again, steps are the same.
    #[test]
    fn steps_come_back(steps in steps()) {
        let line = steps.join(&OsString::from("--then"));
        let split = steps::steps(&line, "--then".as_ref(), "--pipe".as_ref()).unwrap();
        let split: Vec<_> = split.into_iter().map(|step| step.command).collect();
        prop_assert_eq!(split, steps);
    }

    /// Whatever the words are, there is an answer, and an accepted one loses none of them.
    #[test]
    fn no_word_is_lost(words in prop::collection::vec("(--then|a|-x||--|\\PC{0,3})", 0..12)) {
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        if let Ok(steps) = steps::steps(&words, "--then".as_ref(), "--pipe".as_ref()) {
            let begin_with_dashes = words.split(|word| word == "--then").map(|step| step[0] == "--");
            let argvs: Vec<_> = steps.into_iter().zip(begin_with_dashes).map(|(step, dashes)| {
                let dashes = dashes.then(|| OsString::from("--"));
                dashes.into_iter().chain(step.command).collect::<Vec<_>>()
            }).collect();
            prop_assert_eq!(argvs.join(&OsString::from("--then")), words);
        }
    }

    /// No name that is accepted leaves the mount.
    #[test]
    fn accepted_names_stay_inside(value in "[./a=-]{0,12}") {
        if let Ok(config) = run_with(&[&format!("-i{value}")]) {
            for input in config.input {
                prop_assert!(input.name.names().iter().all(|name| name.as_bytes() != b".."));
            }
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Vec<OsString>>> {
    let word = prop_oneof![
        Just(OsString::from("--")),
        Just(OsString::from("--then=")),
        Just(OsString::new()),
        prop::collection::vec(1_u8..=255, 0..8).prop_map(OsString::from_vec),
    ];
    let tool = prop::collection::vec(1_u8..=255, 1..8)
        .prop_filter("a tool is no option", |tool| tool[0] != b'-')
        .prop_map(OsString::from_vec);
    let arguments = prop::collection::vec(word, 0..5).prop_map(|words| {
        words
            .into_iter()
            .filter(|word| word != "--then")
            .collect::<Vec<_>>()
    });
    let step = (tool, arguments).prop_map(|(tool, arguments)| [vec![tool], arguments].concat());
    prop::collection::vec(step, 1..5)
}

//! What must be refused: archives, names and job files, each with its own message, with nothing staged and
//! nothing written.

use crate::support::hostile;
use crate::support::site::{Site, Who};

/// Before each refusal and after it, the directory is this.
const BEFORE: [&str; 2] = ["file: old", "out: old"];

/// Says that it ran, which it must not, and would write over everything.
const STEP: [&str; 8] = [
    "-o",
    "out",
    "-o",
    "file",
    "--",
    "sh",
    "-c",
    "echo ran >&2; echo new > out; echo new > file",
];

fn site() -> Site {
    let site = Site::new(Who::User);
    site.write("file", "old");
    site.write("out", "old");
    site
}

#[track_caller]
fn refused(site: &Site, what: &str, told: crate::support::site::Told, code: i32, parts: &[&str]) {
    assert_eq!(told.status.code(), Some(code), "{what}: {told:?}");
    assert!(
        !told.stderr.contains("ran\n"),
        "{what} was run: {}",
        told.stderr
    );
    assert!(!told.stderr.contains("panicked"), "{what}: {}", told.stderr);
    for part in parts {
        assert!(
            told.stderr.contains(part),
            "{what}: {part:?} is not in {}",
            told.stderr
        );
    }
    assert!(told.stdout.is_empty(), "{what}: {}", told.text());
    assert_eq!(site.listing(), BEFORE, "{what}");
    println!("{what}: {}", told.stderr.trim_end());
}

#[test]
fn archives() {
    let site = site();
    let options = ["--size", "64M", "--inodes", "10000", "--unpack", "-"];
    let words = [&options[..], &STEP].concat();
    let mut count = 0;
    for (what, bytes, message) in hostile::archives() {
        // `./` is how tar tells of the directory that was packed.
        if what != "the root as a file" {
            assert!(!message.is_empty(), "{what} has no message of its own");
            let told = site.run_reading(&bytes, &words);
            refused(&site, what, told, 125, &["notapipe: ", message]);
            count += 1;
        }
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn names_and_values() {
    let long = "n".repeat(256);
    let deep = "d/".repeat(2100);
    let table: &[(&[&str], &str)] = &[
        (&["-i", ""], "\"\" cannot be used: it is empty"),
        (
            &["-i", "=x"],
            "the input name \"\" cannot be used: it is empty",
        ),
        (
            &["-i", "/=file"],
            "the input name \"/\" cannot be used: it is absolute",
        ),
        (
            &["-i", "/etc/x=file"],
            "the input name \"/etc/x\" cannot be used: it is absolute",
        ),
        (
            &["-i", "../x=file"],
            "the input name \"../x\" cannot be used: it climbs",
        ),
        (
            &["-i", "a/../../x=file"],
            "the input name \"a/../../x\" cannot be used: it climbs",
        ),
        (&["-i", ".."], "\"..\" gives the input no name"),
        (&["-i", "-"], "standard input has no name"),
        (&["-i", "x="], "the input \"x\" has nothing after its name"),
        (
            &["-i", ".=-"],
            "standard input is one file and cannot fill the whole mount",
        ),
        (
            &["-i", ".=file"],
            "\"file\" is a file and cannot fill the whole mount",
        ),
        (
            &["-i", "x=file", "-i", "x=out"],
            "two inputs are named \"x\"",
        ),
        (
            &["-i", "x=file", "-i", "./x=out"],
            "two inputs are named \"x\"",
        ),
        (
            &["-i", "x=-", "-i", "y=-"],
            "\"x\" and \"y\" cannot both be standard input",
        ),
        (
            &["-i", "x=file", "-i", "x/y=out"],
            "the input \"x\" is a file, and the input \"x/y\" would lie in it",
        ),
        (&["-i", &format!("{long}=file")], "longer than 255"),
        (&["-i", &format!("{deep}=file")], "longer than 4095"),
        (
            &["-o", ""],
            "the output name \"\" cannot be used: it is empty",
        ),
        (
            &["-o", "/etc/passwd"],
            "the output name \"/etc/passwd\" cannot be used: it is absolute",
        ),
        (
            &["-o", "../x"],
            "the output name \"../x\" cannot be used: it climbs",
        ),
        (
            &["-o", "a/../x"],
            "the output name \"a/../x\" cannot be used: it climbs",
        ),
        (&["-o", "."], "the output \".\" would deliver everything"),
        (&["-o", "-"], "standard output has no name"),
        (&["-o", "x="], "the output \"x\" has nothing after its name"),
        (&["-o", "x", "-o", "x=y"], "two outputs are named \"x\""),
        (
            &["-o", "x=-", "-o", "y=-"],
            "\"x\" and \"y\" cannot both be standard output",
        ),
        (
            &["--optional", "../x"],
            "the output name \"../x\" cannot be used: it climbs",
        ),
        (&["--optional", "out"], "two outputs are named \"out\""),
        (
            &["--optional", "."],
            "the output \".\" would deliver everything",
        ),
        (&["--collect", ""], "--collect has nothing after it"),
        (&["--collect", "*="], "--collect has nothing after it"),
        (
            &["--collect", "/etc/*"],
            "the pattern \"/etc/*\" cannot be used: as a path, it is absolute",
        ),
        (
            &["--collect", "../*"],
            "the pattern \"../*\" cannot be used: as a path, it climbs",
        ),
        (
            &["--collect", "["],
            "the pattern \"[\" cannot be used: unclosed character class",
        ),
        (
            &["--collect", "{a,b"],
            "the pattern \"{a,b\" cannot be used: unclosed alternate group",
        ),
        (
            &["--collect", "*=-"],
            "\"*\" goes to standard output, which is one file",
        ),
        (&["--changed="], "--changed has nothing after it"),
        (
            &["--changed=-"],
            "\"--changed\" goes to standard output, which is one file",
        ),
        (&["--unpack", ""], "--unpack has nothing after it"),
        (
            &["--unpack", "-", "--unpack", "-"],
            "two archives cannot both be standard input",
        ),
        (
            &["--unpack", "-", "-i", "x=-"],
            "the archive and the input \"x\" cannot both be standard input",
        ),
        (&["--pack", ""], "--pack has nothing after it"),
        (&["--pack", "game.gb"], "\"game.gb\" is no archive's name"),
        (&["--pack", "x.tar/"], "\"x.tar/\" is no archive's name"),
        (
            &["--pack", "-", "-o", "x=y"],
            "the output \"x\" has a place of its own, and all outputs go into one archive",
        ),
        (
            &["--input-from", "/x", "true"],
            "the input name \"/x\" cannot be used: it is absolute",
        ),
        (
            &["--input-from", ".", "true"],
            "a command makes or takes one file",
        ),
        (
            &["--input-from", "x", " "],
            "the command for \"x\" is empty",
        ),
        (
            &["--input-from", "x", "true", "-i", "x=file"],
            "two inputs are named \"x\"",
        ),
        (
            &["--output-to", "../x", "true"],
            "the output name \"../x\" cannot be used: it climbs",
        ),
        (&["--output-to", "x", ""], "the command for \"x\" is empty"),
    ];
    let site = site();
    for (options, message) in table {
        let told = site.run(&[options, &STEP[..]].concat());
        refused(&site, &options.join(" "), told, 2, &["notapipe: ", message]);
    }
    let told = site.run(&["--output-to", "x", "--", "sh", "-c", "echo ran >&2"]);
    let message = "the literal form --output-to lacks a value";
    refused(&site, "--output-to x", told, 2, &[message]);
    // With nothing named there is nothing to pack.
    let told = site.run(&["--pack", "-", "--", "sh", "-c", "echo ran >&2"]);
    refused(
        &site,
        "--pack alone",
        told,
        2,
        &["there is nothing to pack", "--changed"],
    );
}

/// Right as words, and still nothing that can be read or written.
#[test]
fn sources_and_destinations() {
    let site = site();
    let step = ["--", "sh", "-c", "echo ran >&2; echo new > x"];
    let table: &[(&[&str], &str)] = &[
        (&["-i", "absent"], "cannot read \"absent\": No such file"),
        (
            &["--unpack", "absent.tar"],
            "cannot read \"absent.tar\": No such file",
        ),
        (&["--unpack", "."], "cannot read \".\""),
        (&["--unpack", "file"], "\"file\" is no archive"),
        (&["--pack", "file/x.tar", "-o", "x"], "file"),
        (&["--pack", "/proc/x.tar", "-o", "x"], "/proc"),
        (&["--collect", "*=file"], "file"),
        (&["--changed=file"], "file"),
        (&["-o", "x=file/x"], "file"),
        (&["-o", "x=/proc/x"], "/proc"),
    ];
    for (options, message) in table {
        let told = site.run(&[options, &step[..]].concat());
        refused(
            &site,
            &options.join(" "),
            told,
            125,
            &["notapipe: ", message],
        );
    }
}

#[test]
fn job_files() {
    let step = "[[step]]\ncommand = [\"sh\", \"-c\", \"echo ran >&2\"]\n";
    let table: &[(&str, &str)] = &[
        (
            "input = [\"../..\"]",
            ":1: \"../..\" gives the input no name",
        ),
        (
            "input = [{ name = \"/x\", source = \"file\" }]",
            ":1: the input name \"/x\" cannot be used: it is absolute",
        ),
        (
            "\noutput = [\"a/../x\"]",
            ":2: the output name \"a/../x\" cannot be used: it climbs",
        ),
        (
            "optional = [\"/x\"]",
            ":1: the output name \"/x\" cannot be used: it is absolute",
        ),
        (
            "collect = [\"../*\"]",
            "the pattern \"../*\" cannot be used: as a path, it climbs",
        ),
        (
            "collect = [\"{\"]",
            "the pattern \"{\" cannot be used: unclosed alternate group",
        ),
        ("collect = \"*\"", ":1: invalid type: string"),
        (
            "unpack = [\"-\", \"-\"]",
            "two archives cannot both be standard input",
        ),
        ("pack = \"x.gb\"", "\"x.gb\" is no archive's name"),
        ("pack = \"-\"", "there is nothing to pack"),
        (
            "changed = \"-\"",
            "goes to standard output, which is one file",
        ),
        ("changed = true", ":1: invalid type: boolean"),
        ("input-from = [\"x\"]", ":1: invalid type: string"),
        (
            "input-from = [{ name = \"../x\", command = \"true\" }]",
            ":1: the input name \"../x\" cannot be used: it climbs",
        ),
        (
            "[[input-from]]\nname = \"x\"\ncomand = \"true\"",
            ":3: unknown key `comand`",
        ),
        (
            "[[output-to]]\nname = \"x\"\ncommand = \" \"",
            "the command for \"x\" is empty",
        ),
        (
            "follow = \"/x\"",
            ":1: \"/x\" cannot be used: it is absolute",
        ),
        ("kill-after = \"soon\"", ":1: \"soon\" cannot be used"),
        ("settle = -1", ":1: \"-1\" cannot be used"),
        ("keep-on-failure = 3", ":1: invalid type: integer `3`"),
        ("profile = \"slow\"", ":1: \"slow\" cannot be used"),
        ("imput = []", ":1: unknown key `imput`"),
        ("size = \"many\"", ":1: \"many\" cannot be used"),
        ("timeout = \"-1\"", ":1: \"-1\" cannot be used"),
        ("size = \"1M\"\nsize = \"2M\"", ":2: duplicate key"),
        ("size = ", ":1: "),
    ];
    // Of a step: its options.
    let of_step: &[(&str, &str)] = &[
        ("stdin = \"../x\"", ":3: \"../x\" cannot be used: it climbs"),
        (
            "stdout = \"/x\"",
            ":3: \"/x\" cannot be used: it is absolute",
        ),
        ("stderr = \"\"", ":3: \"\" cannot be used: it is empty"),
        ("chdir = \"/\"", ":3: \"/\" cannot be used: it is absolute"),
        ("env = [\"=x\"]", ":3: the variable \"=x\" cannot be set"),
        (
            "pipe = true",
            "the first step reads from a pipe, and no step writes to it",
        ),
        (
            "stdin = \"a\"\nstdout = \"a\"",
            "would read \"a\", which is emptied for its output",
        ),
        ("shell = true", ":3: unknown key `shell`"),
    ];
    let site = site();
    for (lines, message) in table {
        let text = format!("{lines}\n{step}");
        let told = site.run_reading(text.as_bytes(), &["--job", "-"]);
        refused(&site, lines, told, 2, &["notapipe: ", message]);
    }
    for (lines, message) in of_step {
        let text = format!("{step}{lines}\n");
        let told = site.run_reading(text.as_bytes(), &["--job", "-"]);
        refused(&site, lines, told, 2, &["notapipe: ", message]);
    }
    for (words, message) in [
        (
            ["--follow", "../x", "--", "true"],
            "the name \"../x\" after --follow cannot be used: it climbs",
        ),
        (
            ["--", "--stdin", "/x", "true"],
            "the name \"/x\" after --stdin cannot be used: it is absolute",
        ),
        (
            ["--", "--chdir", "/", "true"],
            "the name \"/\" after --chdir cannot be used: it is absolute",
        ),
        (
            ["--", "--env", "=x", "true"],
            "the variable \"=x\" cannot be set",
        ),
        (
            ["--", "--nothing", "x", "true"],
            "a step has no option \"--nothing\"",
        ),
        (
            ["--", "true", "--then", "--stdout=x"],
            "a step has options and no command",
        ),
    ] {
        let told = site.run(&words);
        refused(&site, &words.join(" "), told, 2, &["notapipe: ", message]);
    }
}

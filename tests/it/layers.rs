//! The layers of DESIGN.md: who may know whom. A wrong arrow fails here, with its place.
//!
//! A scan of the sources' tokens: comments and strings are taken off, `use` trees are unfolded, and
//! every path is compared with the rules. Unit tests inside the sources are held to the same rules,
//! but for what [`Rule::outside_tests`] leaves to them.

use std::fmt;
use std::fs;
use std::path::Path;

/// What the files below some folders must not name.
struct Rule {
    /// Files or folders below `src`, without `.rs`.
    folders: &'static [&'static str],
    /// Files that the rule leaves out.
    except: &'static [&'static str],
    /// Paths that must not be named, nor anything below them. `x!` is a macro.
    forbidden: &'static [&'static str],
    /// Unit tests may.
    outside_tests: bool,
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        folders: &["store", "view"],
        except: &[],
        forbidden: &[
            "fuser",
            "libc",
            "rustix",
            "clap",
            "std::fs",
            "std::process",
            "std::env",
            "std::net",
            "std::os::fd",
            "std::os::unix::fs",
            "std::os::unix::net",
        ],
        outside_tests: true,
        why: "the store and the view know no kernel, no host file system and no process",
    },
    Rule {
        folders: &["store"],
        except: &[],
        forbidden: &[
            "crate::view",
            "crate::fuse",
            "crate::mount",
            "crate::run",
            "crate::scratch",
            "crate::stage",
            "crate::collect",
            "crate::archive",
            "crate::control",
        ],
        outside_tests: false,
        why: "the store is the lowest layer",
    },
    Rule {
        folders: &["view"],
        except: &[],
        forbidden: &[
            "crate::fuse",
            "crate::mount",
            "crate::run",
            "crate::scratch",
            "crate::stage",
            "crate::collect",
            "crate::archive",
            "crate::control",
        ],
        outside_tests: false,
        why: "the view knows the store alone",
    },
    Rule {
        folders: &["stage", "collect", "archive"],
        except: &[],
        forbidden: &[
            "crate::fuse",
            "crate::mount",
            "crate::view",
            "crate::run",
            "crate::scratch",
            "crate::control",
        ],
        outside_tests: false,
        why: "staging and collecting go to the store, never through a mount",
    },
    Rule {
        folders: &["stage", "collect"],
        except: &[],
        forbidden: &["crate::archive"],
        outside_tests: false,
        why: "archives stand on staging and collecting, not the other way round",
    },
    Rule {
        folders: &["control"],
        except: &[],
        forbidden: &["crate::run", "crate::fuse"],
        outside_tests: false,
        why: "control speaks of a scratch directory, not of jobs or the kernel",
    },
    Rule {
        folders: &["scratch"],
        except: &[],
        forbidden: &["crate::control", "crate::archive"],
        outside_tests: false,
        why: "a scratch directory does not know who controls it",
    },
    Rule {
        folders: &["fuse"],
        except: &[],
        forbidden: &[
            "crate::mount",
            "crate::run",
            "crate::scratch",
            "crate::stage",
            "crate::collect",
            "crate::archive",
            "crate::control",
            "std::fs",
            "std::process",
            "std::env",
            "std::os::unix::fs",
            "rustix::fs",
            "tempfile",
        ],
        outside_tests: true,
        why: "the kernel's view knows no job and no host file system",
    },
    Rule {
        folders: &["mount"],
        except: &[],
        forbidden: &[
            "crate::run",
            "crate::scratch",
            "crate::control",
            "crate::stage",
            "crate::collect",
            "crate::archive",
        ],
        outside_tests: false,
        why: "a mount knows nothing of what it is for",
    },
    Rule {
        folders: &[""],
        except: &["fuse/fuser"],
        forbidden: &["fuser"],
        outside_tests: false,
        why: "nothing outside fuse/fuser.rs names fuser",
    },
    Rule {
        folders: &["fuse/fuser"],
        except: &[],
        forbidden: &[
            "crate::store",
            "crate::view",
            "super::lazy",
            "super::ops",
            "super::requests",
            "libc",
            "parking_lot",
            "std::panic",
            "std::thread",
        ],
        outside_tests: false,
        why: "the transport decodes and replies; what is done with a request is decided in fuse/dispatch.rs",
    },
    Rule {
        folders: &["fuse"],
        except: &["fuse/fuser", "fuse/session"],
        forbidden: &["super::fuser", "super::session"],
        outside_tests: false,
        why: "what is done with a request does not depend on the transport",
    },
    Rule {
        folders: &[""],
        // The init is a process of its own, which our program becomes.
        except: &["cli", "main", "run/init"],
        forbidden: &[
            "clap",
            "anyhow",
            "env_logger",
            "humantime",
            "signal_hook",
            "print!",
            "println!",
            "eprint!",
            "eprintln!",
            "dbg!",
            "std::process::exit",
            "std::process::abort",
        ],
        outside_tests: true,
        why: "library code neither prints nor exits nor parses command lines",
    },
    Rule {
        folders: &[""],
        // A step gets our environment unless told otherwise; it is passed on, not looked at.
        except: &["cli", "main", "run/step"],
        forbidden: &["std::env"],
        outside_tests: true,
        why: "library code does not read the environment",
    },
    Rule {
        folders: &[""],
        except: &["cli", "main"],
        forbidden: &[
            "libc::sigaction",
            "libc::signal",
            "libc::sigprocmask",
            "libc::pthread_sigmask",
        ],
        outside_tests: true,
        why: "library code installs no signal handlers",
    },
];

/// A path that was named, and where.
#[derive(Debug, PartialEq)]
struct Named {
    path: String,
    line: usize,
    in_tests: bool,
}

struct Violation<'r> {
    file: String,
    named: Named,
    rule: &'r Rule,
}

impl fmt::Display for Violation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            named: Named { path, line, .. },
            rule,
        } = self;
        write!(f, "src/{file}:{line} names `{path}`: {}", rule.why)
    }
}

#[test]
fn the_layers_hold() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut told = Vec::new();
    let mut files = 0;
    for entry in walkdir::WalkDir::new(&src).sort_by_file_name() {
        let entry = entry.unwrap();
        if entry
            .path()
            .extension()
            .is_some_and(|extension| extension == "rs")
        {
            let file = entry.path().strip_prefix(&src).unwrap().to_str().unwrap();
            let source = fs::read_to_string(entry.path()).unwrap();
            told.extend(violations(file, &source).iter().map(ToString::to_string));
            files += 1;
        }
    }
    assert!(
        files > 10,
        "only {files} files were found in {}",
        src.display()
    );
    assert!(told.is_empty(), "\n{}\n", told.join("\n"));
}

fn violations(file: &str, source: &str) -> Vec<Violation<'static>> {
    let mut found = Vec::new();
    for named in paths(source) {
        let broken = RULES.iter().filter(|rule| {
            rule.folders.iter().any(|folder| is_in(file, folder))
                && !rule.except.iter().any(|except| is_in(file, except))
                && !(rule.outside_tests && (named.in_tests || is_test_file(file)))
                && rule
                    .forbidden
                    .iter()
                    .any(|forbidden| is_below(&named.path, forbidden))
        });
        for rule in broken {
            let named = Named {
                path: named.path.clone(),
                ..named
            };
            found.push(Violation {
                file: file.to_owned(),
                named,
                rule,
            });
        }
    }
    found
}

fn is_test_file(file: &str) -> bool {
    file.ends_with("/tests.rs") || file.contains("/tests/")
}

fn is_in(file: &str, folder: &str) -> bool {
    let module = file.trim_end_matches(".rs");
    folder.is_empty() || module == folder || module.starts_with(&format!("{folder}/"))
}

/// Whether `path` is `forbidden` or below it. The roots of the standard library are one.
fn is_below(path: &str, forbidden: &str) -> bool {
    let path = path.trim_start_matches("::");
    let path = match path.split_once("::") {
        Some(("core" | "alloc", rest)) => format!("std::{rest}"),
        _ => path.to_owned(),
    };
    path == forbidden || path.starts_with(&format!("{forbidden}::"))
}

/// Every path in a source: `use` trees unfolded, those through an imported module completed.
fn paths(source: &str) -> Vec<Named> {
    let tokens = tokens(source);
    let tests_from = tests_begin(&tokens);
    let mut imported: Vec<(String, String)> = Vec::new();
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let (token, line) = &tokens[at];
        let in_tests = tests_from.is_some_and(|first| at >= first);
        if token == "use" {
            let mut leaves = Vec::new();
            at = use_tree(&tokens, at + 1, String::new(), &mut leaves);
            for (path, alias, line) in leaves {
                imported.push((alias, path.clone()));
                found.push(Named {
                    path,
                    line,
                    in_tests,
                });
            }
            continue;
        }
        if token == "extern" && tokens.get(at + 1).is_some_and(|next| next.0 == "crate") {
            if let Some((path, line)) = tokens.get(at + 2) {
                found.push(Named {
                    path: path.clone(),
                    line: *line,
                    in_tests,
                });
            }
            at += 3;
            continue;
        }
        if !is_word(token) {
            at += 1;
            continue;
        }
        // A field or method called like a crate is none.
        let behind_dot = at > 0 && tokens[at - 1].0 == ".";
        let mut path = token.clone();
        at += 1;
        while tokens.get(at).is_some_and(|next| next.0 == "::")
            && tokens.get(at + 1).is_some_and(|next| is_word(&next.0))
        {
            path = format!("{path}::{}", tokens[at + 1].0);
            at += 2;
        }
        if tokens.get(at).is_some_and(|next| next.0 == "!") {
            let name = path.rsplit("::").next().unwrap_or(&path);
            found.push(Named {
                path: format!("{name}!"),
                line: *line,
                in_tests,
            });
        }
        if behind_dot || !path.contains("::") {
            continue;
        }
        if let Some((head, rest)) = path.split_once("::") {
            for (_, whole) in imported.iter().filter(|(alias, _)| alias == head) {
                found.push(Named {
                    path: format!("{whole}::{rest}"),
                    line: *line,
                    in_tests,
                });
            }
        }
        found.push(Named {
            path,
            line: *line,
            in_tests,
        });
    }
    found
}

/// Where `#[cfg(test)]` begins the unit tests, which stand last in a file.
fn tests_begin(tokens: &[(String, usize)]) -> Option<usize> {
    let words = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    tokens
        .windows(words.len())
        .position(|seen| seen.iter().map(|token| &token.0).eq(words))
}

/// The leaves of one `use` tree as path, name here, line; returns where it ends.
fn use_tree(
    tokens: &[(String, usize)],
    mut at: usize,
    prefix: String,
    leaves: &mut Vec<(String, String, usize)>,
) -> usize {
    let mut path = prefix.clone();
    let mut line = tokens.get(at).map_or(0, |token| token.1);
    while let Some((token, here)) = tokens.get(at) {
        match token.as_str() {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.0 != "}") {
                    at = use_tree(tokens, at, path.clone(), leaves);
                    if tokens.get(at).is_some_and(|token| token.0 == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "," | "}" | ";" => break,
            "as" => {
                let alias = tokens
                    .get(at + 1)
                    .map_or_else(String::new, |token| token.0.clone());
                leaves.push((path, alias, line));
                return at + 2;
            }
            "::" => {}
            "self" if !path.is_empty() => {}
            word => {
                line = *here;
                let word = word.trim_start_matches("r#");
                path = if path.is_empty() {
                    word.to_owned()
                } else {
                    format!("{path}::{word}")
                };
            }
        }
        at += 1;
    }
    let alias = path.rsplit("::").next().unwrap_or(&path).to_owned();
    leaves.push((path, alias, line));
    at
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words and signs with their lines, without comments, strings, characters and lifetimes.
fn tokens(source: &str) -> Vec<(String, usize)> {
    let text: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    let here = |at: usize| text.get(at).copied().unwrap_or('\0');
    while at < text.len() {
        let start = at;
        match here(at) {
            '/' if here(at + 1) == '/' => {
                while at < text.len() && here(at) != '\n' {
                    at += 1;
                }
            }
            '/' if here(at + 1) == '*' => {
                let mut depth = 0;
                while at < text.len() {
                    if (here(at), here(at + 1)) == ('/', '*') {
                        depth += 1;
                        at += 2;
                    } else if (here(at), here(at + 1)) == ('*', '/') {
                        depth -= 1;
                        at += 2;
                        if depth == 0 {
                            break;
                        }
                    } else {
                        at += 1;
                    }
                }
            }
            '"' => at = string_end(&text, at),
            '\'' if here(at + 1) == '\\' => {
                at += 3;
                while at < text.len() && here(at) != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' if here(at + 2) == '\'' => at += 3,
            // A lifetime: its word is passed over too.
            '\'' => {
                at += 1;
                while here(at).is_alphanumeric() || here(at) == '_' {
                    at += 1;
                }
            }
            c if c.is_alphabetic() || c == '_' => {
                while here(at).is_alphanumeric() || here(at) == '_' {
                    at += 1;
                }
                let word: String = text[start..at].iter().collect();
                let hashes = (0..).take_while(|ahead| here(at + ahead) == '#').count();
                match word.as_str() {
                    "r" | "br" | "cr" if here(at + hashes) == '"' => {
                        at = raw_string_end(&text, at + hashes, hashes);
                    }
                    "b" | "c" if here(at) == '"' => at = string_end(&text, at),
                    "r" if hashes == 1 => at += 1,
                    _ => found.push((word, line)),
                }
            }
            ':' if here(at + 1) == ':' => {
                found.push(("::".to_owned(), line));
                at += 2;
            }
            c if c.is_whitespace() => at += 1,
            c if c.is_numeric() => {
                while here(at).is_alphanumeric() || here(at) == '_' {
                    at += 1;
                }
            }
            c => {
                found.push((c.to_string(), line));
                at += 1;
            }
        }
        line += text[start..at.min(text.len())]
            .iter()
            .filter(|&&c| c == '\n')
            .count();
    }
    found
}

fn string_end(text: &[char], quote: usize) -> usize {
    let mut at = quote + 1;
    while at < text.len() && text[at] != '"' {
        at += if text[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

fn raw_string_end(text: &[char], quote: usize, hashes: usize) -> usize {
    let mut at = quote + 1;
    while at < text.len() {
        if text[at] == '"' && (1..=hashes).all(|ahead| text.get(at + ahead) == Some(&'#')) {
            return at + 1 + hashes;
        }
        at += 1;
    }
    at
}

// The scan itself, on samples.

#[test]
fn violations_are_seen() {
    for (file, source, path, line) in [
        ("store/tree.rs", "use std::fs;", "std::fs", 1),
        (
            "store/tree.rs",
            "\n\nuse std::{io, fs::File};",
            "std::fs::File",
            3,
        ),
        (
            "store/tree.rs",
            "use std::{\n    io,\n    fs::{self, File},\n};",
            "std::fs",
            3,
        ),
        (
            "store/tree.rs",
            "fn f() { std::process::exit(1) }",
            "std::process::exit",
            1,
        ),
        (
            "store/tree.rs",
            "fn f() { ::libc::getpid() }",
            "libc::getpid",
            1,
        ),
        (
            "store/tree.rs",
            "use std as s;\nfn f() { s::fs::read(p) }",
            "std::fs::read",
            2,
        ),
        ("store/tree.rs", "use rustix as r;", "rustix", 1),
        ("store/tree.rs", "extern crate libc;", "libc", 1),
        ("store/content/pages.rs", "use rustix::mm;", "rustix::mm", 1),
        ("store.rs", "use clap::Parser;", "clap::Parser", 1),
        (
            "store/tree.rs",
            "use crate::fuse::Profile;",
            "crate::fuse::Profile",
            1,
        ),
        ("view.rs", "use crate::{store, mount};", "crate::mount", 1),
        ("stage.rs", "use crate::fuse;", "crate::fuse", 1),
        (
            "collect/deliver.rs",
            "use crate::mount::Mount;",
            "crate::mount::Mount",
            1,
        ),
        (
            "fuse/ops.rs",
            "use fuser::ReplyData;",
            "fuser::ReplyData",
            1,
        ),
        ("fuse/fuser.rs", "use std::fs::File;", "std::fs::File", 1),
        (
            "fuse/fuser.rs",
            "use super::ops::Ops;",
            "super::ops::Ops",
            1,
        ),
        (
            "fuse/dispatch.rs",
            "use super::fuser::Notifier;",
            "super::fuser::Notifier",
            1,
        ),
        ("fuse/ops.rs", "use crate::run::Job;", "crate::run::Job", 1),
        (
            "mount/mod.rs",
            "fn f(s: fuser::Session) {}",
            "fuser::Session",
            1,
        ),
        ("cli/mod.rs", "use fuser::Session;", "fuser::Session", 1),
        ("scratch.rs", "fn f() { println!(\"x\") }", "println!", 1),
        (
            "run/mod.rs",
            "fn f() { std::eprintln!(\"x\") }",
            "eprintln!",
            1,
        ),
        (
            "run/mod.rs",
            "use std::env;\nfn f() { env::var(\"x\") }",
            "std::env",
            1,
        ),
        (
            "run/mod.rs",
            "use signal_hook::flag;",
            "signal_hook::flag",
            1,
        ),
        (
            "run/mod.rs",
            "fn f() { libc::sigaction(1) }",
            "libc::sigaction",
            1,
        ),
        (
            "stage.rs",
            "/* a /* b */ */ use crate::fuse; // c",
            "crate::fuse",
            1,
        ),
        (
            "stage.rs",
            "const Q: char = '\"'; use crate::fuse;",
            "crate::fuse",
            1,
        ),
        (
            "stage.rs",
            "const Q: &str = r#\"\"\n\"#; use crate::fuse;",
            "crate::fuse",
            2,
        ),
        (
            "stage.rs",
            "fn f<'a>(x: &'a str) { crate::fuse::x() }",
            "crate::fuse::x",
            1,
        ),
    ] {
        let told = violations(file, source);
        let seen = told
            .iter()
            .any(|told| told.named.path == path && told.named.line == line);
        let all: Vec<_> = told.iter().map(ToString::to_string).collect();
        assert!(
            seen,
            "{file}: {source:?} is not refused for {path}:{line}: {all:?}"
        );
    }
}

#[test]
fn what_is_allowed_passes() {
    for (file, source) in [
        (
            "store/tree.rs",
            "// use std::fs;\n/* libc::x */ const A: &str = \"std::fs::x\";",
        ),
        (
            "store/tree.rs",
            "const A: &str = r\"use libc::x;\"; const B: &[u8] = b\"\\\"std::fs::x\";",
        ),
        (
            "store/tree.rs",
            "/// ```\n/// use std::fs;\n/// ```\nfn f() {}",
        ),
        (
            "store/tree.rs",
            "use std::os::unix::ffi::OsStrExt; use std::path::Path;",
        ),
        ("store/tree.rs", "fn f(x: X) { x.libc.fs() }"),
        ("store/tree.rs", "#[cfg(test)]\nmod tests { use std::fs; }"),
        ("storehouse.rs", "use std::fs;"),
        (
            "stage.rs",
            "use std::fs; use rustix::fs; use crate::store::Tree;",
        ),
        (
            "fuse/fuser.rs",
            "use fuser::Filesystem; use super::dispatch::Reply;",
        ),
        (
            "cli/mod.rs",
            "fn f() { println!(\"x\"); std::process::exit(1) }",
        ),
        ("main.rs", "use std::env; use clap::Parser;"),
        (
            "run/mod.rs",
            "use crate::{stage, collect, mount}; use std::process::Command;",
        ),
        (
            "run/mod.rs",
            "fn f(x: &str) { write!(x, \"{}\", fuser_like::x) }",
        ),
    ] {
        let told: Vec<_> = violations(file, source)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert!(told.is_empty(), "{file}: {source:?}: {told:?}");
    }
}

#[test]
fn a_violation_is_told_with_its_place() {
    let told = violations("store/tree.rs", "\nuse std::fs;");
    assert_eq!(
        told[0].to_string(),
        "src/store/tree.rs:2 names `std::fs`: the store and the view know no kernel, no host file \
         system and no process"
    );
}

//! Which layer of the library may name which, and what of the system each may use.

use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// Each layer, and the only others that it may name. What lies higher is never named: an arrow does not run up.
/// `memory`, `progress`, `sync` and `text` are free to all.
const ARROWS: &[(&str, &[&str])] = &[
    ("sys", &[]),
    ("store", &["sys::clock"]),
    ("glob", &["store"]),
    ("view", &["store"]),
    ("fuse", &["store", "view", "sys"]),
    ("stage", &["store"]),
    ("collect", &["store", "glob", "stage", "sys"]),
    ("archive", &["store", "stage", "collect"]),
    ("mount", &["store", "fuse", "sys"]),
    ("scratch", &["store", "view", "fuse", "mount", "run", "sys"]),
    (
        "control",
        &["collect", "archive", "mount", "scratch", "sys"],
    ),
];
const FREE: &[&str] = &["memory", "progress", "sync", "text"];

/// Files or folders, and what they must not name. Unit tests may.
const NEVER: &[(&[&str], &[&str])] = &[
    // The tree knows no kernel, no host file system and no process.
    (&["store", "view"], &["libc", "rustix", "tempfile"]),
    (&["store", "view", "fuse"], &["std::fs", "std::process"]),
    (&["store", "view", "fuse"], &["std::os::unix::fs"]),
    (&["store", "view"], &["std::os::fd", "std::net"]),
    (&["store", "view"], &["std::os::unix::net"]),
    (&["fuse"], &["rustix::fs", "tempfile"]),
    // The transport decodes and replies; what is done with a request is decided in `fuse/dispatch.rs`.
    (&["fuse/fuser"], &["crate", "libc", "parking_lot"]),
    (&["fuse/fuser"], &["std::panic", "std::thread"]),
    (
        &["fuse/fuser"],
        &["super::lazy", "super::ops", "super::requests"],
    ),
];

/// What only these files or folders may name. `x!` is a macro.
const ONLY_IN: &[(&[&str], &[&str])] = &[
    (&["fuser"], &["fuse/fuser"]),
    (&["super::fuser"], &["fuse/session"]),
    (&["super::session"], &["fuse/fuser"]),
    // The library does not parse command lines, print, exit or handle signals.
    (&["clap", "anyhow", "signal_hook"], PROGRAM),
    (&["print!", "println!", "eprint!", "eprintln!"], PROGRAM),
    (&["dbg!"], PROGRAM),
    (&["std::process::exit", "std::process::abort"], PROGRAM),
    (&["libc::sigaction", "libc::signal"], PROGRAM),
    (&["libc::sigprocmask", "libc::pthread_sigmask"], PROGRAM),
    // A step gets the environment of the caller unless told otherwise; it is passed on, not looked at.
    (&["std::env"], &["cli", "main", "run/step"]),
];
const PROGRAM: &[&str] = &["cli", "main"];

#[test]
fn the_layers_hold() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = walkdir::WalkDir::new(&src).into_iter().flatten();
    let sources = sources.filter(|it| it.path().extension().is_some_and(|it| it == "rs"));
    let mut broken = Vec::new();
    let mut count = 0;
    for source in sources {
        let file = source.path().strip_prefix(&src).unwrap();
        let text = fs::read_to_string(source.path()).unwrap();
        broken.extend(broken_by(file.to_str().unwrap(), &text));
        count += 1;
    }
    assert!(count > 10, "only {count} files in {}", src.display());
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn a_wrong_arrow_is_seen_and_a_right_one_is_not() {
    for (file, source) in [
        ("store/tree.rs", "use std::fs;"),
        ("store/tree.rs", "use std::{io, fs::{self, File}};"),
        ("store/tree.rs", "fn f() { ::libc::getpid() }"),
        ("store/tree.rs", "extern crate libc;"),
        ("store/tree.rs", "use crate::fuse::Profile;"),
        ("store/tree.rs", "use crate::sys::proc;"),
        ("view.rs", "use crate::{store, mount};"),
        ("stage.rs", "use super::fuse;\nuse crate::fuse;"),
        ("collect/deliver.rs", "use crate::mount::Mount;"),
        ("fuse/ops.rs", "use fuser::ReplyData;"),
        ("fuse/fuser.rs", "use super::ops::Ops;"),
        ("fuse/fuser.rs", "use crate::store::Ino;"),
        ("fuse/dispatch.rs", "use super::fuser::Notifier;"),
        ("mount/mod.rs", "fn f(s: fuser::Session) {}"),
        ("cli/mod.rs", "use fuser::Session;"),
        ("scratch.rs", "fn f() { println!(\"x\") }"),
        ("run/job.rs", "fn f() { g!(std::eprintln!(\"x\")) }"),
        ("run/job.rs", "fn f() { std::env::var(\"x\") }"),
        ("run/job.rs", "fn f() { libc::sigaction(1) }"),
    ] {
        assert_ne!(broken_by(file, source), [""; 0], "{file}: {source}");
    }
    for (file, source) in [
        (
            "store/tree.rs",
            "// use std::fs;\nconst A: &str = \"libc::x\";",
        ),
        (
            "store/tree.rs",
            "/// use std::fs;\nfn f(x: X) { x.libc.fs() }",
        ),
        ("store/tree.rs", "#[cfg(test)]\nmod tests { use std::fs; }"),
        ("storehouse.rs", "use std::fs;"),
        (
            "stage.rs",
            "use std::fs; use crate::store::Tree; use crate::text;",
        ),
        (
            "fuse/fuser.rs",
            "use fuser::Filesystem; use super::dispatch::Reply;",
        ),
        (
            "cli/mod.rs",
            "fn f() { println!(\"x\"); std::process::exit(1) }",
        ),
        (
            "run/mod.rs",
            "use crate::{stage, mount}; use std::process::Command;",
        ),
    ] {
        assert_eq!(broken_by(file, source), [""; 0], "{file}: {source}");
    }
}

fn broken_by(file: &str, source: &str) -> Vec<String> {
    let module = file.trim_end_matches(".rs").trim_end_matches("/mod");
    let within = |folders: &[&str]| folders.iter().any(|folder| is_below(module, folder, "/"));
    let named = |paths: &[&str], path: &str| paths.iter().any(|it| is_below(path, it, "::"));
    let is_refused = |path: &String| {
        let (layer, _) = module.split_once('/').unwrap_or((module, ""));
        let arrows = ARROWS.iter().find(|(from, _)| *from == layer);
        let is_up = path.strip_prefix("crate::").is_some_and(|to| {
            let to_self = is_below(to, layer, "::");
            arrows.is_some_and(|(_, to_these)| !to_self && !named(to_these, to) && !named(FREE, to))
        });
        let never = NEVER.iter();
        let mut never = never.filter(|(folders, paths)| within(folders) && named(paths, path));
        let only = ONLY_IN.iter();
        let mut only = only.filter(|(paths, folders)| !within(folders) && named(paths, path));
        is_up || never.next().is_some() || only.next().is_some()
    };
    let mut paths = Vec::new();
    collect_paths(source.parse().unwrap(), "", &mut paths);
    paths.retain(is_refused);
    let told = paths.iter().map(|path| format!("src/{file} names {path}"));
    told.collect()
}

fn is_below(path: &str, parent: &str, separator: &str) -> bool {
    let rest = path.strip_prefix(parent);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

/// Every path in these tokens, `use` trees unfolded and unit tests left out. Comments and strings are no tokens.
fn collect_paths(tokens: TokenStream, prefix: &str, found: &mut Vec<String>) {
    let mut path = prefix.to_owned();
    let mut end = |path: &mut String, more: &str| {
        let ended = std::mem::replace(path, prefix.to_owned());
        let ended = ended.trim_matches(':').to_owned() + more;
        // A macro of the standard library has its name anywhere.
        let name = ended.strip_prefix("std::").filter(|it| it.ends_with('!'));
        found.push(name.unwrap_or(&ended).to_owned());
    };
    let mut is_no_path = false;
    let mut groups = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                let next = tokens.peek().map(ToString::to_string);
                if group.stream().to_string() == "cfg (test)" && next.as_deref() == Some("mod") {
                    break;
                }
                groups.push((group.stream(), String::new()));
            }
            TokenTree::Group(group) => {
                let inside = if path.ends_with("::") { &path } else { "" };
                groups.push((group.stream(), inside.to_owned()));
                end(&mut path, "");
            }
            TokenTree::Punct(sign) if sign.as_char() == ':' => path.push(':'),
            TokenTree::Punct(sign) if sign.as_char() == '!' => end(&mut path, "!"),
            TokenTree::Punct(sign) => {
                is_no_path = sign.as_char() == '.';
                end(&mut path, "");
            }
            // A field, a method, or the name of a module that begins here.
            TokenTree::Ident(_) if is_no_path => is_no_path = false,
            TokenTree::Ident(word) if word == "mod" => is_no_path = true,
            TokenTree::Ident(word) => {
                if !path.ends_with("::") {
                    end(&mut path, "");
                }
                path.push_str(&word.to_string());
            }
            TokenTree::Literal(_) => end(&mut path, ""),
        }
    }
    end(&mut path, "");
    for (inside, prefix) in groups {
        collect_paths(inside, &prefix, found);
    }
}

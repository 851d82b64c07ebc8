//! What to do when a tool could not be started.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use notapipe::mount::Remedy;
use notapipe::run::SpawnError;
use notapipe::text::{is_seen, quoted, shown};

/// What was perhaps meant, or is wrong with the file.
pub fn remedy(error: &SpawnError) -> Option<String> {
    match error {
        SpawnError::NotFound { program, .. } => of_name(program),
        SpawnError::NotExecutable { path, error } => of_file(path, error),
        SpawnError::System { error, .. } => {
            Remedy::of_shortage(error).map(|remedy| remedy.to_string())
        }
        _ => None,
    }
}

/// A command line in one word, a variable, a word that only a shell knows.
fn of_name(program: &OsStr) -> Option<String> {
    const OF_SHELLS: &[u8] = b"|&;<>()$`\\\"'*?[]{}~#!";
    let bytes = program.as_bytes();
    let is_variable = |name: &[u8]| {
        let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
        name.iter().all(is_of_name) && name.first().is_some_and(|first| !first.is_ascii_digit())
    };
    let has_blank = bytes.iter().any(u8::is_ascii_whitespace);
    if !has_blank
        && let Some(at) = bytes.iter().position(|&byte| byte == b'=')
        && is_variable(&bytes[..at])
    {
        return Some(format!(
            "no shell reads this: write the variable as --env {} before the tool",
            shown(program)
        ));
    }
    if has_blank || bytes.iter().any(|byte| OF_SHELLS.contains(byte)) {
        let text = program
            .to_str()
            .filter(|text| text.len() <= 200 && !text.contains('\'') && text.chars().all(is_seen));
        let command = text.unwrap_or("COMMAND");
        return Some(format!(
            "no shell reads this: write each word by itself, or sh -c '{command}'"
        ));
    }
    match bytes {
        b"cd" => Some("write --chdir DIR before the tool that is to start there".to_owned()),
        b"source" | b"." | b"export" | b"alias" | b"set" | b"eval" | b"ulimit" => {
            Some("only a shell knows it: write sh -c 'COMMAND'".to_owned())
        }
        _ => None,
    }
}

fn of_file(path: &Path, error: &io::Error) -> Option<String> {
    if path.is_dir() {
        return Some("it is a directory: name a program in it".to_owned());
    }
    if error.kind() == io::ErrorKind::PermissionDenied && path.is_file() {
        return Some(format!(
            "chmod +x {}, or name its interpreter first",
            shown(path)
        ));
    }
    let interpreter = interpreter(path)?;
    match interpreter.strip_suffix(b"\r") {
        Some(_) => Some(format!(
            "its lines end as on Windows (CR LF): sed -i 's/\\r$//' {}",
            shown(path)
        )),
        None => Some(format!(
            "its first line names the interpreter {}: install it, or name another one first",
            quoted(OsStr::from_bytes(&interpreter))
        )),
    }
}

/// The first line of a script, from its `#!` to the first blank.
fn interpreter(path: &Path) -> Option<Vec<u8>> {
    // As much as the kernel looks at (BINPRM_BUF_SIZE).
    let mut head = Vec::new();
    let file = path.is_file().then(|| File::open(path).ok())??;
    file.take(256).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.trim_ascii_start();
    let end = line
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t' | b'\n'));
    Some(line[..end?].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_told_only_where_it_is_likely() {
        for (program, told) in [
            ("cat a > b", Some("sh -c 'cat a > b'")),
            ("cat a", Some("sh -c 'cat a'")),
            ("it's here", Some("sh -c 'COMMAND'")),
            ("$CC", Some("sh -c '$CC'")),
            ("A_1=b", Some("--env A_1=b")),
            ("A=b make", Some("sh -c 'A=b make'")),
            ("cd", Some("--chdir")),
            ("no-such-tool", None),
            ("1=2", None),
            ("a.b+c", None),
        ] {
            let remedy = of_name(OsStr::new(program));
            match told {
                Some(told) => assert!(remedy.as_ref().unwrap().contains(told), "{remedy:?}"),
                None => assert_eq!(remedy, None, "{program}"),
            }
        }
    }
}

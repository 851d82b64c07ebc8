//! The Rust version that is promised: everybody says the same one, and nothing that we link asks for a newer.
//!
//! That our own code keeps to it is clippy's to see (`incompatible_msrv`, against `rust-version`). What no test here
//! does is to build with that version: where it is installed, `cargo +1.88 test` does.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Of `1.88` or `1.88.0`.
fn version(text: &str) -> Option<[u32; 2]> {
    let mut parts = text.split('.').map(str::parse);
    match (parts.next(), parts.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some([major, minor]),
        _ => None,
    }
}

/// Everything that is built for this platform, also for tests, at the versions of the lock file.
fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args([
            "--all-features",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    metadata["packages"].as_array().expect("a list").clone()
}

#[test]
fn no_dependency_asks_for_a_newer_rust_than_we_do() {
    let packages = packages();
    let ours = env!("CARGO_PKG_RUST_VERSION");
    let promised = version(ours).expect("a version");
    let newer: Vec<String> = packages
        .iter()
        .filter_map(|package| {
            let needed = package["rust_version"].as_str()?;
            let line = format!("{} {} needs {needed}", package["name"], package["version"]);
            (version(needed)? > promised).then_some(line)
        })
        .collect();
    assert!(newer.is_empty(), "more than {ours}: {newer:#?}");
    let told = packages.iter().filter(|it| it["rust_version"].is_string());
    assert!(told.count() > 50, "most packages say what they need");
}

#[test]
fn what_is_written_about_the_rust_version_is_true() {
    let ours = env!("CARGO_PKG_RUST_VERSION");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, words) in [("README.md", "Rust "), ("scripts/test.sh", "Rust ")] {
        let text = std::fs::read_to_string(root.join(file)).unwrap();
        let told: Vec<&str> = text
            .match_indices(words)
            .map(|(at, _)| &text[at + words.len()..])
            .filter(|rest| rest.starts_with("1."))
            .map(|rest| &rest[..ours.len()])
            .collect();
        assert!(!told.is_empty(), "{file} says nothing");
        assert!(told.iter().all(|it| *it == ours), "{file}: {told:?}");
    }
}

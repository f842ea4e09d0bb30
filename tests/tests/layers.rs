//! Holds the direction of dependencies between the crates and the fences around runtimes and storage libraries.
//!
//! The rules are the tables below; a crate that is not in them fails the test, so that a new crate is placed on purpose.

use cargo_metadata::{Metadata, MetadataCommand};
use std::path::{Path, PathBuf};

/// Which of our own crates each crate may name, in any kind of dependency.
const MAY_USE: &[(&str, &[&str])] = &[
    ("forebay-base", &[]),
    ("forebay-engine", &["forebay-base"]),
    ("forebay-net", &["forebay-base"]),
    ("forebay-ufs", &["forebay-base"]),
    ("forebay-master", &["forebay-base", "forebay-net", "forebay-ufs"]),
    ("forebay-worker", &["forebay-base", "forebay-engine", "forebay-net", "forebay-ufs"]),
    ("forebay-client", &["forebay-base", "forebay-net"]),
    ("forebay-fuse", &["forebay-base", "forebay-client"]),
    ("forebay-cli", &["forebay-base", "forebay-client"]),
];

/// Leaves: they may name anything, and nothing else names them.
const LEAVES: &[&str] = &["forebay-tests", "forebay-benches", "forebay-perf"];

/// The only crates that may name these libraries, leaves apart.
const FENCED: &[(&str, &[&str])] = &[
    ("glommio", &["forebay-engine", "forebay-net", "forebay-worker"]),
    (
        "tokio",
        &[
            "forebay-net",
            "forebay-ufs",
            "forebay-master",
            "forebay-worker",
            "forebay-client",
            "forebay-fuse",
            "forebay-cli",
        ],
    ),
    ("hyper", &["forebay-net"]),
    ("hyper-util", &["forebay-net"]),
    ("http-body-util", &["forebay-net"]),
    ("openraft", &["forebay-master"]),
    ("rocksdb", &["forebay-master"]),
    ("object_store", &["forebay-ufs"]),
    ("reqwest", &["forebay-ufs"]),
    ("fuser", &["forebay-fuse"]),
];

/// The only places whose source may name glommio. Unit tests may, in the crates that depend on it.
const GLOMMIO_SOURCE: &[&str] = &["engine/src/disk", "net/src/transport/glommio", "worker/src", "benches/"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

fn metadata() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .other_options(vec!["--offline".into()])
        .exec()
        .expect("cargo metadata runs")
}

/// Every tracked or new Rust source, as (path from the root, text).
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder").map(|entry| entry.expect("an entry")) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git") {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).expect("UTF-8 source");
                let shown = path.strip_prefix(root()).expect("inside the root").to_string_lossy().into_owned();
                found.push((shown, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 30, "found only {} sources: the scan is broken", found.len());
    found
}

/// The part of a source that is not comment and not its unit tests.
fn shipped_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().take_while(|line| line.trim() != "#[cfg(test)]").filter(|line| !line.trim_start().starts_with("//"))
}

#[test]
fn crates_depend_one_way() {
    let mut wrong = Vec::new();
    for package in metadata().packages {
        let name = package.name.as_str();
        if LEAVES.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            wrong.push(format!("{name} is not in MAY_USE: say there what it may use"));
            continue;
        };
        for dependency in &package.dependencies {
            if dependency.name.starts_with("forebay-") && !allowed.contains(&dependency.name.as_str()) {
                wrong.push(format!("{name} must not depend on {}: it may use {allowed:?}", dependency.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn runtimes_and_stores_stay_behind_their_fences() {
    let mut wrong = Vec::new();
    for package in metadata().packages {
        let name = package.name.as_str();
        if LEAVES.contains(&name) {
            continue;
        }
        for dependency in &package.dependencies {
            for (library, allowed) in FENCED {
                if dependency.name == *library && !allowed.contains(&name) {
                    wrong.push(format!("{name} must not depend on {library}: only {allowed:?} may"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn glommio_is_named_only_in_its_places() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(path, _)| !GLOMMIO_SOURCE.iter().any(|place| path.starts_with(place)))
        .filter(|(path, _)| !path.contains("/tests/") && !path.ends_with("/tests.rs"))
        .filter(|(_, text)| shipped_lines(text).any(|line| line.contains("glommio::") && !line.contains("transport::")))
        .map(|(path, _)| format!("{path} names glommio: only {GLOMMIO_SOURCE:?} may"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_is_announced_by_its_file() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| {
            text.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
                ["unsafe {", "unsafe fn ", "unsafe impl ", "unsafe extern"].iter().any(|word| {
                    line.find(word).is_some_and(|at| !line[..at].contains('"') && !line[..at].contains("//"))
                })
            })
        })
        .filter(|(_, text)| {
            let dense: String = text.chars().filter(|letter| !letter.is_whitespace()).collect();
            !dense.contains("#![expect(unsafe_code,reason=")
        })
        .map(|(path, _)| format!("{path} has unsafe code without #![expect(unsafe_code, reason = ..)]"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

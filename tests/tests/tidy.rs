//! House rules that no compiler checks: how files open, how long they are, what they are called, what must not be left in.

use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

/// (file, lines it may have, why). The numbers may shrink, never grow.
const LONGER: &[(&str, usize, &str)] = &[];

/// Names that say nothing about what is inside.
const VAGUE: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "mod"];

const SETTINGS_MAX: usize = 50;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Every file of the workspace with one of these endings, as (path from the root, text).
fn files(endings: &[&str]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a readable folder").map(|entry| entry.expect("an entry")) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if entry.file_type().expect("a file type").is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "out" | "shared") {
                    folders.push(path);
                }
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                found.push((path.strip_prefix(root()).expect("inside the root").to_string_lossy().into_owned(), text));
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<(String, String)> {
    let found = files(&[".rs"]);
    assert!(found.len() > 30, "found only {} sources: the scan is broken", found.len());
    found
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let wrong: Vec<String> = sources()
        .iter()
        .filter(|(_, text)| {
            !text.starts_with("//!") || text.lines().next().is_none_or(|line| line.trim().len() < "//! ten chars".len())
        })
        .map(|(path, _)| format!("{path} must open with //! and a sentence"))
        .collect();
    none(&wrong);
}

#[test]
fn files_are_short() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let lines = text.lines().count();
        let allowed = LONGER.iter().find(|(file, ..)| *file == path).map_or(LINES_MAX, |(_, lines, _)| *lines);
        if lines > allowed {
            wrong.push(format!("{path} has {lines} lines, at most {allowed} are allowed: find a seam"));
        }
    }
    for (file, allowed, reason) in LONGER {
        assert!(*allowed > LINES_MAX && !reason.is_empty(), "{file}: an exception needs a number and a reason");
        assert!(root().join(file).is_file(), "{file} is gone: drop its exception");
    }
    none(&wrong);
}

#[test]
fn sources_are_ascii() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for (index, line) in text.lines().enumerate() {
            if !line.is_ascii() {
                wrong.push(format!("{path}:{}: {line}", index + 1));
            }
        }
    }
    none(&wrong);
}

#[test]
fn nothing_is_left_unfinished() {
    // Built from halves, so that this file does not find itself.
    let words = [
        ["TO", "DO"].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X:"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[ign", "ore"].concat(),
        ["dbg", "!("].concat(),
    ];
    let mut wrong = Vec::new();
    for (path, text) in files(&[".rs", ".sh", ".py", ".toml", "Makefile"]) {
        for (index, line) in text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(word.as_str())) {
                wrong.push(format!("{path}:{}: {word}", index + 1));
            }
        }
    }
    none(&wrong);
}

#[test]
fn names_say_something() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        for part in Path::new(&path).with_extension("").iter() {
            let part = part.to_string_lossy();
            if VAGUE.contains(&part.as_ref()) || VAGUE.iter().any(|vague| part.ends_with(&format!("_{vague}"))) {
                wrong.push(format!("{path}: \"{part}\" says nothing"));
            }
        }
        for line in text.lines() {
            let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            let Some(module) = line.strip_prefix("mod ") else { continue };
            let module = module.trim_end_matches([';', '{', ' ']);
            if VAGUE.contains(&module) {
                wrong.push(format!("{path}: module \"{module}\" says nothing"));
            }
        }
    }
    none(&wrong);
}

/// The targets of `[text](target)` in a Markdown text, outside code fences.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        let mut rest = if fenced { "" } else { line };
        while let Some(at) = rest.find("](") {
            rest = &rest[at + 2..];
            let Some(end) = rest.find(')') else { break };
            found.push(rest[..end].to_string());
            rest = &rest[end..];
        }
    }
    found
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut wrong = Vec::new();
    for (path, text) in files(&[".md"]) {
        let folder = root().join(&path).parent().expect("a file has a folder").to_path_buf();
        for link in links(&text) {
            let target = link.split('#').next().expect("split gives one part");
            let external = ["http:", "https:", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
            if !external && !target.is_empty() && !folder.join(target).exists() {
                wrong.push(format!("{path}: {link} does not exist"));
            }
        }
    }
    none(&wrong);
}

#[test]
fn settings_stay_few() {
    let count = forebay_base::settings::KEYS.len();
    assert!(count < SETTINGS_MAX, "{count} settings, want fewer than {SETTINGS_MAX}");
}

#[test]
fn links_are_found_outside_fences_only() {
    assert_eq!(links("see [a](b.md#x) and [c](d)\n```\n[e](f)\n```\n"), ["b.md#x", "d"]);
}

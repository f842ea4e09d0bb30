//! What is made of the command line's definition: every verb has an example, is tested and is described; completion
//! scripts that their shells can read; manual pages without complaints.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn forebay(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    command.args(arguments).output().expect("forebay runs")
}

/// Every verb of `fs`, `admin`, `job` and their like, as words, with its help: found by walking the help texts, so that
/// what is tested is what users see.
fn verbs(above: &[&str]) -> Vec<(String, String)> {
    let mut arguments = above.to_vec();
    arguments.push("--help");
    let output = forebay(&arguments);
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{above:?} --help: {help}");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<String> = listed
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next().map(str::to_string))
        .filter(|name| !matches!(name.as_str(), "help" | "up" | "down" | "master" | "worker" | "fuse"))
        .collect();
    if names.is_empty() {
        return vec![(above.join(" "), help)];
    }
    names.iter().flat_map(|name| verbs(&[above, &[name.as_str()]].concat())).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the workspace").to_path_buf()
}

#[test]
fn every_verb_has_an_example_a_test_and_a_description() {
    let all = verbs(&[]);
    assert!(all.len() > 20, "only {} verbs: the walk is broken", all.len());
    let described = std::fs::read_to_string(root().join("docs/cli.md")).expect("docs/cli.md");
    let mut tests = String::new();
    for folder in ["tests/tests", "frontends/cli/tests"] {
        for entry in std::fs::read_dir(root().join(folder)).expect("listed").flatten() {
            if entry.path().extension().is_some_and(|extension| extension == "rs") {
                tests.push_str(&std::fs::read_to_string(entry.path()).expect("read"));
            }
        }
    }
    let mut wrong = Vec::new();
    for (verb, help) in &all {
        if !help.contains("Example") || !help.contains(&format!("forebay {verb}")) {
            wrong.push(format!("forebay {verb} --help has no example"));
        }
        if !described.contains(&format!("`{verb}")) {
            wrong.push(format!("docs/cli.md does not describe `{verb}`"));
        }
        let words: Vec<String> = verb.split(' ').map(|word| format!("\"{word}\"")).collect();
        if !tests.contains(&words.join(", ")) && !tests.contains(&format!("// verb: {verb}")) {
            wrong.push(format!("no test runs {verb}"));
        }
    }
    let known: BTreeSet<&str> = all.iter().map(|(verb, _)| verb.as_str()).collect();
    for line in described.lines().filter(|line| line.starts_with("| `")) {
        let cell = line.trim_start_matches("| `").split(['`', '|']).next().unwrap_or_default();
        let verb: Vec<&str> =
            cell.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).collect();
        if cell.starts_with("fs ") || cell.starts_with("admin ") || cell.starts_with("job ") {
            let verb = verb.join(" ");
            if !known.contains(verb.as_str()) {
                wrong.push(format!("docs/cli.md describes `{verb}`, which does not exist"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn completion_scripts_are_whole() {
    for shell in ["bash", "zsh", "fish"] {
        let output = forebay(&["completion", shell]);
        let script = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && script.contains("copy-to"), "{shell}: {script}");
    }
    let folder = tempfile::tempdir().expect("a directory");
    let script = folder.path().join("forebay.bash");
    std::fs::write(&script, forebay(&["completion", "bash"]).stdout).expect("written");
    let checked = Command::new("bash").arg("-n").arg(&script).output().expect("bash runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let wrong = forebay(&["completion", "tcsh"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("tcsh"));
}

#[test]
fn manual_pages_are_well_formed() {
    let folder = tempfile::tempdir().expect("a directory");
    let dir = folder.path().join("man1");
    let output = forebay(&["man", "--dir", dir.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    let pages: Vec<PathBuf> = std::fs::read_dir(&dir).expect("listed").flatten().map(|entry| entry.path()).collect();
    assert!(dir.join("forebay-fs-ls.1").exists() && dir.join("forebay.1").exists() && pages.len() > 20);
    for page in &pages {
        let text = std::fs::read_to_string(page).expect("text");
        assert!(text.contains(".TH FOREBAY"), "{}", page.display());
        let Ok(groff) = Command::new("groff").args(["-man", "-Tutf8", "-ww", "-z"]).arg(page).output() else {
            panic!("groff is missing: apt-get install groff-base");
        };
        assert!(groff.status.success() && groff.stderr.is_empty(), "{}: {groff:?}", page.display());
    }
    assert!(String::from_utf8_lossy(&forebay(&["man"]).stdout).contains("FOREBAY"));
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    let wrong = forebay(&["man", "--dir", file.to_str().expect("UTF-8")]);
    assert_eq!(wrong.status.code(), Some(1), "{wrong:?}");
}

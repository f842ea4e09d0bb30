//! The command line that every role's binary shares: `--config FILE`, `--set section.key=value`, `--check-config`,
//! `--print-config`, `--help`, `--version`. Reads the process's arguments, environment and the file.

use super::{KEYS, Loaded, Overrides, load};

/// What a role should do after its command line was read.
#[derive(Debug)]
pub enum Start {
    /// Run with these settings.
    Run(Box<Loaded>),
    /// Print this to standard output and end well.
    Print(String),
    /// Print this to standard error and end with exit code 2.
    Refuse(String),
}

/// Reads `arguments` (without the program's name). `about` is one line of help.
#[must_use]
pub fn command_line(
    program: &str,
    about: &str,
    arguments: impl Iterator<Item = String>,
    environment: impl Iterator<Item = (String, String)>,
) -> Start {
    let environment: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with("FOREBAY_")).collect();
    let mut config = environment.iter().find(|(name, _)| name == "FOREBAY_CONFIG").map(|(_, path)| path.clone());
    let mut overrides = Overrides { flags: Vec::new(), environment };
    let (mut check, mut print) = (false, false);
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let (name, inline) = match argument.split_once('=') {
            Some((name, value)) => (name.to_string(), Some(value.to_string())),
            None => (argument.clone(), None),
        };
        match name.as_str() {
            "--config" | "--set" => {
                let Some(value) = inline.or_else(|| arguments.next()) else {
                    return Start::Refuse(format!("{program}: {name} wants a value"));
                };
                if name == "--config" { config = Some(value) } else { overrides.flags.push(value) }
            }
            "--check-config" => check = true,
            "--print-config" => print = true,
            "--help" | "-h" => return Start::Print(help(program, about)),
            "--version" | "-V" => return Start::Print(format!("{program} {}", env!("CARGO_PKG_VERSION"))),
            _ => return Start::Refuse(format!("{program}: got unknown argument {argument}, see {program} --help")),
        }
    }
    let file = match &config {
        None => String::new(),
        Some(path) => match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return Start::Refuse(format!("{program}: cannot read configuration {path}: {error}")),
        },
    };
    match load(&file, &overrides) {
        Err(problems) => Start::Refuse(problems.to_string()),
        Ok(loaded) if print => Start::Print(loaded.to_toml()),
        Ok(_) if check => Start::Print("configuration is valid".into()),
        Ok(loaded) => Start::Run(Box::new(loaded)),
    }
}

fn help(program: &str, about: &str) -> String {
    let mut text = format!(
        "{program}: {about}\n\nUsage: {program} [--config FILE] [--set section.key=value]... [--check-config] [--print-config]\n\n\
         Settings (flag --set beats environment FOREBAY_SECTION_KEY beats file beats default):\n"
    );
    for key in KEYS {
        text.push_str(&format!("  {} = {:?}\n      {}\n", key.name, key.default, key.doc));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(arguments: &[&str]) -> Start {
        command_line("forebay-test", "tests", arguments.iter().map(ToString::to_string), std::iter::empty())
    }

    #[test]
    fn flags_and_refusals() {
        assert!(
            matches!(start(&["--set", "worker.weight=3"]), Start::Run(loaded) if loaded.settings.worker.weight == 3)
        );
        assert!(matches!(start(&["--print-config"]), Start::Print(text) if text.contains("[worker]")));
        assert!(
            matches!(start(&["--set=worker.weight=x"]), Start::Refuse(text) if text.contains("worker.weight: got"))
        );
        assert!(matches!(start(&["--config", "/nonexistent"]), Start::Refuse(text) if text.contains("/nonexistent")));
        assert!(matches!(start(&["--wat"]), Start::Refuse(_)));
        assert!(matches!(start(&["--config"]), Start::Refuse(_)));
    }
}

//! `completion` and `man`: what shells and `man` want to know, made from the same definition that parses.

use crate::arguments::{Cli, CompletionShell};
use crate::failure::Failure;
use crate::output::Output;
use clap::{Command, CommandFactory};
use clap_complete::Shell;
use std::path::Path;

/// Writes the script of a shell.
pub(crate) fn completion(shell: CompletionShell) -> Result<(), Failure> {
    let shell = match shell {
        CompletionShell::Bash => Shell::Bash,
        CompletionShell::Zsh => Shell::Zsh,
        CompletionShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "forebay", &mut script);
    let mut output = Output::open();
    output.bytes(&script)?;
    output.flush()
}

/// Writes one page, or all of them into a directory.
pub(crate) fn man(dir: Option<&Path>) -> Result<(), Failure> {
    let mut command = Cli::command();
    command.build();
    let Some(dir) = dir else {
        let mut output = Output::open();
        output.bytes(&page(&command, "forebay")?)?;
        return output.flush();
    };
    std::fs::create_dir_all(dir).map_err(|error| Failure::failed(format!("man: {}: {error}", dir.display())))?;
    let mut all = vec![(command, "forebay".to_string())];
    while let Some((command, name)) = all.pop() {
        let file = dir.join(format!("{name}.1"));
        std::fs::write(&file, page(&command, &name)?)
            .map_err(|error| Failure::failed(format!("man: {}: {error}", file.display())))?;
        let subcommands = command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help");
        all.extend(subcommands.map(|sub| (sub.clone(), format!("{name}-{}", sub.get_name()))));
    }
    Ok(())
}

fn page(command: &Command, name: &str) -> Result<Vec<u8>, Failure> {
    let mut page = Vec::new();
    // clap wants names that live as long as the process, which is short.
    let shown: &'static str = name.to_string().leak();
    clap_mangen::Man::new(command.clone().name(shown))
        .title(name.to_uppercase())
        .render(&mut page)
        .map_err(|error| Failure::failed(format!("man: {name}: {error}")))?;
    Ok(page)
}

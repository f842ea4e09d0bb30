//! `forebay`: runs a whole cluster on this host, one role, or asks a cluster to do something.
//!
//! Owned by no core: a short-lived process on a small tokio runtime. Every failure is one line on standard error and
//! one of the exit codes in `failure`.

mod admin;
mod arguments;
mod collect;
mod connection;
mod doctor;
mod failure;
mod fs;
mod import;
mod job;
mod local;
mod manual;
mod output;
mod policy;
mod role;
mod settings_source;

use arguments::{AdminVerb, Cli, Command, ConfigVerb};
use clap::Parser;
use clap::error::ErrorKind as ClapError;
use failure::Failure;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match Cli::try_parse_from(arguments::find_style(std::env::args_os())) {
        Ok(cli) => run(cli),
        Err(error) => match error.kind() {
            ClapError::DisplayHelp | ClapError::DisplayVersion => output::line(error.to_string().trim_end()),
            ClapError::DisplayHelpOnMissingArgumentOrSubcommand => {
                eprint!("{error}");
                return ExitCode::from(failure::USAGE);
            }
            _ => Err(Failure::usage(arguments::one_line(&error))),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let source = settings_source::SettingsSource::new(cli.config, cli.set);
    match cli.command {
        Command::Up(up) => local::up(&up, &source),
        Command::Down(down) => local::down(&down),
        Command::Master(role) => Err(role::exec("master", &role.arguments, &source)),
        Command::Worker(role) => Err(role::exec("worker", &role.arguments, &source)),
        Command::Fuse(role) => Err(role::exec("fuse", &role.arguments, &source)),
        Command::Detached(detached) => Err(role::exec_detached(&detached)),
        Command::Fs { verb } => connection::run(&source, |client| fs::run(client, verb)),
        Command::Job { verb } => connection::run(&source, |client| job::run(client, verb)),
        Command::Admin { verb: AdminVerb::Doctor(arguments) } => doctor::doctor(&arguments, &source),
        Command::Admin { verb: AdminVerb::Collect(arguments) } => collect::collect(&arguments, &source),
        Command::Config { verb: ConfigVerb::Import(arguments) } => import::import(&arguments),
        Command::Completion { shell } => manual::completion(shell),
        Command::Man { dir } => manual::man(dir.as_deref()),
        Command::Admin { verb: AdminVerb::Report(report) } => {
            connection::run(&source, |client| async move { admin::report(&client, report).await })
        }
        Command::Admin { verb: AdminVerb::Explain { json, paths } } => {
            connection::run(&source, |client| async move { admin::explain(&client, &paths, json).await })
        }
        Command::Admin { verb: AdminVerb::PathPolicy { verb } } => {
            connection::run(&source, |client| async move { policy::run(&client, verb).await })
        }
        Command::Admin { verb: arguments::AdminVerb::LogLevel { role, filter, json } } => connection::run(
            &source,
            |client| async move { admin::log_level(&client, &role, filter.as_deref(), json).await },
        ),
    }
}

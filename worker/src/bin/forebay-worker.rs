//! The worker's process: command line, log, then `forebay_worker::run`.

use forebay_base::log;
use forebay_base::settings::{Start, command_line};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let about = "serves cached data to clients, one shard per core\n\n\
                 forebay-worker --wipe-cache DIR [--config FILE] empties a directory of worker.ssd or worker.hdd, whoever's\n\
                 cache it is, and ends; the worker that uses it has to be stopped";
    let (wipe, arguments) = match wipe_of(std::env::args().skip(1)) {
        Ok(parts) => parts,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    let settings = match command_line("forebay-worker", about, arguments.into_iter(), std::env::vars()) {
        Start::Print(text) => {
            // The reader may have seen enough: forebay-master --help | head.
            let _ = writeln!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Start::Refuse(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
        Start::Run(loaded) => loaded.settings,
    };
    if let Err(problem) = log::install(&settings.log, "", None) {
        eprintln!("{problem}");
        return ExitCode::from(2);
    }
    if let Some(path) = wipe {
        return match forebay_worker::wipe_cache(&settings, &path) {
            Ok(line) => {
                let _ = writeln!(std::io::stdout(), "{line}");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("forebay-worker: {error}");
                ExitCode::FAILURE
            }
        };
    }
    match forebay_worker::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Takes `--wipe-cache DIR` out of the arguments.
fn wipe_of(arguments: impl Iterator<Item = String>) -> Result<(Option<PathBuf>, Vec<String>), String> {
    let (mut wipe, mut rest, mut arguments) = (None, Vec::new(), arguments);
    while let Some(argument) = arguments.next() {
        if argument == "--wipe-cache" {
            wipe = Some(arguments.next().ok_or("forebay-worker: --wipe-cache wants a directory")?);
        } else if let Some(path) = argument.strip_prefix("--wipe-cache=") {
            wipe = Some(path.to_string());
        } else {
            rest.push(argument);
        }
    }
    match wipe {
        Some(path) if !path.starts_with('/') => {
            Err(format!("forebay-worker: --wipe-cache: got {path:?}, want an absolute path"))
        }
        wipe => Ok((wipe.map(PathBuf::from), rest)),
    }
}

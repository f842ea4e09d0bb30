//! The worker's process: command line, log, then `forebay_worker::run`.

use forebay_base::log;
use forebay_base::settings::{Start, command_line};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let about = "serves cached data to clients, one shard per core";
    let settings = match command_line("forebay-worker", about, std::env::args().skip(1), std::env::vars()) {
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
    match forebay_worker::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-worker: {error}");
            ExitCode::FAILURE
        }
    }
}

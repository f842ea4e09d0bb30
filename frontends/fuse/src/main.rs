//! `forebay-fuse`: mounts the namespace and serves it.

use forebay_base::settings::{Start, command_line};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let about = "mounts Forebay's namespace and serves it until SIGTERM";
    let start = command_line("forebay-fuse", about, std::env::args().skip(1), std::env::vars());
    let settings = match start {
        Start::Run(loaded) => loaded.settings,
        Start::Print(text) => {
            // The reader may have seen enough: forebay-master --help | head.
            let _ = writeln!(std::io::stdout(), "{text}");
            return ExitCode::SUCCESS;
        }
        Start::Refuse(problem) => {
            eprintln!("{problem}");
            return ExitCode::from(2);
        }
    };
    if let Err(problem) = forebay_base::log::install(&settings.log, "", None) {
        eprintln!("{problem}");
        return ExitCode::from(2);
    }
    match forebay_fuse::run(&settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay-fuse: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `forebay-master`: runs one master. Exit code 0 after SIGTERM or SIGINT, 1 when it could not start or go on, 2 for a
//! bad configuration.

use forebay_base::settings::{Settings, Start, command_line};
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let about = "the namespace, the journal and the mount table of a Forebay cluster";
    match command_line("forebay-master", about, std::env::args().skip(1), std::env::vars()) {
        Start::Print(text) => {
            // The reader may have seen enough: forebay-master --help | head.
            let _ = writeln!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Start::Refuse(text) => {
            eprintln!("{text}");
            ExitCode::from(2)
        }
        Start::Run(loaded) => {
            let Settings { log, master, .. } = &loaded.settings;
            // openraft tells every step at INFO; a later directive of the operator's own still wins.
            if let Err(problem) = forebay_base::log::install(log, "openraft=warn,", master.audit_file.as_deref()) {
                eprintln!("{problem}");
                return ExitCode::from(2);
            }
            match forebay_master::run(*loaded) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    eprintln!("forebay-master: {error}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}

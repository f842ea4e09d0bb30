//! The one error of the command line: an exit code and one line for people. Pure but for `report`.

use forebay_base::{ErrorKind, KindError};
use std::process::ExitCode;

/// The operation failed, wholly or in part.
pub(crate) const FAILED: u8 = 1;
/// Bad usage or a bad configuration; nothing was tried.
pub(crate) const USAGE: u8 = 2;
/// The path does not exist.
pub(crate) const NOT_FOUND: u8 = 3;
/// No master could be reached.
pub(crate) const UNREACHABLE: u8 = 4;
/// The cluster or the store refused the identity or the right.
pub(crate) const DENIED: u8 = 5;

/// The exit codes as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the operation failed, wholly or in part
  2  bad usage or configuration; nothing was done
  3  the path does not exist
  4  the cluster cannot be reached
  5  denied: a wrong secret, or the store refused its credentials";

/// Why the command ends badly.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The operation failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: FAILED, message: message.into() }
    }

    /// Bad usage or configuration.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, message: message.into() }
    }

    /// A message with a code of its own.
    pub(crate) fn coded(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The exit code says it all.
    pub(crate) fn silent(code: u8) -> Self {
        Self { code, message: String::new() }
    }

    /// The cluster said no to `what` on `value`.
    pub(crate) fn of(what: &str, value: &str, error: &KindError) -> Self {
        let code = match error.kind {
            ErrorKind::NotFound => NOT_FOUND,
            ErrorKind::Denied => DENIED,
            ErrorKind::Invalid | ErrorKind::Unsupported => USAGE,
            _ => FAILED,
        };
        // Most messages name the path themselves; people need it once.
        let message =
            error.message.strip_prefix(value).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(&error.message);
        Self { code, message: format!("{what}: {value}: {message}") }
    }

    /// The cluster could not be reached, or did not let this process in.
    pub(crate) fn connecting(masters: &str, error: &KindError) -> Self {
        let (code, hint) = match error.kind {
            ErrorKind::Denied => (DENIED, "check that cluster.secret_file is the cluster's"),
            ErrorKind::Invalid | ErrorKind::Unsupported => (USAGE, "check the configuration"),
            _ => (UNREACHABLE, "start it with `forebay up`, or set cluster.masters"),
        };
        Self { code, message: format!("connect: {masters}: {}: {hint}", error.message) }
    }

    /// Standard output is gone: end quietly, as `forebay ... | head` should.
    pub(crate) fn output(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self { code: 0, message: String::new() };
        }
        Self::failed(format!("standard output: {error}"))
    }

    /// The exit code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Each line of the message, as it is shown.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.message.lines().filter(|line| !line.is_empty()).map(|line| format!("forebay: {line}"))
    }

    /// Prints the message and gives the exit code.
    pub(crate) fn report(self) -> ExitCode {
        for line in self.lines() {
            eprintln!("{line}");
        }
        ExitCode::from(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_become_documented_codes() {
        let code = |kind| Failure::of("fs stat", "/x", &KindError::new(kind, "m")).code();
        assert_eq!(code(ErrorKind::NotFound), NOT_FOUND);
        assert_eq!(code(ErrorKind::Denied), DENIED);
        assert_eq!(code(ErrorKind::Invalid), USAGE);
        assert_eq!(code(ErrorKind::Busy), FAILED);
        assert_eq!(code(ErrorKind::Unavailable), FAILED);
        let connecting = |kind| Failure::connecting("h:1", &KindError::new(kind, "m")).code();
        assert_eq!(connecting(ErrorKind::Unavailable), UNREACHABLE);
        assert_eq!(connecting(ErrorKind::Denied), DENIED);
    }

    #[test]
    fn a_path_is_named_once() {
        let line = |message: &str| {
            let failure = Failure::of("fs stat", "/nope", &KindError::new(ErrorKind::NotFound, message));
            failure.lines().next().unwrap()
        };
        assert_eq!(line("/nope: \"nope\" does not exist"), "forebay: fs stat: /nope: \"nope\" does not exist");
        assert_eq!(line("/nopesque: gone"), "forebay: fs stat: /nope: /nopesque: gone");
    }

    #[test]
    fn closed_pipe_is_silent_success() {
        let failure = Failure::output(&std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(failure.code(), 0);
        assert_eq!(failure.lines().count(), 0);
    }
}

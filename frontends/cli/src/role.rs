//! Running one role: the process becomes the role's binary, which lies beside this one.

use crate::arguments::Detached;
use crate::failure::Failure;
use crate::settings_source::SettingsSource;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// The binary of `role`.
pub(crate) fn binary(role: &str) -> Result<PathBuf, Failure> {
    let name = format!("forebay-{role}");
    let own = std::env::current_exe().map_err(|error| Failure::failed(format!("{role}: own executable: {error}")))?;
    let path = own.with_file_name(&name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::failed(format!("{role}: {}: not there: install {name} beside {}", path.display(), own.display())))
}

/// Becomes the role; returns only when that fails.
pub(crate) fn exec(role: &str, arguments: &[OsString], source: &SettingsSource) -> Failure {
    let path = match binary(role) {
        Ok(path) => path,
        Err(failure) => return failure,
    };
    let error = Command::new(&path).args(source.as_arguments()).args(arguments).exec();
    Failure::failed(format!("{role}: {}: {error}", path.display()))
}

/// Leaves the caller's session, so that no terminal's end reaches the role, and becomes it.
pub(crate) fn exec_detached(detached: &Detached) -> Failure {
    if let Err(error) = rustix::process::setsid() {
        return Failure::failed(format!("detached: setsid: {error}"));
    }
    let error = Command::new(&detached.binary).args(&detached.arguments).exec();
    Failure::failed(format!("detached: {}: {error}", detached.binary.display()))
}

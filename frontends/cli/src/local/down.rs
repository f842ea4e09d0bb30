//! `forebay down`: ends fuse, worker and master, in that order, and removes a mount that was left behind.

use super::layout::{Layout, ROLES};
use super::mountinfo;
use super::process::{self, Ended};
use crate::arguments::Down;
use crate::failure::Failure;
use crate::output;
use crate::settings_source::SettingsSource;
use std::path::Path;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

/// Stops the cluster of a directory.
pub(crate) fn down(arguments: &Down) -> Result<(), Failure> {
    let layout = Layout::open(arguments.dir.as_deref())?;
    // A configuration that was edited may name another mount point; one that cannot be read does not stop `down`.
    let configured = SettingsSource::new(Some(layout.config()), Vec::new()).load();
    let mountpoint = configured.map_or_else(|_| layout.mountpoint(), |loaded| loaded.settings.fuse.mountpoint);
    let mut left = Vec::new();
    for role in ROLES.into_iter().rev() {
        let said = match stop(&layout, role) {
            None => format!("{role}: not running"),
            Some((pid, Ended::Clean)) => format!("{role}: stopped (process {pid})"),
            Some((pid, Ended::Killed)) => format!("{role}: killed after {} s (process {pid})", PATIENCE.as_secs()),
            Some((pid, Ended::Not)) => {
                left.push(format!("down: {role}: process {pid} does not end, even by SIGKILL: look at it with ps\n"));
                continue;
            }
        };
        output::line(&said)?;
        if role == "fuse" && !remove_mount(&mountpoint) {
            left.push(format!("down: {}: cannot be unmounted: try umount -l as root\n", mountpoint.display()));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Failure::failed(left.concat())) }
}

/// Ends one role and forgets its pid; `None` when it does not run.
pub(crate) fn stop(layout: &Layout, role: &str) -> Option<(i32, Ended)> {
    let running = process::running(layout, role);
    let ended = running.map(|running| (running.pid, running.end(PATIENCE)));
    if !matches!(ended, Some((_, Ended::Not))) {
        // A pid file that stays behind is harmless: it is checked before it is believed.
        let _ = std::fs::remove_file(layout.pid_file(role));
    }
    ended
}

/// Detaches the mount if a server left it behind; false when it stays.
pub(crate) fn remove_mount(path: &Path) -> bool {
    !mountinfo::is_fuse_mount(path) || mountinfo::detach(path)
}

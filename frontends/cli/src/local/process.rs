//! Roles as processes: started in a session of their own, found again by pid file, ended.
//!
//! Invariant: a pid from a file is believed only while `/proc/<pid>` shows the role's executable with this cluster's
//! configuration, and it is signalled through a descriptor taken before that look, so that a recycled pid is safe.

use super::layout::Layout;
use crate::failure::Failure;
use crate::role;
use crate::settings_source::SettingsSource;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs::{File, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A role that runs.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    handle: OwnedFd,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// By itself, after SIGTERM.
    Clean,
    /// By SIGKILL.
    Killed,
    /// It is still there.
    Not,
}

/// The running process of `role`, if its pid file names one.
pub(crate) fn running(layout: &Layout, role: &str) -> Option<Running> {
    let pid: i32 = std::fs::read_to_string(layout.pid_file(role)).ok()?.trim().parse().ok()?;
    let handle =
        pidfd_open(Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 1)?, PidfdFlags::empty()).ok()?;
    is_role(pid, role, layout).then_some(Running { pid, handle })
}

fn is_role(pid: i32, role: &str, layout: &Layout) -> bool {
    let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let name = exe.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    // A rebuilt binary shows as `forebay-worker (deleted)`.
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let config = layout.config();
    name == format!("forebay-{role}").as_bytes()
        && std::fs::read(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|argument| argument == config.as_os_str().as_bytes()))
}

/// Starts `role`; its output goes to its log. The child is this process's until `up` ends.
pub(crate) fn start(layout: &Layout, role: &str, source: &SettingsSource) -> Result<Child, Failure> {
    let wrong = |error: std::io::Error| Failure::failed(format!("{role}: cannot start: {error}"));
    let path = layout.log(role);
    let log: File = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|error| Failure::failed(format!("{role}: {}: {error}", path.display())))?;
    let child = Command::new(std::env::current_exe().map_err(wrong)?)
        // Behind "--" nothing is taken for an argument of `forebay` itself.
        .args(["detached", "--"])
        .arg(role::binary(role)?)
        .args(source.as_arguments())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(wrong)?)
        .stderr(log)
        .spawn()
        .map_err(wrong)?;
    std::fs::write(layout.pid_file(role), format!("{}\n", child.id())).map_err(wrong)?;
    Ok(child)
}

impl Running {
    /// SIGTERM, then SIGKILL after `patience`.
    pub(crate) fn end(&self, patience: Duration) -> Ended {
        if self.ends_by(Signal::TERM, patience) {
            return Ended::Clean;
        }
        if self.ends_by(Signal::KILL, Duration::from_secs(5)) { Ended::Killed } else { Ended::Not }
    }

    fn ends_by(&self, signal: Signal, patience: Duration) -> bool {
        if pidfd_send_signal(&self.handle, signal).is_err() {
            return true;
        }
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let mut fds = [rustix::event::PollFd::new(&self.handle, rustix::event::PollFlags::IN)];
            let timeout =
                rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match rustix::event::poll(&mut fds, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => return true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stranger_in_the_pid_file_is_not_ours() {
        let temp = tempfile::tempdir().expect("a directory");
        let layout = Layout::create(Some(temp.path())).expect("made");
        layout.make_directories().expect("made");
        let mut stranger = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        for text in [stranger.id().to_string(), "1".into(), "0".into(), "-5".into(), "x".into(), "99999999".into()] {
            std::fs::write(layout.pid_file("worker"), text).expect("written");
            assert!(running(&layout, "worker").is_none());
        }
        stranger.kill().expect("it still runs");
        stranger.wait().expect("reaped");
    }
}

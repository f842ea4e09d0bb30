//! A child process with a log file: started, waited for, signalled, and killed when dropped.
//!
//! Invariant: no child outlives the test process, whatever ends it (the kernel kills the children of a dead parent).
#![expect(
    unsafe_code,
    reason = "the parent-death signal is set between fork and exec, which std only offers as unsafe"
)]

use crate::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    log_start: u64,
    started: Instant,
    killed: bool,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    #[must_use]
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let open = || File::options().create(true).append(true).open(log).expect("a log file in the test's directory");
        let log_start = open().metadata().expect("metadata of the log").len();
        command.stdin(Stdio::null()).stdout(open()).stderr(open());
        die_with_parent(command);
        let started = Instant::now();
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.into(), child, log: log.to_path_buf(), log_start, started, killed: false }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// What it has logged since it was started.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let start = (self.log_start as usize).min(bytes.len());
        String::from_utf8_lossy(&bytes[start..]).into_owned()
    }

    /// Waits until a line of its log contains `text`. Panics if it ends before.
    pub fn wait_for_log(&mut self, text: &str, limit: Duration) {
        let what = format!("\"{text}\" in the log of {}", self.name);
        eventually(&what, limit, || {
            if self.log().lines().any(|line| line.contains(text)) {
                return Some(());
            }
            if let Some(status) = self.child.try_wait().expect("a child can be waited for") {
                panic!("{} ended with {status} instead of \"{text}\":\n{}", self.name, self.log());
            }
            None
        });
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.name));
    }

    /// SIGKILL, then waits for the end.
    pub fn kill(&mut self) {
        self.killed = true;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether the test killed it.
    #[must_use]
    pub fn was_killed(&self) -> bool {
        self.killed
    }

    /// Waits for the end by itself.
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        eventually(&what, limit, || self.child.try_wait().expect("a child can be waited for"))
    }

    /// SIGTERM, and SIGKILL if that does not end it in time. Gives the status of a clean end.
    pub fn stop(&mut self, limit: Duration) -> Option<ExitStatus> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Some(status);
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::CONT);
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < limit {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.kill();
        None
    }

    /// Resident memory now, bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap_or(0) << 10
    }

    /// The end of its log, for the report of a failed test.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        let log = String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned();
        let all: Vec<&str> = log.lines().collect();
        format!("--- {} (last {lines} lines)\n{}\n", self.name, all[all.len().saturating_sub(lines)..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure runs in the child between fork and exec and makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
}

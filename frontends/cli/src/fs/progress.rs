//! The progress bar of long work: only on a terminal, on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// While the total is known, and before.
const KNOWN: &str = "{bar:30} {binary_bytes} of {binary_total_bytes}  {msg}  {binary_bytes_per_sec}  ETA {eta}";
const COUNTING: &str = "{spinner} {binary_bytes}  {msg}  {binary_bytes_per_sec}";

/// Counts are shown only when the work takes longer.
const MOMENT: Duration = Duration::from_secs(1);

/// Bytes and files done and to do. Shared by the tasks of one command.
pub(crate) struct Progress {
    bar: ProgressBar,
    files_done: AtomicU64,
    files_total: AtomicU64,
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Progress {
    /// A bar if there is a terminal to show it on.
    pub(crate) fn new() -> Self {
        let is_shown = std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target).with_style(style(COUNTING));
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, files_done: AtomicU64::new(0), files_total: AtomicU64::new(0) }
    }

    /// What is done, and of how many files and bytes once these are known.
    pub(crate) fn show(&self, files: u64, bytes: u64, total: Option<(u64, u64)>) {
        match total {
            Some((files_total, bytes_total)) => {
                if self.bar.length().is_none() {
                    self.bar.set_style(style(KNOWN));
                }
                self.bar.set_length(bytes_total.max(bytes));
                self.bar.set_message(format!("{files} of {} files", files_total.max(files)));
            }
            None => self.bar.set_message(format!("{files} files")),
        }
        self.bar.set_position(bytes);
    }

    /// A count of what was seen, on a terminal and only when it takes longer than a moment.
    pub(crate) fn counting() -> Self {
        let progress = Self::new();
        progress.bar.disable_steady_tick();
        progress.bar.set_style(style("{spinner} {msg}  {elapsed}"));
        progress
    }

    /// One more thing was seen.
    pub(crate) fn seen(&self) {
        let seen = self.files_done.fetch_add(1, Ordering::Relaxed) + 1;
        if seen.is_multiple_of(256) && self.bar.elapsed() > MOMENT {
            self.bar.set_message(format!("{seen} entries"));
            self.bar.tick();
        }
    }

    /// One more file to do.
    pub(crate) fn add_file(&self, bytes: u64) {
        self.files_total.fetch_add(1, Ordering::Relaxed);
        if self.bar.length().is_none() {
            self.bar.set_style(style(KNOWN));
        }
        self.bar.inc_length(bytes);
        self.show_files();
    }

    /// Bytes of some file are done.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// So many bytes of some file were done before, and so many are now: fewer when it is begun again.
    pub(crate) fn move_bytes(&self, before: u64, now: u64) {
        if now >= before { self.bar.inc(now - before) } else { self.bar.dec(before - now) }
    }

    /// A file is done, well or not.
    pub(crate) fn end_file(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
        self.show_files();
    }

    fn show_files(&self) {
        let (done, total) = (self.files_done.load(Ordering::Relaxed), self.files_total.load(Ordering::Relaxed));
        self.bar.set_message(format!("{done} of {} files", total.max(done)));
    }

    /// Writes a line to standard error without tearing the bar.
    pub(crate) fn complain(&self, line: &str) {
        self.complain_whole(&format!("forebay: {line}"));
    }

    /// The same for a line that already says whose it is.
    pub(crate) fn complain_whole(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

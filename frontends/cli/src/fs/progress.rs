//! The progress bar of long work: only on a terminal, on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes and files done and to do. Shared by the tasks of one command.
pub(crate) struct Progress {
    bar: ProgressBar,
    files_done: AtomicU64,
    files_total: AtomicU64,
}

impl Progress {
    /// A bar if there is a terminal to show it on.
    pub(crate) fn new() -> Self {
        let is_shown = std::io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr_with_hz(10) } else { ProgressDrawTarget::hidden() };
        let style = "{bar:30} {binary_bytes} of {binary_total_bytes}  {msg}  {binary_bytes_per_sec}  ETA {eta}";
        let bar = ProgressBar::with_draw_target(Some(0), target)
            .with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()));
        if is_shown {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, files_done: AtomicU64::new(0), files_total: AtomicU64::new(0) }
    }

    /// Whether someone looks at it.
    pub(crate) fn is_shown(&self) -> bool {
        !self.bar.is_hidden()
    }

    /// One more file to do.
    pub(crate) fn add_file(&self, bytes: u64) {
        self.files_total.fetch_add(1, Ordering::Relaxed);
        self.bar.inc_length(bytes);
        self.show_files();
    }

    /// Bytes of some file are done.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bar.inc(bytes);
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
        self.bar.suspend(|| eprintln!("forebay: {line}"));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

//! The progress bar of long work: only on a terminal, on standard error.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;

/// While the total is known, and before.
const KNOWN: &str = "{bar:30} {binary_bytes} of {binary_total_bytes}  {msg}  {binary_bytes_per_sec}  ETA {eta}";
const COUNTING: &str = "{spinner} {binary_bytes}  {msg}  {binary_bytes_per_sec}";

/// A bar.
pub(crate) struct Progress {
    bar: ProgressBar,
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
        Self { bar }
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

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

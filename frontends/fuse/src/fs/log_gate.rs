//! Keeps a failing store from filling the log: so many lines a second, and how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
const LINES_PER_WINDOW: u32 = 10;

/// The gate; shared by the session's threads.
pub(super) struct LogGate(Mutex<State>);

struct State {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl LogGate {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State { since: Instant::now(), lines: 0, left_out: 0 }))
    }

    /// Whether a line may be written now; if so, how many were left out before it.
    pub(super) fn pass(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.since.elapsed() >= WINDOW {
            (state.since, state.lines) = (Instant::now(), 0);
        }
        if state.lines == LINES_PER_WINDOW {
            state.left_out += 1;
            return None;
        }
        state.lines += 1;
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_counted() {
        let gate = LogGate::new();
        let passed = (0..25).filter(|_| gate.pass().is_some()).count();
        assert_eq!(passed, LINES_PER_WINDOW as usize);
        std::thread::sleep(WINDOW);
        assert_eq!(gate.pass(), Some(15));
        assert_eq!(gate.pass(), Some(0));
    }
}

//! Requests whose caller may give up. Shared by the session's threads.
//!
//! The kernel says INTERRUPT for any signal, but a read that answers EINTR for a mere SIGALRM breaks programs, and a
//! page fault would become SIGBUS. So a request ends early only when its caller is being killed.

use futures::future::AbortHandle;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often a caller that got a signal is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(200);
/// Interrupts remembered that came before their request was registered.
const EARLY_MAX: usize = 64;

/// Requests in flight, by `unique`.
#[derive(Default)]
pub(crate) struct Interrupts(Mutex<State>);

#[derive(Default)]
struct State {
    flights: HashMap<u64, (u32, AbortHandle)>,
    early: VecDeque<u64>,
}

impl Interrupts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a request; true when its INTERRUPT has come already.
    pub(crate) fn begin(&self, unique: u64, pid: u32, abort: AbortHandle) -> bool {
        let mut state = self.state();
        state.flights.insert(unique, (pid, abort));
        match state.early.iter().position(|early| *early == unique) {
            Some(place) => {
                state.early.remove(place);
                true
            }
            None => false,
        }
    }

    /// The request is answered.
    pub(crate) fn end(&self, unique: u64) {
        self.state().flights.remove(&unique);
    }

    /// An INTERRUPT came; true when the request is in flight and should be watched.
    pub(crate) fn arrived(&self, unique: u64) -> bool {
        let mut state = self.state();
        if state.flights.contains_key(&unique) {
            return true;
        }
        if state.early.len() == EARLY_MAX {
            state.early.pop_front();
        }
        state.early.push_back(unique);
        false
    }

    /// Aborts the request if its caller is being killed; false when there is nothing more to watch.
    pub(crate) fn look(&self, unique: u64) -> bool {
        let Some((pid, abort)) = self.state().flights.get(&unique).cloned() else { return false };
        if pid != 0 && is_being_killed(pid) {
            abort.abort();
            return false;
        }
        true
    }
}

/// SIGKILL pending, which any fatal signal becomes, or already gone.
fn is_being_killed(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/status")) {
        Ok(status) => kill_is_pending(&status),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn kill_is_pending(status: &str) -> bool {
    const SIGKILL_BIT: u64 = 1 << (libc::SIGKILL - 1);
    status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:")))
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & SIGKILL_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_killed_caller_ends_its_request() {
        let (abort, registration) = AbortHandle::new_pair();
        let interrupts = Interrupts::default();
        assert!(!interrupts.arrived(4));
        assert!(interrupts.begin(4, std::process::id(), abort.clone()));
        assert!(!interrupts.begin(6, u32::MAX, abort.clone()));
        assert!(interrupts.arrived(4) && interrupts.look(4));
        assert!(!abort.is_aborted());
        assert!(!interrupts.look(6) && abort.is_aborted());
        interrupts.end(4);
        assert!(!interrupts.look(4));
        drop(registration);
    }

    #[test]
    fn pending_signals_are_read() {
        assert!(kill_is_pending("Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(kill_is_pending("SigPnd:\t0000000000000000\nShdPnd:\t0000000000004100\n"));
        assert!(!kill_is_pending("SigPnd:\t0000000000002000\n"));
    }
}

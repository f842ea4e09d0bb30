//! Whether a mount's store gives signs of life, and how long a reader may wait for it. Shared by the shards and the store
//! threads; pure but for the caller's clock.
//!
//! A reader waits for the mount's deadline, counted from its asking or from the last byte that the store gave to anybody,
//! so that a store that is busy fails nobody who merely waits in a queue. After a request that ended without any sign of
//! life, or on the master's word that the store is away, readers wait for `SILENT_PATIENCE` only; what they asked for goes
//! on being fetched, and its first byte ends the silence.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a reader waits for a store that is known to be silent.
const SILENT_PATIENCE: Duration = Duration::from_millis(500);
/// The same for one who has waited for it elsewhere.
const MOMENT: Duration = Duration::from_millis(100);
/// How long that is believed without another failure.
const SILENCE_MEMORY: Duration = Duration::from_secs(5);

/// One mount's.
#[derive(Debug)]
pub(crate) struct Pulse(Mutex<State>);

#[derive(Debug)]
struct State {
    deadline: Duration,
    heard: Option<Instant>,
    silent: Option<Instant>,
}

impl Pulse {
    /// `deadline` counts until the mount's own is known.
    pub(crate) fn new(deadline: Duration) -> Self {
        Self(Mutex::new(State { deadline, heard: None, silent: None }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mount's own deadline.
    pub(crate) fn set_deadline(&self, deadline: Duration) {
        self.state().deadline = deadline;
    }

    /// The store gave a sign of life.
    pub(crate) fn heard(&self, now: Instant) {
        let mut state = self.state();
        (state.heard, state.silent) = (Some(now), None);
    }

    /// What began at `began` ended without an answer.
    pub(crate) fn unanswered(&self, began: Instant, now: Instant) {
        let mut state = self.state();
        if state.heard.is_none_or(|heard| heard < began) {
            state.silent = Some(now);
        }
    }

    /// The master says that the store is away. This worker's own knowledge of the last moments is better.
    pub(crate) fn told_away(&self, now: Instant) {
        let mut state = self.state();
        if state.heard.is_none_or(|heard| now.duration_since(heard) > SILENT_PATIENCE) && state.silent.is_none() {
            state.silent = Some(now);
        }
    }

    /// Until when work that nobody sits and waits for may wait, and a request for its turn.
    pub(crate) fn until_patiently(&self, asked: Instant) -> Instant {
        self.state().full(asked)
    }

    /// Until when a reader may wait that asked at `asked` and came here at `came`.
    pub(crate) fn until(&self, asked: Instant, came: Instant) -> Instant {
        let state = self.state();
        let full = state.full(asked);
        // Whoever waited elsewhere already is given a moment here too.
        let least = came + SILENT_PATIENCE.min(state.deadline);
        let brief = (asked + SILENT_PATIENCE).max(came + MOMENT).min(least);
        match state.silent {
            // Known before this reader came; who came earlier has its whole deadline.
            Some(silent) if silent <= came && came.duration_since(silent) < SILENCE_MEMORY => brief,
            _ => full.max(least),
        }
    }
}

impl State {
    /// The deadline, from the asking or from the last sign of life.
    fn full(&self, asked: Instant) -> Instant {
        let since = self.heard.map_or(asked, |heard| heard.max(asked));
        since.checked_add(self.deadline).unwrap_or(since + Duration::from_secs(3600))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(3);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_reader_waits_for_the_deadline_from_its_asking_or_the_last_byte() {
        let (pulse, start) = (Pulse::new(60 * SECOND), Instant::now());
        pulse.set_deadline(DEADLINE);
        assert_eq!(pulse.until(start, start), start + DEADLINE);
        // Time that was spent at another worker counts, but for a moment.
        assert_eq!(pulse.until(start, start + 2 * SECOND), start + DEADLINE);
        assert_eq!(pulse.until(start, start + DEADLINE), start + DEADLINE + SILENT_PATIENCE);
        pulse.heard(start + SECOND);
        assert_eq!(pulse.until(start, start), start + SECOND + DEADLINE);
        assert_eq!(pulse.until(start + 2 * SECOND, start + 2 * SECOND), start + 2 * SECOND + DEADLINE);
    }

    #[test]
    fn who_comes_after_a_silence_does_not_wait_as_long_again() {
        let (pulse, start) = (Pulse::new(DEADLINE), Instant::now());
        pulse.unanswered(start, start + DEADLINE);
        let came = start + DEADLINE + SECOND;
        assert_eq!(pulse.until(came, came), came + SILENT_PATIENCE);
        assert_eq!(pulse.until_patiently(came), came + DEADLINE);
        assert_eq!(pulse.until(came, came + SECOND), came + SECOND + MOMENT);
        // Whoever was waiting when it was noticed has had its time by itself.
        assert_eq!(pulse.until(start + SECOND, start + SECOND), start + SECOND + DEADLINE);
        let later = start + DEADLINE + SILENCE_MEMORY;
        assert_eq!(pulse.until(later, later), later + DEADLINE);
        pulse.heard(came);
        assert_eq!(pulse.until(came, came), came + DEADLINE);
    }

    #[test]
    fn one_lost_request_of_a_store_that_answers_others_is_no_silence() {
        let (pulse, start) = (Pulse::new(DEADLINE), Instant::now());
        pulse.heard(start + SECOND);
        pulse.unanswered(start, start + DEADLINE);
        let came = start + DEADLINE;
        assert_eq!(pulse.until(came, came), came + DEADLINE);
    }

    #[test]
    fn the_masters_word_counts_unless_the_store_was_just_heard() {
        let (pulse, start) = (Pulse::new(DEADLINE), Instant::now());
        pulse.heard(start);
        pulse.told_away(start + SILENT_PATIENCE / 2);
        assert_eq!(pulse.until(start, start), start + DEADLINE);
        let came = start + 2 * SECOND;
        pulse.told_away(came);
        assert_eq!(pulse.until(came, came), came + SILENT_PATIENCE);
    }
}

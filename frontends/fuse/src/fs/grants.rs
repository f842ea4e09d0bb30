//! Grants by content, so that opening a file again, or one that was asked for with its siblings, needs no word from the
//! master. Shared by the session's threads.
//!
//! Invariants: at most `GRANTS_MAX` are held, the oldest go first; how many siblings are asked for follows from how many
//! of those that were are opened before they end.

use super::names::Content;
use forebay_client::Grant;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const GRANTS_MAX: usize = 32 << 10;
/// Siblings asked for with a file that is opened out of any order.
const SIBLINGS: usize = 64;
/// One in so many of them has to be opened, or asking for them costs more than it saves.
const USED_SHARE: u32 = 16;
/// Siblings that ended before they are judged.
const JUDGED: u32 = 512;
/// While siblings do not pay, one request in so many asks for them all the same.
const PROBE: u32 = 128;

/// The cache.
#[derive(Default)]
pub(super) struct Grants(Mutex<State>);

#[derive(Default)]
struct State {
    held: HashMap<Content, Held>,
    order: VecDeque<(Content, u64)>,
    next_serial: u64,
    /// Siblings that were asked for before this may be old.
    not_before: Option<Instant>,
    /// Siblings that ended since the last judgement, and those of them that had been opened.
    ended: u32,
    used: u32,
    pays_not: bool,
    requests: u32,
}

struct Held {
    serial: u64,
    grant: Arc<Grant>,
    /// Asked for with another file, and not opened yet.
    idle: bool,
    sibling: bool,
}

impl State {
    fn remove(&mut self, content: Content) {
        let Some(held) = self.held.remove(&content) else { return };
        if held.sibling {
            self.ended += 1;
            self.used += u32::from(!held.idle);
        }
        if self.ended >= JUDGED {
            self.pays_not = self.used * USED_SHARE < self.ended;
            (self.ended, self.used) = (0, 0);
        }
    }
}

impl Grants {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A grant that is still fresh; its file is opened with it.
    pub(super) fn get(&self, content: Content) -> Option<Arc<Grant>> {
        let mut state = self.state();
        let held = state.held.get_mut(&content)?;
        if held.grant.is_fresh() {
            held.idle = false;
            return Some(held.grant.clone());
        }
        state.remove(content);
        None
    }

    /// A grant that is still fresh; nothing is opened.
    pub(super) fn look(&self, content: Content) -> Option<Arc<Grant>> {
        let state = self.state();
        state.held.get(&content).map(|held| &held.grant).filter(|grant| grant.is_fresh()).cloned()
    }

    /// How many siblings to ask for with a file that is opened out of any order.
    pub(super) fn siblings(&self) -> usize {
        let mut state = self.state();
        state.requests = state.requests.wrapping_add(1);
        if state.pays_not && !state.requests.is_multiple_of(PROBE) { 0 } else { SIBLINGS }
    }

    /// Takes a grant in that was asked for at `asked`; `sibling`: with another file.
    pub(super) fn put(&self, content: Content, grant: Arc<Grant>, sibling: bool, asked: Instant) {
        let mut state = self.state();
        if sibling && state.not_before.is_some_and(|not_before| asked <= not_before) {
            return;
        }
        let serial = state.next_serial;
        state.next_serial += 1;
        state.remove(content);
        state.held.insert(content, Held { serial, grant, idle: sibling, sibling });
        state.order.push_back((content, serial));
        while state.order.len() > GRANTS_MAX {
            if let Some((content, serial)) = state.order.pop_front()
                && state.held.get(&content).is_some_and(|held| held.serial == serial)
            {
                state.remove(content);
            }
        }
    }

    pub(super) fn remove(&self, content: Content) {
        self.state().held.remove(&content);
    }

    /// Something has changed somewhere, or a file has another key in its store: none of what is held may be right.
    pub(super) fn forget_all(&self) {
        let mut state = self.state();
        state.not_before = Some(Instant::now());
        state.held.clear();
    }

    /// Whether none are held.
    pub(super) fn is_empty(&self) -> bool {
        self.state().held.is_empty()
    }
}

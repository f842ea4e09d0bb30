//! Grants by node, so that opening a file again, or one that was asked for with its siblings, needs no word from the
//! master. Bounded; the oldest go first.

use forebay_client::Grant;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

const GRANTS_MAX: usize = 4096;

/// The cache.
#[derive(Default)]
pub(super) struct Grants(Mutex<State>);

#[derive(Default)]
struct State {
    by_node: HashMap<u64, (u64, Arc<Grant>)>,
    order: VecDeque<(u64, u64)>,
    next_serial: u64,
}

impl Grants {
    /// A grant that is still fresh.
    pub(super) fn get(&self, node: u64) -> Option<Arc<Grant>> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, grant) = state.by_node.get(&node)?;
        if grant.is_fresh() {
            return Some(grant.clone());
        }
        state.by_node.remove(&node);
        None
    }

    pub(super) fn put(&self, node: u64, grant: Arc<Grant>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let serial = state.next_serial;
        state.next_serial += 1;
        state.by_node.insert(node, (serial, grant));
        state.order.push_back((node, serial));
        while state.order.len() > GRANTS_MAX {
            if let Some((node, serial)) = state.order.pop_front()
                && state.by_node.get(&node).is_some_and(|(held, _)| *held == serial)
            {
                state.by_node.remove(&node);
            }
        }
    }

    pub(super) fn remove(&self, node: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_node.remove(&node);
    }
}

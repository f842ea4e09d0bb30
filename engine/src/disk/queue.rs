//! Turns at a disk: how many requests one core has under way there, readers before background work. Owned by one core.
//!
//! Invariants: requests under way never exceed the depth nor, together, the bytes (one request alone may); of them the
//! background has at most its own depth; readers pass background requests that wait, but no more than `PASSED_MAX` in a row,
//! since what readers wait for may hang on the background (memory, room, a page on its way to a faster disk); within a class first come,
//! first served. A turn ends when it is dropped, also one that was given to a waiter who has gone.

use futures::channel::oneshot;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Who waits for the request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    /// Somebody who reads.
    Reader,
    /// Writing behind, moving, looking after.
    Background,
}

/// Bounds of one core at one disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    /// Requests under way.
    pub(crate) requests: usize,
    /// Of these, at most so many of the background.
    pub(crate) background: usize,
    /// Bytes of all requests under way.
    pub(crate) bytes: u64,
}

/// Readers that begin while a background request waits, before it has its turn.
const PASSED_MAX: usize = 8;

#[derive(Default)]
struct State {
    /// Readers that began while a background request waited, since the last one of these began.
    passed: usize,
    requests: usize,
    background: usize,
    bytes: u64,
    readers: VecDeque<Waiting>,
    others: VecDeque<Waiting>,
}

struct Waiting {
    bytes: u64,
    given: oneshot::Sender<Turn>,
}

/// The queue.
pub(crate) struct DiskQueue {
    depth: Depth,
    state: RefCell<State>,
}

/// Leave to have one request under way.
pub(crate) struct Turn {
    queue: Rc<DiskQueue>,
    class: Class,
    bytes: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.queue.state.borrow_mut();
            state.requests -= 1;
            state.bytes -= self.bytes;
            state.background -= usize::from(self.class == Class::Background);
        }
        self.queue.go_on();
    }
}

impl DiskQueue {
    pub(crate) fn new(depth: Depth) -> Rc<DiskQueue> {
        Rc::new(DiskQueue { depth, state: RefCell::default() })
    }

    /// Waits for leave to have a request of `bytes` under way.
    pub(crate) async fn turn(self: &Rc<Self>, class: Class, bytes: u64) -> Turn {
        let waiting = {
            let mut state = self.state.borrow_mut();
            let first = match class {
                Class::Reader => state.readers.is_empty() && !self.is_overdue(&state),
                Class::Background => state.readers.is_empty() && state.others.is_empty(),
            };
            if first && self.has_room(&state, class, bytes) {
                return self.take(&mut state, class, bytes);
            }
            let (given, waiting) = oneshot::channel();
            let queue = if class == Class::Reader { &mut state.readers } else { &mut state.others };
            queue.push_back(Waiting { bytes, given });
            waiting
        };
        match waiting.await {
            Ok(turn) => turn,
            // The queue outlives its waiters, who hold it.
            Err(oneshot::Canceled) => self.take(&mut self.state.borrow_mut(), class, bytes),
        }
    }

    fn has_room(&self, state: &State, class: Class, bytes: u64) -> bool {
        state.requests == 0
            || (state.requests < self.depth.requests
                && state.bytes + bytes <= self.depth.bytes
                && (class == Class::Reader || state.background < self.depth.background))
    }

    /// Whether a background request that could begin was passed often enough.
    fn is_overdue(&self, state: &State) -> bool {
        state.passed >= PASSED_MAX && !state.others.is_empty() && state.background < self.depth.background
    }

    fn take(self: &Rc<Self>, state: &mut State, class: Class, bytes: u64) -> Turn {
        state.passed = if class == Class::Reader && !state.others.is_empty() { state.passed + 1 } else { 0 };
        state.requests += 1;
        state.bytes += bytes;
        state.background += usize::from(class == Class::Background);
        Turn { queue: self.clone(), class, bytes }
    }

    /// Gives turns to those who wait, as far as there is room.
    fn go_on(self: &Rc<Self>) {
        loop {
            let mut state = self.state.borrow_mut();
            let is_reader = !state.readers.is_empty() && !self.is_overdue(&state);
            let class = if is_reader { Class::Reader } else { Class::Background };
            let queue = if class == Class::Reader { &state.readers } else { &state.others };
            let Some(bytes) = queue.front().map(|next| next.bytes) else { return };
            if !self.has_room(&state, class, bytes) {
                return;
            }
            let queue = if class == Class::Reader { &mut state.readers } else { &mut state.others };
            let Some(next) = queue.pop_front() else { return };
            if next.given.is_canceled() {
                continue;
            }
            let turn = self.take(&mut state, class, bytes);
            drop(state);
            // A waiter that left this moment drops its turn, which comes back here.
            drop(next.given.send(turn));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use futures::future::LocalBoxFuture;
    use proptest::prelude::*;

    const DEPTH: Depth = Depth { requests: 4, background: 2, bytes: 1000 };

    fn ask(queue: &Rc<DiskQueue>, class: Class, bytes: u64) -> LocalBoxFuture<'static, Turn> {
        let queue = queue.clone();
        async move { queue.turn(class, bytes).await }.boxed_local()
    }

    #[test]
    fn readers_pass_the_background_and_the_bounds_hold() {
        let queue = DiskQueue::new(DEPTH);
        let mut writes: Vec<_> = (0..3).map(|_| ask(&queue, Class::Background, 10)).collect();
        let mut begun: Vec<Turn> = writes.iter_mut().filter_map(|turn| turn.now_or_never()).collect();
        assert_eq!(begun.len(), 2, "the background has its own depth");
        let first = ask(&queue, Class::Reader, 900).now_or_never().expect("room for a reader");
        assert!(ask(&queue, Class::Reader, 900).now_or_never().is_none(), "too many bytes together");
        let mut second = ask(&queue, Class::Reader, 900);
        assert!((&mut second).now_or_never().is_none());
        begun.pop();
        assert!((&mut writes[2]).now_or_never().is_none(), "a reader waits");
        drop(first);
        let second = (&mut second).now_or_never().expect("its turn");
        assert!((&mut writes[2]).now_or_never().is_some());
        drop(second);
        let alone = ask(&queue, Class::Reader, 5000);
        drop(begun);
        drop(alone.now_or_never().expect("one request alone may be larger than the bound"));
    }

    #[test]
    fn readers_that_never_stop_coming_let_the_background_have_its_turn() {
        let queue = DiskQueue::new(DEPTH);
        let mut held: Vec<Turn> = (0..4).filter_map(|_| ask(&queue, Class::Reader, 10).now_or_never()).collect();
        let mut write = ask(&queue, Class::Background, 10);
        assert!((&mut write).now_or_never().is_none());
        for passed in 0..=PASSED_MAX {
            let mut reader = ask(&queue, Class::Reader, 10);
            assert!((&mut reader).now_or_never().is_none());
            held.remove(0);
            match (&mut reader).now_or_never() {
                Some(turn) => held.push(turn),
                None => {
                    assert_eq!(passed, PASSED_MAX);
                    assert!((&mut write).now_or_never().is_some(), "its turn has come");
                    return;
                }
            }
        }
        panic!("the background waits for ever");
    }

    proptest! {
        #[test]
        fn whatever_comes_and_goes_the_bounds_hold_and_all_get_their_turn(
            steps in proptest::collection::vec((any::<bool>(), 1u64..600, 0u8..4), 1..200),
        ) {
            let queue = DiskQueue::new(DEPTH);
            let (mut waiting, mut held) = (Vec::new(), Vec::new());
            for (reader, bytes, what) in steps {
                match what {
                    0 | 1 => waiting.push(ask(&queue, if reader { Class::Reader } else { Class::Background }, bytes)),
                    2 if !held.is_empty() => drop(held.remove(bytes as usize % held.len())),
                    3 if !waiting.is_empty() => drop(waiting.remove(bytes as usize % waiting.len())),
                    _ => {}
                }
                waiting.retain_mut(|turn| turn.now_or_never().map(|turn| held.push(turn)).is_none());
                let state = queue.state.borrow();
                prop_assert!(state.requests <= DEPTH.requests && state.background <= DEPTH.background);
                prop_assert!(state.bytes <= DEPTH.bytes || state.requests == 1);
                prop_assert_eq!(state.requests, held.len());
            }
            while !(waiting.is_empty() && held.is_empty()) {
                let before = (waiting.len(), held.len());
                held.pop();
                waiting.retain_mut(|turn| turn.now_or_never().map(|turn| held.push(turn)).is_none());
                prop_assert!((waiting.len(), held.len()) != before, "somebody never gets a turn");
            }
        }
    }
}

//! Single flight: one fetch per page, however many readers wait for it. Owned by one shard; nothing here is `Send`.
//!
//! Invariant: a flight lands exactly once; who joined before it landed gets its result, who comes later finds the page
//! in the engine (or starts a new flight, if it failed).

use forebay_base::{ErrorKind, KindError, PageIndex};
use forebay_engine::FileKey;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use std::cell::RefCell;
use std::rc::Rc;
use tokio::sync::Notify;

/// A page being fetched; `T` is what its readers get.
pub(crate) struct Flight<T> {
    landed: RefCell<Option<Result<T, KindError>>>,
    notify: Notify,
}

impl<T: Clone> Flight<T> {
    /// Waits until it lands.
    pub(crate) async fn wait(&self) -> Result<T, KindError> {
        loop {
            // `notified` is enrolled by its first poll; nothing runs between this look and that poll on this core.
            if let Some(result) = &*self.landed.borrow() {
                return result.clone();
            }
            self.notify.notified().await;
        }
    }
}

type PageId = (FileKey, PageIndex);

/// All pages being fetched by a shard.
pub(crate) struct Flights<T>(RefCell<HashMap<PageId, Rc<Flight<T>>>>);

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Flights(RefCell::default())
    }
}

/// The duty to land one flight; a dropped duty lands it with an error, so that nobody waits for ever.
pub(crate) struct Duty<T: Clone> {
    flights: Rc<Flights<T>>,
    key: PageId,
    flight: Rc<Flight<T>>,
}

impl<T: Clone> Flights<T> {
    /// The flight of a page; with the duty to land it when the caller is the first.
    pub(crate) fn join(self: &Rc<Self>, file: FileKey, page: PageIndex) -> (Rc<Flight<T>>, Option<Duty<T>>) {
        let key = (file, page);
        match self.0.borrow_mut().entry(key) {
            Entry::Occupied(entry) => (entry.get().clone(), None),
            Entry::Vacant(entry) => {
                let flight = Rc::new(Flight { landed: RefCell::new(None), notify: Notify::new() });
                entry.insert(flight.clone());
                let duty = Duty { flights: self.clone(), key, flight: flight.clone() };
                (flight, Some(duty))
            }
        }
    }

    /// The flight of a page, if there is one.
    pub(crate) fn get(&self, file: FileKey, page: PageIndex) -> Option<Rc<Flight<T>>> {
        self.0.borrow().get(&(file, page)).cloned()
    }
}

impl<T: Clone> Duty<T> {
    /// Hands the result to all who joined.
    pub(crate) fn land(self, result: Result<T, KindError>) {
        *self.flight.landed.borrow_mut() = Some(result);
    }
}

impl<T: Clone> Drop for Duty<T> {
    fn drop(&mut self) {
        self.flights.0.borrow_mut().remove(&self.key);
        let mut landed = self.flight.landed.borrow_mut();
        if landed.is_none() {
            *landed = Some(Err(KindError::new(ErrorKind::Closed, "the fetch was given up: the worker is ending")));
        }
        drop(landed);
        self.flight.notify.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::{FileId, FingerprintHash, Version};
    use futures::executor::LocalPool;
    use futures::task::LocalSpawnExt;
    use std::cell::Cell;

    const FILE: FileKey =
        FileKey { file_id: FileId(1), version: Version(2), fingerprint: FingerprintHash(3), size_bytes: 4 };

    #[test]
    fn many_wait_one_fetches_and_each_gets_the_result() {
        let flights: Rc<Flights<u32>> = Rc::default();
        let mut pool = LocalPool::new();
        let (duties, sum) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
        for _ in 0..100 {
            let (flights, duties, sum) = (flights.clone(), duties.clone(), sum.clone());
            let reader = async move {
                let (flight, duty) = flights.join(FILE, PageIndex(0));
                duties.borrow_mut().extend(duty);
                let got = flight.wait().await.expect("it lands well");
                sum.set(sum.get() + got);
            };
            pool.spawner().spawn_local(reader).expect("the pool runs");
        }
        pool.run_until_stalled();
        assert_eq!((duties.borrow().len(), sum.get()), (1, 0));
        duties.borrow_mut().pop().expect("the first one's").land(Ok(5));
        pool.run_until_stalled();
        assert_eq!(sum.get(), 500);
        assert!(flights.get(FILE, PageIndex(0)).is_none());
        assert!(flights.join(FILE, PageIndex(0)).1.is_some(), "a later reader starts anew");
    }

    #[test]
    fn errors_reach_all_and_a_dropped_duty_wakes_everyone() {
        let flights: Rc<Flights<u32>> = Rc::default();
        let (first, duty) = flights.join(FILE, PageIndex(1));
        let (second, none) = flights.join(FILE, PageIndex(1));
        assert!(none.is_none());
        duty.expect("the first one's").land(Err(KindError::new(ErrorKind::Stale, "changed")));
        for flight in [first, second] {
            let error = futures::executor::block_on(flight.wait()).expect_err("it failed");
            assert_eq!(error.kind, ErrorKind::Stale);
        }
        let (flight, duty) = flights.join(FILE, PageIndex(1));
        drop(duty);
        assert_eq!(futures::executor::block_on(flight.wait()).expect_err("given up").kind, ErrorKind::Closed);
    }
}

//! Waiting for something to become true, with a bound and a message.

use std::time::{Duration, Instant};

/// Calls `probe` until it gives a value. Panics after `limit`, naming `what`.
pub fn eventually<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs `work` and panics if it took longer than `limit`.
pub fn within<T>(what: &str, limit: Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = work();
    let took = start.elapsed();
    assert!(took <= limit, "{what} took {took:?}, want at most {limit:?}");
    value
}

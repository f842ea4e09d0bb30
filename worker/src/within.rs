//! Waiting with an end, on a shard's executor.

use futures::future::{Either, select};
use std::future::Future;
use std::pin::pin;
use std::time::Instant;

/// What `work` yields, or `None` when `until` comes first; `work` is then dropped.
pub(crate) async fn within<T>(until: Instant, work: impl Future<Output = T>) -> Option<T> {
    let left = until.saturating_duration_since(Instant::now());
    match select(pin!(work), pin!(glommio::timer::Timer::new(left))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}

/// The same with an end that may move: it is asked for again whenever it has come.
pub(crate) async fn within_moving<T>(end: impl Fn() -> Instant, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    loop {
        if let Some(value) = within(end(), work.as_mut()).await {
            return Some(value);
        }
        if end() <= Instant::now() {
            return None;
        }
    }
}

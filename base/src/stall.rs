//! Tasks that keep a core from all others: how long each turn of a watched task takes, and which one runs now.
//!
//! One `CoreWatch` belongs to one core's thread, which writes it; any thread may read it. Invariant: a turn longer than
//! `STALL` is counted and told, at most one line in `TELL_EVERY`; a turn that does not end is seen by whoever asks
//! `running`.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Longest turn that nobody minds.
pub const STALL: Duration = Duration::from_millis(50);
/// Between two log lines of one core.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What a core does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CoreTask {
    /// Answers a request; the number is its place in the watch's names.
    Request(u8),
    /// Takes in what a store sends.
    Fetch,
    /// Follows the feed of dead versions.
    Feed,
    /// Publishes what the core holds.
    Report,
    /// Writes pages to a disk.
    WriteBehind,
    /// Reads the disks again.
    Scrub,
    /// Moves pages between the disk tiers.
    Move,
}

impl CoreTask {
    fn code(self) -> u64 {
        match self {
            CoreTask::Fetch => 1,
            CoreTask::Feed => 2,
            CoreTask::Report => 3,
            CoreTask::WriteBehind => 4,
            CoreTask::Scrub => 5,
            CoreTask::Move => 6,
            CoreTask::Request(number) => 0x100 + u64::from(number),
        }
    }

    fn of(code: u64) -> Option<CoreTask> {
        Some(match code {
            1 => CoreTask::Fetch,
            2 => CoreTask::Feed,
            3 => CoreTask::Report,
            4 => CoreTask::WriteBehind,
            5 => CoreTask::Scrub,
            6 => CoreTask::Move,
            0x100..=0x1FF => CoreTask::Request((code - 0x100) as u8),
            _ => return None,
        })
    }
}

/// One core, as seen from outside.
pub struct CoreWatch {
    requests: &'static [&'static str],
    started: Instant,
    /// Microseconds since `started` at which the running turn began, and what it runs (10 bits); 0 between turns.
    running: AtomicU64,
    stalls: AtomicU64,
    told_us: AtomicU64,
}

const CODE_BITS: u32 = 10;

impl CoreWatch {
    /// A watch of a core that answers requests of these names.
    #[must_use]
    pub fn new(requests: &'static [&'static str]) -> Self {
        CoreWatch {
            requests,
            started: Instant::now(),
            running: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            told_us: AtomicU64::new(0),
        }
    }

    /// What people call a task.
    #[must_use]
    pub fn name(&self, task: CoreTask) -> &'static str {
        match task {
            CoreTask::Fetch => "fetch",
            CoreTask::Feed => "feed",
            CoreTask::Report => "report",
            CoreTask::WriteBehind => "write behind",
            CoreTask::Scrub => "scrub",
            CoreTask::Move => "move between tiers",
            CoreTask::Request(number) => self.requests.get(usize::from(number)).copied().unwrap_or("request"),
        }
    }

    /// Turns longer than `STALL` so far.
    #[must_use]
    pub fn stalls(&self) -> u64 {
        self.stalls.load(Relaxed)
    }

    /// The turn that runs now and for how long it has.
    #[must_use]
    pub fn running(&self) -> Option<(CoreTask, Duration)> {
        let running = self.running.load(Relaxed);
        let task = CoreTask::of(running & ((1 << CODE_BITS) - 1))?;
        let began = Duration::from_micros(running >> CODE_BITS);
        Some((task, self.started.elapsed().saturating_sub(began)))
    }

    fn begin(&self, task: CoreTask, now: Instant) {
        let since = now.saturating_duration_since(self.started).as_micros() as u64;
        self.running.store(since << CODE_BITS | task.code(), Relaxed);
    }

    fn end(&self, task: CoreTask, took: Duration) {
        self.running.store(0, Relaxed);
        if took < STALL {
            return;
        }
        self.stalls.fetch_add(1, Relaxed);
        let now = self.started.elapsed().as_micros() as u64;
        let told = self.told_us.load(Relaxed);
        if told == 0 || now.saturating_sub(told) >= TELL_EVERY.as_micros() as u64 {
            self.told_us.store(now.max(1), Relaxed);
            let stalls = self.stalls();
            let task = self.name(task);
            let core = std::thread::current().name().unwrap_or("?").to_owned();
            tracing::warn!(
                core,
                task,
                ?took,
                stalls,
                "a task kept its core from all others: every reader of this core waited"
            );
        }
    }
}

thread_local! {
    static WATCH: RefCell<Option<Arc<CoreWatch>>> = const { RefCell::new(None) };
}

/// From now on tasks of this thread are watched by `watch`.
pub fn watch_this_thread(watch: Arc<CoreWatch>) {
    WATCH.with(|current| *current.borrow_mut() = Some(watch));
}

/// Runs a future, its turns watched. Without a watch on this thread it only runs.
pub async fn watched<F: Future>(task: CoreTask, future: F) -> F::Output {
    let watch = WATCH.with(|current| current.borrow().clone());
    let mut future = pin!(future);
    let Some(watch) = watch else { return future.await };
    poll_fn(|context| {
        let began = Instant::now();
        watch.begin(task, began);
        let poll = future.as_mut().poll(context);
        watch.end(task, began.elapsed());
        poll
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn tasks_have_codes_of_their_own() {
        use CoreTask::{Feed, Fetch, Move, Report, Scrub, WriteBehind};
        let tasks = [Fetch, Feed, Report, WriteBehind, Scrub, Move];
        for task in tasks.into_iter().chain([0, 9, u8::MAX].map(CoreTask::Request)) {
            assert_eq!(CoreTask::of(task.code()), Some(task));
            assert!(task.code() < 1 << CODE_BITS);
        }
        assert_eq!(CoreTask::of(0), None);
    }

    #[test]
    fn a_long_turn_is_counted_and_the_running_one_is_seen() {
        let watch = Arc::new(CoreWatch::new(&["Read", "Load"]));
        watch_this_thread(watch.clone());
        let inside = watch.clone();
        let mut task = pin!(watched(CoreTask::Request(7), async move {
            std::thread::sleep(STALL);
            let (task, since) = inside.running().expect("it runs");
            assert_eq!(task, CoreTask::Request(7));
            assert!(since >= STALL - Duration::from_millis(1));
        }));
        assert_eq!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()));
        assert_eq!(watch.stalls(), 1);
        assert_eq!(watch.name(CoreTask::Request(1)), "Load");
        assert_eq!(watch.running(), None);
        let mut quick = pin!(watched(CoreTask::Feed, async {}));
        assert!(quick.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(watch.stalls(), 1);
    }
}

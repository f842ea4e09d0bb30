//! One core without a runtime: an executor with its own clock, for tests. Which task runs next is drawn from the seed;
//! when nothing can run, time goes on to the next timer. A whole run follows from the seed alone.
//!
//! Invariant: tasks of the engine reach it through `spawn`, `sleep` and `now` only; outside a simulation these are
//! glommio's.

use super::faulty::Seed;
use super::glommio_disk;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// Steps and simulated time after which a run counts as one that never ends.
const POLLS_MAX: u64 = 3_000_000;
const TIME_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

thread_local! {
    static CURRENT: RefCell<Option<Rc<Simulation>>> = const { RefCell::new(None) };
}

fn current() -> Option<Rc<Simulation>> {
    CURRENT.with(|current| current.borrow().clone())
}

/// Runs a future on this core in the background.
pub(crate) fn spawn(future: impl Future<Output = ()> + 'static) {
    match current() {
        Some(simulation) => simulation.spawn(Box::pin(future)),
        None => glommio_disk::spawn(future),
    }
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    match current() {
        Some(simulation) => simulation.sleep(time).await,
        None => glommio_disk::sleep(time).await,
    }
}

/// Lets others run if their turn has come.
pub(crate) async fn breathe() {
    if !is_active() {
        return glommio_disk::breathe().await;
    }
    let mut is_first = true;
    poll_fn(|context| {
        if !std::mem::take(&mut is_first) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What the clock says.
pub(crate) fn now() -> Instant {
    current().map_or_else(Instant::now, |simulation| simulation.start + simulation.time.get())
}

pub(crate) fn is_active() -> bool {
    CURRENT.with(|current| current.borrow().is_some())
}

type Task = Pin<Box<dyn Future<Output = ()>>>;
type Queue = Arc<Mutex<Vec<u64>>>;
/// `None` while it runs.
type Tasks = BTreeMap<u64, (Option<Task>, Arc<Waking>)>;

struct Waking {
    task: u64,
    is_ready: AtomicBool,
    ready: Queue,
}

impl Wake for Waking {
    fn wake(self: Arc<Self>) {
        if !self.is_ready.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap().push(self.task);
        }
    }
}

pub(crate) struct Simulation {
    start: Instant,
    time: Cell<Duration>,
    seed: RefCell<Seed>,
    tasks: RefCell<Tasks>,
    ready: Queue,
    timers: RefCell<BTreeMap<(Duration, u64), Waker>>,
    numbers: Cell<u64>,
    trace: Cell<u64>,
}

impl Simulation {
    /// Runs `main` to its end; what it spawned is dropped then. Returns what came out and a sum over all that happened.
    pub(crate) fn run<T: 'static>(seed: u64, main: impl Future<Output = T> + 'static) -> (T, u64) {
        let simulation = Rc::new(Simulation {
            start: Instant::now(),
            time: Cell::default(),
            seed: RefCell::new(Seed(seed ^ 0x5EED)),
            tasks: RefCell::default(),
            ready: Queue::default(),
            timers: RefCell::default(),
            numbers: Cell::new(0),
            trace: Cell::new(seed),
        });
        CURRENT.with(|current| assert!(current.borrow_mut().replace(simulation.clone()).is_none(), "one at a time"));
        let _ended = Ended;
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        simulation.spawn(Box::pin(async move { *place.borrow_mut() = Some(main.await) }));
        let mut polls = 0;
        let outcome = loop {
            if let Some(outcome) = result.borrow_mut().take() {
                break outcome;
            }
            simulation.step();
            polls += 1;
            assert!(polls < POLLS_MAX && simulation.time.get() < TIME_MAX, "runs on and on: {:?}", simulation.time);
        };
        simulation.drop_others();
        (outcome, simulation.trace.get())
    }

    fn step(&self) {
        let Some(task) = self.next_ready() else {
            let first = self.timers.borrow_mut().pop_first();
            let Some(((at, _), waker)) = first else { panic!("hangs: nothing can go on, and no timer runs") };
            self.time.set(self.time.get().max(at));
            waker.wake();
            return;
        };
        let taken = self.tasks.borrow_mut().get_mut(&task).and_then(|(future, waking)| {
            waking.is_ready.store(false, Ordering::Relaxed);
            Some((future.take()?, waking.clone()))
        });
        let Some((mut future, waking)) = taken else { return };
        self.note(task);
        let waker = Waker::from(waking);
        let is_done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut tasks = self.tasks.borrow_mut();
        if is_done {
            tasks.remove(&task);
        } else if let Some((place, _)) = tasks.get_mut(&task) {
            *place = Some(future);
        }
    }

    fn next_ready(&self) -> Option<u64> {
        let mut ready = self.ready.lock().unwrap();
        let count = ready.len() as u64;
        (count > 0).then(|| ready.swap_remove(self.seed.borrow_mut().below(count) as usize))
    }

    /// Sums up what happened, so that two runs can be compared.
    fn note(&self, what: u64) {
        let mixed = self.trace.get().rotate_left(7) ^ what ^ (self.time.get().as_nanos() as u64);
        self.trace.set(mixed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    }

    fn spawn(&self, future: Task) {
        let task = self.number();
        let waking = Arc::new(Waking { task, is_ready: AtomicBool::new(false), ready: self.ready.clone() });
        self.tasks.borrow_mut().insert(task, (Some(future), waking.clone()));
        waking.wake();
    }

    fn number(&self) -> u64 {
        self.numbers.set(self.numbers.get() + 1);
        self.numbers.get()
    }

    async fn sleep(&self, time: Duration) {
        let key = (self.time.get() + time, self.number());
        let _gone = Timer { simulation: self, key };
        poll_fn(|context| {
            if self.time.get() >= key.0 {
                return Poll::Ready(());
            }
            self.timers.borrow_mut().insert(key, context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The process dies: every task but the one that asks is dropped where it stands.
    pub(crate) fn drop_others(&self) {
        let dropped: Vec<_> = {
            let mut tasks = self.tasks.borrow_mut();
            // The one that runs now is taken out of its place.
            let others: Vec<u64> =
                tasks.iter().filter(|(_, (future, _))| future.is_some()).map(|(&task, _)| task).collect();
            others.iter().filter_map(|task| tasks.remove(task)).collect()
        };
        drop(dropped);
    }
}

/// Everything but the task that asks ends.
pub(crate) fn drop_others() {
    current().expect("in a simulation").drop_others();
}

struct Timer<'a> {
    simulation: &'a Simulation,
    key: (Duration, u64),
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.simulation.timers.borrow_mut().remove(&self.key);
    }
}

/// Ends the simulation of this thread, also by a panic.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        let simulation = CURRENT.with(|current| current.borrow_mut().take());
        // Tasks may use `spawn` and `sleep` no more; they are dropped without running.
        if let Some(simulation) = simulation {
            simulation.drop_others();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn time_passes_only_when_nothing_can_run() {
        let started = Instant::now();
        let (slept, _) = Simulation::run(1, async {
            let before = now();
            spawn(async { sleep(Duration::from_secs(7200)).await });
            sleep(Duration::from_secs(3600)).await;
            now() - before
        });
        assert_eq!(slept, Duration::from_secs(3600));
        assert!(started.elapsed() < Duration::from_secs(60) && !is_active());
    }

    #[test]
    #[should_panic(expected = "hangs")]
    fn a_hang_is_noticed() {
        Simulation::run(1, std::future::pending::<()>());
    }
}

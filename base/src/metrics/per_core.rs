//! Instances of a table for threads that are not cores: each thread records in one of them, so that threads do not
//! fight for cache lines.

use super::Table;
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// More instances than this only cost memory.
const INSTANCES_MAX: usize = 16;

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// This thread's number, given at its first question.
fn thread_number() -> usize {
    THREAD.with(|number| {
        if number.get() == usize::MAX {
            number.set(NEXT_THREAD.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    })
}

/// On cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Apart<T>(T);

/// One table, several instances.
#[derive(Debug)]
pub struct PerCore<T> {
    instances: Box<[Apart<T>]>,
}

impl<T: Default> Default for PerCore<T> {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let count = (2 * cores).next_power_of_two().min(INSTANCES_MAX);
        Self { instances: (0..count).map(|_| Apart::default()).collect() }
    }
}

impl<T> PerCore<T> {
    /// The instance in which the calling thread records.
    #[inline]
    #[must_use]
    pub fn here(&self) -> &T {
        // The count is a power of two.
        &self.instances[thread_number() & (self.instances.len() - 1)].0
    }

    /// All instances.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        self.instances.iter().map(|instance| &instance.0)
    }
}

impl<T: Table> PerCore<T> {
    /// The sum of one number over all instances.
    #[must_use]
    pub fn sum(&self, number: impl Fn(&T) -> u64) -> u64 {
        self.all().map(number).fold(0, u64::wrapping_add)
    }
}

//! The cells of a table: one value, and a row of cells by a label's value. Lock-free.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a row is made of.
pub trait Cell {
    /// How many numbers `read` appends.
    const NUMBERS: usize;
    /// Appends what it holds.
    fn read(&self, out: &mut Vec<u64>);
}

/// One counter or gauge.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// Adds `amount`.
    #[inline]
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Takes `amount` from a gauge. It may have been added to another core's instance: only the sum means something.
    #[inline]
    pub fn sub(&self, amount: u64) {
        self.0.fetch_sub(amount, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more in a gauge until what this returns is dropped.
    #[must_use]
    pub fn enter(&self) -> Entered<'_> {
        self.add(1);
        Entered(self)
    }
}

/// One that is counted in a gauge.
#[derive(Debug)]
pub struct Entered<'a>(&'a Metric);

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.sub(1);
    }
}

impl Cell for Metric {
    const NUMBERS: usize = 1;

    fn read(&self, out: &mut Vec<u64>) {
        out.push(self.get());
    }
}

/// A cell for each value of a label.
#[derive(Debug)]
pub struct Family<C, const N: usize>([C; N]);

impl<C: Default, const N: usize> Default for Family<C, N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| C::default()))
    }
}

impl<C, const N: usize> Family<C, N> {
    /// The cell of the label's value with this index; the last one for an index that is too large.
    #[inline]
    #[must_use]
    pub fn at(&self, index: usize) -> &C {
        &self.0[index.min(N - 1)]
    }
}

impl<const N: usize> Family<Metric, N> {
    /// All values together.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.iter().map(Metric::get).fold(0, u64::wrapping_add)
    }
}

impl<C: Cell, const N: usize> Cell for Family<C, N> {
    const NUMBERS: usize = N * C::NUMBERS;

    fn read(&self, out: &mut Vec<u64>) {
        self.0.iter().for_each(|cell| cell.read(out));
    }
}

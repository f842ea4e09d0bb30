//! Vectors that grow by whole chunks and never move what they hold, and slabs over them: what a core holds millions of
//! costs its own size and no spare half. Pure.
//!
//! Invariant of a slab: a number is either in use or in `free`.

const CHUNK: usize = 1024;

/// A vector in chunks.
pub(crate) struct Chunked<T> {
    chunks: Vec<Vec<T>>,
    length: usize,
}

impl<T> Default for Chunked<T> {
    fn default() -> Self {
        Chunked { chunks: Vec::new(), length: 0 }
    }
}

impl<T> Chunked<T> {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn push(&mut self, value: T) {
        if self.length == self.chunks.len() * CHUNK {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[self.length / CHUNK].push(value);
        self.length += 1;
    }

    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at / CHUNK)?.get(at % CHUNK)
    }

    pub(crate) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.chunks.get_mut(at / CHUNK)?.get_mut(at % CHUNK)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }
}

impl<T> std::ops::Index<u32> for Chunked<T> {
    type Output = T;

    fn index(&self, at: u32) -> &T {
        &self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

impl<T> std::ops::IndexMut<u32> for Chunked<T> {
    fn index_mut(&mut self, at: u32) -> &mut T {
        &mut self.chunks[at as usize / CHUNK][at as usize % CHUNK]
    }
}

/// Things by number; the number of what was taken out is used again.
pub(crate) struct Slab<T> {
    items: Chunked<T>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { items: Chunked::default(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(crate) fn put(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.items[number] = value;
            return number;
        }
        self.items.push(value);
        u32::try_from(self.items.len() - 1).expect("fewer than 2^32 of anything on one core")
    }

    /// Takes something out; `blank` stays in its place.
    pub(crate) fn take(&mut self, number: u32, blank: T) -> T {
        self.free.push(number);
        std::mem::replace(&mut self.items[number], blank)
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.items[number]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.items[number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back() {
        let mut slab: Slab<u64> = Slab::default();
        let numbers: Vec<u32> = (0..3_000).map(|value| slab.put(value)).collect();
        assert!(numbers.iter().all(|number| slab[*number] == u64::from(*number)));
        assert_eq!(slab.take(1_500, 0), 1_500);
        assert_eq!((slab.put(7), slab[1_500]), (1_500, 7));
        assert_eq!((slab.items.len(), slab.items.get(2_999), slab.items.get(3_000)), (3_000, Some(&2_999), None));
        assert_eq!(slab.items.iter().sum::<u64>(), 2_999 * 1_500 - 1_500 + 7);
    }
}

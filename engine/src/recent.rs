//! A bounded map of what was used of late, in two generations: when the young one is full it becomes the old one, and
//! what the old one held is forgotten unless it was used since. Pure; O(1), no list to keep.

use hashbrown::HashMap;
use std::hash::Hash;

pub(crate) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    young_max: usize,
}

impl<K: Hash + Eq + Clone, V: Clone> Recent<K, V> {
    /// Holds at most `entries_max`, at least half of that.
    pub(crate) fn new(entries_max: usize) -> Recent<K, V> {
        Recent { young: HashMap::new(), old: HashMap::new(), young_max: (entries_max / 2).max(1) }
    }

    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(key.clone(), value.clone());
        Some(value)
    }

    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.young_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }

    pub(crate) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let mut recent = Recent::new(4);
        for number in 0..100 {
            recent.put(number, number * 10);
            assert_eq!(recent.get(&0), Some(0), "used every time");
            assert!(recent.young.len() + recent.old.len() <= 4);
        }
        assert_eq!(recent.get(&50), None);
        recent.remove(&0);
        assert_eq!(recent.get(&0), None);
    }
}

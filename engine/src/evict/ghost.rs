//! When pages that are not held were last asked for: a set-associative table of one word an entry. Pure.
//!
//! An entry is 14 bits of the page's hash, two flags, and the times of its last two uses, in *turns* modulo 256. A full
//! set forgets the entry that was used least recently. Invariant: no time in the table is older than 256 turns, since
//! `sweep` comes round every `SWEEP_TURNS` and drops what is older than `TURNS_MAX`; so the differences are exact.

const WAYS: usize = 8;
const ENTRIES_MIN: usize = 1024;
/// Uses older than this are forgotten.
const TURNS_MAX: u8 = 160;
const SWEEP_TURNS: usize = 32;
const REFUSED: u32 = 1 << 16;
const WORTHY: u32 = 1 << 17;

/// What is known of a page that is not held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Uses {
    /// Turns since the last use, and since the one before it.
    pub(super) last: Option<u8>,
    pub(super) before: Option<u8>,
    /// It was not let in.
    pub(super) is_refused: bool,
    /// At its last use it was worth more than what would have left for it.
    pub(super) is_worthy: bool,
}

#[derive(Default)]
pub(super) struct Ghost {
    entries: Vec<u32>,
    turn: u8,
    swept: usize,
}

fn mark_of(hash: u32) -> u32 {
    // The set is chosen by the low bits, so the mark is made of the high ones; 0 is an empty entry.
    ((hash >> 18) | 1) << 18
}

impl Ghost {
    /// Remembers about as many pages as are held; what it knows is forgotten when it grows.
    pub(super) fn fit(&mut self, held: usize) {
        let want = held.max(ENTRIES_MIN);
        if want > self.entries.len() {
            self.entries = vec![0; want.next_power_of_two()];
            self.swept = 0;
        }
    }

    fn set_of(&self, hash: u32) -> usize {
        (hash as usize & (self.entries.len() / WAYS - 1)) * WAYS
    }

    fn find(&self, hash: u32) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let (set, mark) = (self.set_of(hash), mark_of(hash));
        (set..set + WAYS).find(|&at| self.entries[at] >> 18 == mark >> 18)
    }

    fn ages(&self, entry: u32) -> (u8, u8) {
        let [last, before, ..] = entry.to_le_bytes();
        (self.turn.wrapping_sub(last), self.turn.wrapping_sub(before))
    }

    pub(super) fn get(&self, hash: u32) -> Uses {
        let Some(at) = self.find(hash) else { return Uses::default() };
        let entry = self.entries[at];
        let (last, before) = self.ages(entry);
        Uses {
            last: Some(last),
            before: (before != last).then_some(before),
            is_refused: entry & REFUSED != 0,
            is_worthy: entry & WORTHY != 0,
        }
    }

    /// Notes what is known of a page; nothing if it was never used.
    pub(super) fn put(&mut self, hash: u32, uses: Uses) {
        let Some(last) = uses.last.filter(|last| *last <= TURNS_MAX) else { return };
        if self.entries.is_empty() {
            return;
        }
        let before = uses.before.filter(|before| *before <= TURNS_MAX).unwrap_or(last);
        let at = self.find(hash).unwrap_or_else(|| {
            let set = self.set_of(hash);
            let age = |at: &usize| match self.entries[*at] {
                0 => u16::MAX,
                entry => u16::from(self.ages(entry).0),
            };
            (set..set + WAYS).max_by_key(age).unwrap_or(set)
        });
        let times = [self.turn.wrapping_sub(last), self.turn.wrapping_sub(before), 0, 0];
        let flags = if uses.is_refused { REFUSED } else { 0 } | if uses.is_worthy { WORTHY } else { 0 };
        self.entries[at] = mark_of(hash) | flags | u32::from_le_bytes(times);
    }

    pub(super) fn remove(&mut self, hash: u32) {
        if let Some(at) = self.find(hash) {
            self.entries[at] = 0;
        }
    }

    /// A turn is over: everything known is one older, and a part of the table is looked through for what is too old.
    pub(super) fn next_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        for _ in 0..self.entries.len().div_ceil(SWEEP_TURNS) {
            let entry = self.entries[self.swept];
            let (last, before) = self.ages(entry);
            if entry != 0 && last > TURNS_MAX {
                self.entries[self.swept] = 0;
            } else if entry != 0 && before > TURNS_MAX {
                self.entries[self.swept] = entry & !0xFF00 | (entry & 0xFF) << 8;
            }
            self.swept = (self.swept + 1) % self.entries.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(last: u8, before: Option<u8>) -> Uses {
        Uses { last: Some(last), before, ..Uses::default() }
    }

    #[test]
    fn uses_grow_older_and_are_forgotten_in_time() {
        let mut ghost = Ghost::default();
        ghost.put(7, used(0, None));
        assert_eq!(ghost.get(7), Uses::default(), "it has no room yet");
        ghost.fit(10);
        ghost.put(7, used(0, None));
        ghost.put(8, Uses { is_refused: true, ..used(0, Some(100)) });
        for turn in 1..=TURNS_MAX {
            ghost.next_turn();
            assert_eq!(ghost.get(7), used(turn, None));
        }
        assert_eq!(ghost.get(8), Uses { is_refused: true, ..used(TURNS_MAX, None) });
        for _ in 0..2_000 {
            ghost.next_turn();
            let known = ghost.get(7);
            assert!(known == Uses::default() || known.last > Some(TURNS_MAX), "{known:?}: taken for a new one");
        }
        assert_eq!(ghost.get(7), Uses::default());
        ghost.put(7, used(3, None));
        ghost.remove(7);
        assert_eq!(ghost.get(7), Uses::default());
    }

    #[test]
    fn a_full_set_forgets_the_oldest() {
        let mut ghost = Ghost::default();
        ghost.fit(1);
        let hash = |number: u32| number << 19 | 5;
        for number in 0..WAYS as u32 + 1 {
            ghost.put(hash(number), used(0, None));
            ghost.next_turn();
        }
        assert_eq!(ghost.get(hash(0)), Uses::default());
        assert!((1..=WAYS as u32).all(|number| ghost.get(hash(number)).last.is_some()));
    }
}

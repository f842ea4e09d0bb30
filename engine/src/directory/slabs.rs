//! Slots for small files: size classes, and which slots of which slab file are free. Pure.
//!
//! Invariants: a slot is in use, spare (free, its space still allocated on the disk) or clean (free, no space); only
//! slots in use and spare ones count as used bytes. A slot becomes free only after its record was cleared durably.

use crate::format::SmallRecord;
use forebay_base::UNIT_BYTES;
use hashbrown::HashMap;
use std::collections::BTreeMap;

/// Length of a slab file. Part of the format: slot numbers follow from it.
pub(crate) const SLAB_BYTES: u64 = 64 << 20;
const FINE_BYTES: u64 = 64 << 10;

/// The slot size for so many bytes: steps of 4 KiB up to 64 KiB, then eight steps per doubling, so that at most an
/// eighth of a larger slot is wasted.
pub(crate) fn class_of(bytes: u64) -> u64 {
    let step = if bytes <= FINE_BYTES { UNIT_BYTES as u64 } else { bytes.next_power_of_two() / 16 };
    bytes.max(1).next_multiple_of(step)
}

pub(crate) fn slots_per_slab(class_bytes: u64) -> u32 {
    (SLAB_BYTES / class_bytes) as u32
}

/// One slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub(crate) struct Slot {
    pub(crate) class_bytes: u64,
    pub(crate) slab: u32,
    pub(crate) slot: u32,
}

impl Slot {
    /// Where a small file is.
    pub(crate) fn of(record: &SmallRecord) -> Slot {
        Slot { class_bytes: record.class_bytes.get().into(), slab: record.slab, slot: record.slot }
    }

    pub(crate) fn offset(&self) -> u64 {
        self.class_bytes * u64::from(self.slot)
    }
}

/// Which slots are taken: a bit each.
#[derive(Default)]
pub(crate) struct Places(HashMap<(u64, u32), Box<[u64]>>);

impl Places {
    /// `false` if it is taken already. The slot must be inside its slab.
    pub(crate) fn take(&mut self, slot: Slot) -> bool {
        let words = slots_per_slab(slot.class_bytes).div_ceil(64) as usize;
        let bits = self.0.entry((slot.class_bytes, slot.slab)).or_insert_with(|| vec![0; words].into());
        let (word, bit) = (&mut bits[slot.slot as usize / 64], 1 << (slot.slot % 64));
        let was = *word & bit != 0;
        *word |= bit;
        !was
    }

    fn has(&self, class_bytes: u64, slab: u32, slot: u32) -> bool {
        let bits = self.0.get(&(class_bytes, slab));
        bits.is_some_and(|bits| bits[slot as usize / 64] & 1 << (slot % 64) != 0)
    }
}

#[derive(Default)]
struct Class {
    slabs: u32,
    spare: Vec<(u32, u32)>,
    clean: Vec<(u32, u32)>,
}

/// All classes of one directory.
#[derive(Default)]
pub(crate) struct Slabs {
    classes: BTreeMap<u64, Class>,
    spare_bytes: u64,
}

impl Slabs {
    /// Takes the free slots from what is in use: `slabs` exist, all their other slots are clean.
    pub(crate) fn recovered(in_use: impl Iterator<Item = Slot>) -> Slabs {
        let mut slabs = Slabs::default();
        let mut used = Places::default();
        for slot in in_use {
            used.take(slot);
            let class = slabs.classes.entry(slot.class_bytes).or_default();
            class.slabs = class.slabs.max(slot.slab.saturating_add(1));
        }
        for (&class_bytes, class) in &mut slabs.classes {
            for slab in (0..class.slabs).rev() {
                let free = (0..slots_per_slab(class_bytes)).rev();
                class.clean.extend(free.filter(|&slot| !used.has(class_bytes, slab, slot)).map(|slot| (slab, slot)));
            }
        }
        slabs
    }

    /// Space of free slots that a punch would give back.
    pub(crate) fn spare_bytes(&self) -> u64 {
        self.spare_bytes
    }

    /// Whether `take` would cost new space.
    pub(crate) fn has_spare(&self, class_bytes: u64) -> bool {
        self.classes.get(&class_bytes).is_some_and(|class| !class.spare.is_empty())
    }

    /// Takes a slot; `true` if it needs new space.
    pub(crate) fn take(&mut self, class_bytes: u64) -> (Slot, bool) {
        let class = self.classes.entry(class_bytes).or_default();
        if let Some((slab, slot)) = class.spare.pop() {
            self.spare_bytes -= class_bytes;
            return (Slot { class_bytes, slab, slot }, false);
        }
        if class.clean.is_empty() {
            let slab = class.slabs;
            class.slabs += 1;
            class.clean.extend((0..slots_per_slab(class_bytes)).rev().map(|slot| (slab, slot)));
        }
        let (slab, slot) = class.clean.pop().expect("a slab has slots");
        (Slot { class_bytes, slab, slot }, true)
    }

    /// Frees a slot; its space stays allocated.
    pub(crate) fn free(&mut self, slot: Slot) {
        self.spare_bytes += slot.class_bytes;
        self.classes.entry(slot.class_bytes).or_default().spare.push((slot.slab, slot.slot));
    }

    /// A spare slot to be punched: of any class but `except`, if there is one. It is clean from now on.
    pub(crate) fn punch_one(&mut self, except: Option<u64>) -> Option<Slot> {
        let class = self.classes.iter_mut().find(|(class, held)| Some(**class) != except && !held.spare.is_empty());
        let (&class_bytes, held) = class?;
        let (slab, slot) = held.spare.pop()?;
        held.clean.push((slab, slot));
        self.spare_bytes -= class_bytes;
        Some(Slot { class_bytes, slab, slot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_waste_little() {
        for bytes in (1..20_000_000u64).step_by(997) {
            let class = class_of(bytes);
            assert!(class >= bytes && class.is_multiple_of(4096));
            assert!(class - bytes < 4096 || (class - bytes) * 8 <= class, "{bytes} in {class}");
            assert_eq!(class_of(class), class);
        }
        assert_eq!([class_of(1), class_of(65_536), class_of(65_537)], [4096, 65_536, 73_728]);
    }

    #[test]
    fn slots_come_back() {
        let mut slabs = Slabs::default();
        let (first, fresh) = slabs.take(4096);
        let (second, _) = slabs.take(4096);
        assert!(fresh && first != second);
        slabs.free(first);
        assert_eq!(slabs.spare_bytes(), 4096);
        assert_eq!(slabs.punch_one(Some(4096)), None);
        assert_eq!(slabs.take(4096), (first, false));
        slabs.free(first);
        assert_eq!(slabs.punch_one(None), Some(first));
        assert_eq!((slabs.take(4096), slabs.spare_bytes()), ((first, true), 0));
        let mut again = Slabs::recovered([second].into_iter());
        let taken: Vec<Slot> = (0..slots_per_slab(4096)).map(|_| again.take(4096).0).collect();
        assert!(!taken.contains(&second) && taken.last().unwrap().slab == 1);
    }
}

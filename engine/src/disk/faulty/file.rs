//! What a file holds: as it is read now, as it is after a cut, and everything written in between. Pure.

use super::{Seed, UNIT};
use std::collections::BTreeMap;
use std::rc::Rc;

pub(super) type Unit = Rc<[u8; UNIT]>;

const SECTOR: usize = 512;

#[derive(Clone, Default)]
pub(super) struct Image {
    pub(super) units: BTreeMap<u64, Unit>,
    pub(super) length: u64,
}

impl Image {
    pub(super) fn set(&mut self, unit: u64, content: Option<Unit>) {
        match content {
            Some(content) => self.units.insert(unit, content),
            None => self.units.remove(&unit),
        };
    }
}

#[derive(Clone, Default)]
pub(super) struct FileState {
    pub(super) now: Image,
    pub(super) durable: Image,
    pub(super) is_durable: bool,
    /// What each unit was given since the last sync, oldest first; `None` is a hole.
    pub(super) pending: BTreeMap<u64, Vec<Option<Unit>>>,
    /// Lengths that it had since then.
    lengths: Vec<u64>,
}

impl FileState {
    pub(super) fn whole(image: Image) -> FileState {
        FileState { now: image.clone(), durable: image, is_durable: true, ..FileState::default() }
    }

    pub(super) fn put(&mut self, unit: u64, content: Option<Unit>) {
        self.pending.entry(unit).or_default().push(content.clone());
        self.now.set(unit, content);
    }

    pub(super) fn set_length(&mut self, length: u64) {
        if length != self.now.length {
            self.lengths.push(length);
            self.now.length = length;
        }
    }

    pub(super) fn remove_range(&mut self, from: u64, end: u64) {
        let gone: Vec<u64> = self.now.units.range(from..end).map(|(&unit, _)| unit).collect();
        gone.into_iter().for_each(|unit| self.put(unit, None));
    }

    pub(super) fn sync(&mut self) {
        for unit in std::mem::take(&mut self.pending).into_keys() {
            self.durable.set(unit, self.now.units.get(&unit).cloned());
        }
        self.durable.length = self.now.length;
        self.lengths.clear();
        self.is_durable = true;
    }

    /// A sync that fails: some of what was written is gone, the rest may or may not be durable, and nobody asks again.
    pub(super) fn fail_sync(&mut self, seed: &mut Seed) {
        for unit in std::mem::take(&mut self.pending).into_keys() {
            if seed.below(2) == 0 {
                self.now.set(unit, self.durable.units.get(&unit).cloned());
            } else if seed.below(2) == 0 {
                self.durable.set(unit, self.now.units.get(&unit).cloned());
            } else {
                self.pending.insert(unit, vec![self.now.units.get(&unit).cloned()]);
            }
        }
    }

    /// What a power cut leaves: of each unit any state that it had since the last sync, and if the disk tears units, a mix of two
    /// of them at 512-byte boundaries.
    pub(super) fn after_cut(&self, seed: &mut Seed, tears: bool) -> FileState {
        let mut image = self.durable.clone();
        for (&unit, versions) in &self.pending {
            let mut states = vec![image.units.get(&unit).cloned()];
            states.extend(versions.iter().cloned());
            let mut pick = || states[seed.below(states.len() as u64) as usize].clone();
            let (first, second) = (pick(), pick());
            let kept = if tears && seed.below(3) == 0 { Some(torn(first, second, seed)) } else { first };
            image.set(unit, kept);
        }
        let lengths = self.lengths.len() as u64;
        if let Some(length) = self.lengths.get(seed.below(lengths + 1) as usize) {
            image.length = *length;
        }
        image.units.retain(|&unit, _| unit * (UNIT as u64) < image.length);
        FileState::whole(image)
    }

    /// What the death of the process leaves: the kernel has all that it was given.
    pub(super) fn after_kill(&self) -> FileState {
        self.clone()
    }
}

fn torn(first: Option<Unit>, second: Option<Unit>, seed: &mut Seed) -> Unit {
    let mut mix = first.map_or([0; UNIT], |unit| *unit);
    let other = second.map_or([0; UNIT], |unit| *unit);
    for at in (0..UNIT).step_by(SECTOR) {
        if seed.below(2) == 0 {
            mix[at..at + SECTOR].copy_from_slice(&other[at..at + SECTOR]);
        }
    }
    Rc::new(mix)
}

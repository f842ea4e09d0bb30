//! Scan-resistant: a page has to be asked for three times, since the page that would leave for it was last used, before
//! it takes that page's place.
//!
//! Two lists, each with the least recently used in front. *Newcomers* is short (1/50 of what is held, or 64 pages) and
//! takes what nothing is known of, so that it can be read to its end. *Settled* takes the rest; it is filled from the
//! newcomers, and once it has its share a page gets in only by winning against its front. A scan asks for each page once
//! and wins nothing. In a loop over more than fits, each page is asked for once a round: at most twice between two
//! uses of any other page, so nothing is exchanged and the share that is held is hit. A working set that moved wins in its
//! third round. After a long idle time (`IDLE_TURNS`) two uses are enough.
//!
//! Time goes by in turns: 16 while as many pages are used as are held. Uses of one page in the same or the next turn
//! count as one: a page is read in many pieces. Pages that are not held are remembered in `ghost`.

use super::ghost::{Ghost, Uses};
use super::list::Lists;
use super::{Evictor, Node};
use crate::index::PageId;

const NEWCOMERS: Node = 0;
const SETTLED: Node = 1;
const NEWCOMER_SHARE: usize = 50;
const NEWCOMERS_MIN: usize = 64;
/// Newcomers that settle because one more comes, at most.
const SETTLED_A_TIME: usize = 2;
const TURNS_PER_ROUND: usize = 16;
/// A settled page not used for so long gives way to one used twice: six times what is held.
const IDLE_TURNS: u16 = 96;
/// What a use counts, in parts of `USE_PARTS`; one that follows another of the same page counts one part.
const USE_PARTS: usize = 16;
/// Turns within which two uses of a page are one.
const SAME_USE_TURNS: u16 = 1;

/// Times of a held page: turns modulo 2^15. `before` is `last` if it was used once, and the turn after `last` if it was only
/// put in. The highest bits say which list it is in, and whether it lost its place and is to leave before all others.
#[derive(Clone, Copy)]
struct Times {
    last: u16,
    before: u16,
    is_settled: bool,
    has_lost: bool,
}

const TURN_MASK: u16 = 0x7FFF;

impl Times {
    fn from_mark(mark: u32) -> Times {
        let (last, before) = (mark as u16, (mark >> 16) as u16);
        let flag = |word: u16| word & !TURN_MASK != 0;
        Times { last: last & TURN_MASK, before: before & TURN_MASK, is_settled: flag(last), has_lost: flag(before) }
    }

    fn is_unused(self) -> bool {
        self.before == (self.last + 1) & TURN_MASK
    }

    fn mark(self) -> u32 {
        let (last, before) = (u32::from(self.last), u32::from(self.before));
        last | u32::from(self.is_settled) << 15 | before << 16 | u32::from(self.has_lost) << 31
    }
}

#[derive(Default)]
struct Clock {
    turn: u16,
    parts: usize,
}

impl Clock {
    fn age(&self, time: u16) -> u16 {
        self.turn.wrapping_sub(time) & TURN_MASK
    }

    fn time(&self, age: u16) -> u16 {
        self.turn.wrapping_sub(age) & TURN_MASK
    }
}

pub(super) struct ScanResistant {
    lists: Lists,
    settled: usize,
    clock: Clock,
    ghost: Ghost,
}

impl ScanResistant {
    pub(super) fn new() -> ScanResistant {
        ScanResistant { lists: Lists::new(2), settled: 0, clock: Clock::default(), ghost: Ghost::default() }
    }

    fn newcomers_max(&self) -> usize {
        let held = self.lists.len();
        (held / NEWCOMER_SHARE).max(NEWCOMERS_MIN.min(held / 2))
    }

    /// Time goes by; `is_use` is false for what is the same use as before.
    fn tick(&mut self, is_use: bool) {
        self.clock.parts += if is_use { USE_PARTS } else { 1 };
        if self.clock.parts >= USE_PARTS * (self.lists.len() / TURNS_PER_ROUND).max(1) {
            self.clock.parts = 0;
            self.clock.turn = (self.clock.turn + 1) & TURN_MASK;
            self.ghost.next_turn();
        }
    }

    /// The page not used for the longest time, of both lists.
    fn idlest(&self) -> Option<Node> {
        let fronts = [self.lists.front_node(NEWCOMERS), self.lists.front_node(SETTLED)];
        fronts.into_iter().flatten().max_by_key(|front| self.idle(*front))
    }

    /// Whether a page that is used now, and was before at these ages, is worth more than the one not used for the longest time.
    fn wins(&self, last: Option<u16>, before: Option<u16>) -> bool {
        let Some(idlest) = self.idlest() else { return true };
        let idle = self.idle(idlest);
        before.is_some_and(|age| age < idle) || last.is_some() && idle >= IDLE_TURNS
    }

    fn ages(&self, times: Times) -> (Option<u16>, Option<u16>) {
        if times.is_unused() {
            return (None, None);
        }
        let before = (times.before != times.last).then(|| self.clock.age(times.before));
        (Some(self.clock.age(times.last)), before)
    }

    fn times(&self, node: Node) -> Times {
        Times::from_mark(self.lists.mark(node))
    }

    /// Turns since a page was used or put in.
    fn idle(&self, node: Node) -> u16 {
        self.clock.age(self.times(node).last)
    }

    /// A page won: it settles in the place of the settled's front, and the page that it won against is the next to leave.
    fn exchange(&mut self, node: Node, times: Times) {
        self.settle(node, times);
        let Some(front) = self.lists.front_node(SETTLED).filter(|front| *front != node) else { return };
        if self.settled + self.newcomers_max() <= self.lists.len() {
            return;
        }
        let loser = self.idlest();
        self.lists.set_mark(front, Times { is_settled: false, ..self.times(front) }.mark());
        self.lists.move_to(NEWCOMERS, front);
        self.settled -= 1;
        if let Some(loser) = loser {
            self.lists.set_mark(loser, Times { has_lost: true, ..self.times(loser) }.mark());
            self.lists.move_to_front(NEWCOMERS, loser);
        }
    }

    fn settle(&mut self, node: Node, mut times: Times) {
        if !std::mem::replace(&mut times.is_settled, true) {
            self.settled += 1;
        }
        self.lists.set_mark(node, times.mark());
        self.lists.move_to(SETTLED, node);
    }
}

impl Evictor for ScanResistant {
    fn missed(&mut self, hash: u32) {
        let uses = self.ghost.get(hash);
        if uses.last.is_some_and(|age| u16::from(age) <= SAME_USE_TURNS) {
            return self.tick(false);
        }
        let is_worthy = self.wins(uses.last.map(u16::from), uses.before.map(u16::from));
        self.ghost.put(hash, Uses { last: Some(0), before: uses.last, is_refused: false, is_worthy });
        self.tick(true);
    }

    fn admits(&mut self, hash: u32) -> bool {
        let uses = self.ghost.get(hash);
        let is_now = uses.last.is_some_and(|age| u16::from(age) <= 2 * SAME_USE_TURNS);
        // Who comes back at once could not be kept anywhere else.
        if self.settled == 0 || is_now && (uses.is_worthy || uses.is_refused) {
            return true;
        }
        let uses = if is_now { uses } else { Uses { last: Some(0), before: uses.last, ..uses } };
        self.ghost.put(hash, Uses { is_refused: true, ..uses });
        false
    }

    fn is_worthy(&self, hash: u32) -> bool {
        let uses = self.ghost.get(hash);
        self.settled == 0 || uses.is_worthy && uses.last.is_some_and(|age| u16::from(age) <= 2 * SAME_USE_TURNS)
    }

    fn insert(&mut self, page: PageId, hash: u32, is_wanted: bool) -> Node {
        let uses = self.ghost.get(hash);
        self.ghost.remove(hash);
        self.ghost.fit(self.lists.len() + 1);
        let last = self.clock.time(uses.last.map_or(0, u16::from));
        let before = match (uses.last, uses.before) {
            (None, _) => (last + 1) & TURN_MASK,
            (_, None) => last,
            (_, Some(age)) => self.clock.time(age.into()),
        };
        let times = Times { last, before, is_settled: false, has_lost: false };
        let node = self.lists.push(NEWCOMERS, page, times.mark());
        if is_wanted || uses.is_worthy {
            self.exchange(node, times);
        }
        // The settled have their share without a contest: while the tier fills, and when some of them were dropped.
        for _ in 0..SETTLED_A_TIME {
            if self.lists.len() - self.settled > self.newcomers_max()
                && let Some(oldest) = self.lists.front_node(NEWCOMERS)
            {
                self.settle(oldest, self.times(oldest));
            }
        }
        node
    }

    fn touch(&mut self, node: Node) {
        let times = self.times(node);
        let (last, before) = self.ages(times);
        if last.is_some_and(|age| age <= SAME_USE_TURNS) {
            if !times.is_settled {
                self.lists.set_mark(node, Times { has_lost: false, ..times }.mark());
                self.lists.move_to(NEWCOMERS, node);
            }
            return self.tick(false);
        }
        let now = self.clock.turn;
        let times =
            Times { last: now, before: if last.is_some() { times.last } else { now }, has_lost: false, ..times };
        if times.is_settled {
            self.settle(node, times);
        } else if self.wins(last, before) {
            self.exchange(node, times);
        } else {
            self.lists.set_mark(node, times.mark());
            self.lists.move_to(NEWCOMERS, node);
        }
        self.tick(true);
    }

    fn remove(&mut self, node: Node, hash: u32) {
        let times = self.times(node);
        self.settled -= usize::from(times.is_settled);
        self.lists.remove(node);
        let (last, before) = self.ages(times);
        let short = |age: Option<u16>| age.and_then(|age| u8::try_from(age).ok());
        self.ghost.put(hash, Uses { last: short(last), before: short(before), ..Uses::default() });
    }

    fn victim(&mut self) -> Option<PageId> {
        let newcomers = self.lists.len() - self.settled;
        let leaves = |node: &Node| newcomers >= self.newcomers_max() || self.times(*node).has_lost;
        let node = self.lists.front_node(NEWCOMERS).filter(leaves).or_else(|| self.idlest())?;
        Some(self.lists.page(node))
    }
}

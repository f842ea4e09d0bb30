//! Which files the kernel reads by itself from the worker's local file, and which go through this process. Shared by the
//! session's threads.
//!
//! Invariants, all of them the kernel's: while any open of a node lives, its further opens are of the same kind, and the
//! backed ones have the same backing id (reads of one that is direct as well come here nevertheless); an open(2) of the other kind would fail with EIO, or, mapped, would keep it from
//! ever working. A backing id is given back with the last release of its node, not sooner and not later. An open counts
//! from when its kind is chosen, which is before the kernel hears of it, until its release, which the kernel sends after
//! it has let go.

use crate::device::Backing;
use crate::handler::Errno;
use forebay_client::LocalFile;
use hashbrown::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// How a file is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    /// By the kernel, from the local file with this backing id.
    Backed(u32),
    /// Through this process too, though the node has this backing id: its file is not for new readers any more.
    BackedDirect(u32),
    /// Through this process.
    Served,
}

/// The opens of a node that live.
enum Opens {
    /// `file` holds the lease.
    Backed {
        id: u32,
        count: u32,
        file: Arc<LocalFile>,
    },
    Served {
        count: u32,
    },
}

/// The table.
#[derive(Default)]
pub(super) struct Passthrough {
    backing: OnceLock<Result<Backing, String>>,
    denied: AtomicBool,
    nodes: Mutex<HashMap<u64, Opens>>,
    refused: AtomicU64,
    last_refusal: Mutex<String>,
}

impl Passthrough {
    /// What the session found out at its start: the way to register files, or why there is none.
    pub(super) fn begin(&self, backing: Result<Backing, String>) {
        match &backing {
            Ok(_) => tracing::info!("passthrough is on: the kernel reads files that a worker of this host holds whole"),
            Err(why) => tracing::info!("passthrough is off: {why}"),
        }
        // A handler serves one session; a second one would find what the first one found.
        let _ = self.backing.set(backing);
    }

    fn backing(&self) -> Option<&Backing> {
        self.backing.get()?.as_ref().ok().filter(|_| !self.denied.load(Ordering::Relaxed))
    }

    /// Whether opens are to be counted: some may be backed.
    pub(super) fn counts(&self) -> bool {
        matches!(self.backing.get(), Some(Ok(_)))
    }

    /// Whether files can be registered.
    pub(super) fn is_on(&self) -> bool {
        self.backing().is_some()
    }

    /// For people: whether it is used, and if not why.
    pub(super) fn describe(&self) -> String {
        match self.backing.get() {
            None => "off: the mount is starting".into(),
            Some(Err(why)) => format!("off: {why}"),
            Some(Ok(_)) if !self.is_on() => format!("off: {}", self.last_refusal()),
            Some(Ok(_)) => match self.refused.load(Ordering::Relaxed) {
                0 => "on".into(),
                count => format!("on, but refused {count} times, last: {}", self.last_refusal()),
            },
        }
    }

    fn last_refusal(&self) -> String {
        self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<u64, Opens>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Backing ids in use.
    pub(super) fn backed(&self) -> usize {
        self.nodes().values().filter(|opens| matches!(opens, Opens::Backed { .. })).count()
    }

    fn join_in(nodes: &mut HashMap<u64, Opens>, node: u64) -> Option<Way> {
        Some(match nodes.get_mut(&node)? {
            Opens::Backed { id, count, file } => {
                *count += 1;
                if file.is_good() { Way::Backed(*id) } else { Way::BackedDirect(*id) }
            }
            Opens::Served { count } => {
                *count += 1;
                Way::Served
            }
        })
    }

    /// Counts an open of a node that has others: it is of their kind.
    pub(super) fn join(&self, node: u64) -> Option<Way> {
        Self::join_in(&mut self.nodes(), node)
    }

    /// Counts an open: of the kind that lives by now, else backed by `file` if there is one and the kernel takes it.
    pub(super) fn enter(&self, node: u64, file: Option<Arc<LocalFile>>) -> Way {
        let mut nodes = self.nodes();
        if let Some(way) = Self::join_in(&mut nodes, node) {
            return way;
        }
        let backed = file.and_then(|file| Some((self.register(&file)?, file)));
        let (way, opens) = match backed {
            Some((id, file)) => (Way::Backed(id), Opens::Backed { id, count: 1, file }),
            None => (Way::Served, Opens::Served { count: 1 }),
        };
        nodes.insert(node, opens);
        way
    }

    fn register(&self, file: &LocalFile) -> Option<u32> {
        match self.backing()?.open(file.descriptor()) {
            Ok(id) => Some(id),
            Err(error) => {
                self.set_refused(error);
                None
            }
        }
    }

    fn set_refused(&self, error: Errno) {
        let why = match error {
            Errno::PERM => "it needs CAP_SYS_ADMIN".to_string(),
            Errno::LOOP => {
                "the worker's directory is on a stacked file system (overlayfs): put worker.ssd on ext4 or xfs".into()
            }
            Errno::OPNOTSUPP | Errno::INVAL => format!("the worker's file system cannot be read that way ({error})"),
            other => format!("the kernel took no backing file ({other})"),
        };
        if self.refused.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!("passthrough is not used: {why}; files are read through this process");
        }
        self.denied.fetch_or(error == Errno::PERM, Ordering::Relaxed);
        *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    /// An open of a node was released, or never came to be.
    pub(super) fn leave(&self, node: u64) {
        let mut nodes = self.nodes();
        let Some(opens) = nodes.get_mut(&node) else { return };
        let (Opens::Backed { count, .. } | Opens::Served { count }) = opens;
        *count -= 1;
        if *count > 0 {
            return;
        }
        let ended = nodes.remove(&node);
        // Under the lock: a new id of this node is not made before the old one is gone.
        if let (Some(Opens::Backed { id, .. }), Some(Ok(backing))) = (&ended, self.backing.get())
            && let Err(error) = backing.close(*id)
        {
            tracing::warn!(%error, "the kernel does not know a backing id any more");
        }
        drop(nodes);
        drop(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_backing_all_is_served_and_counted() {
        let table = Passthrough::default();
        assert_eq!(table.describe(), "off: the mount is starting");
        table.begin(Err("this kernel offers none".into()));
        assert_eq!((table.is_on(), table.describe()), (false, "off: this kernel offers none".into()));
        assert_eq!((table.join(5), table.enter(5, None), table.join(5)), (None, Way::Served, Some(Way::Served)));
        table.leave(5);
        assert_eq!(table.join(5), Some(Way::Served));
        table.leave(5);
        table.leave(5);
        table.leave(5);
        assert_eq!((table.join(5), table.backed()), (None, 0));
    }
}

//! One open directory: a window of its listing, fetched part by part from the master.
//!
//! Offsets: 1 stands behind ".", 2 behind "..", n + 3 behind the n-th entry. They stay true while the handle is open:
//! the name in front of each part is remembered, so that a program may seek back. Offset 0 starts a fresh listing.

use super::names::Names;
use forebay_base::{FileId, KindError};
use forebay_client::Client;
use forebay_client::message::namespace::Entry;
use std::sync::Arc;
use std::time::Instant;

/// Entries fetched at once.
const PART_ENTRIES: u32 = 1024;
/// Entries before the listing's own.
pub(super) const DOTS: u64 = 2;

/// An open directory.
pub(super) struct Directory {
    pub(super) file_id: FileId,
    window: tokio::sync::Mutex<Window>,
}

/// The part of the listing in memory.
struct Window {
    /// Index of the first entry held.
    first: u64,
    entries: Arc<Vec<Entry>>,
    asked: Instant,
    /// Whether the listing ends with what is held; none before anything was fetched.
    end: Option<bool>,
    /// (index of a part's first entry, the name before it), in order.
    parts: Vec<(u64, Vec<u8>)>,
}

/// Entries from some index on.
pub(super) struct Slice<'a> {
    pub(super) entries: &'a [Entry],
    /// When they were asked for.
    pub(super) asked: Instant,
}

impl Directory {
    pub(super) fn new(file_id: FileId) -> Self {
        let window = Window {
            first: 0,
            entries: Arc::default(),
            asked: Instant::now(),
            end: None,
            parts: vec![(0, Vec::new())],
        };
        Self { file_id, window: tokio::sync::Mutex::new(window) }
    }

    /// Gives `use_slice` the entries from `index` on; none of them at the end. One fetch at most.
    pub(super) async fn read<R>(
        &self,
        client: &Client,
        names: &Names,
        index: u64,
        restart: bool,
        use_slice: impl FnOnce(Slice<'_>) -> R,
    ) -> Result<R, KindError> {
        let mut window = self.window.lock().await;
        if restart {
            window.forget();
        }
        if !window.holds(index) {
            let (part_index, after) = window.part_before(index);
            let asked = Instant::now();
            let reply = client.read_dir(self.file_id, &after, PART_ENTRIES).await?;
            let entries = Arc::new(reply.entries);
            names.put(self.file_id, &after, entries.clone(), reply.end, asked);
            window.take(part_index, entries, reply.end, asked);
        }
        let skip = usize::try_from(index.saturating_sub(window.first)).unwrap_or(usize::MAX);
        let entries = window.entries.get(skip..).unwrap_or(&[]);
        Ok(use_slice(Slice { entries, asked: window.asked }))
    }
}

impl Window {
    fn forget(&mut self) {
        self.entries = Arc::default();
        self.end = None;
        self.first = 0;
        self.parts.truncate(1);
    }

    /// Whether the entry at `index`, or the knowledge that there is none, is held.
    fn holds(&self, index: u64) -> bool {
        let behind = self.first + self.entries.len() as u64;
        match self.end {
            None => false,
            Some(end) => index >= self.first && (index < behind || end),
        }
    }

    /// The nearest part that starts at or before `index`.
    fn part_before(&self, index: u64) -> (u64, Vec<u8>) {
        let place = self.parts.partition_point(|(first, _)| *first <= index).saturating_sub(1);
        self.parts.get(place).cloned().unwrap_or_default()
    }

    fn take(&mut self, first: u64, entries: Arc<Vec<Entry>>, end: bool, asked: Instant) {
        let behind = first + entries.len() as u64;
        if let Some(last) = entries.last()
            && !end
            && self.parts.last().is_none_or(|(known, _)| *known < behind)
        {
            self.parts.push((behind, last.name.clone()));
        }
        // A part without entries that is not the end would have us ask for ever.
        self.end = Some(end || entries.is_empty());
        (self.first, self.entries, self.asked) = (first, entries, asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_client::message::namespace::Attr;

    fn entries(range: std::ops::Range<u64>) -> Arc<Vec<Entry>> {
        let attr = |file_id| Attr {
            file_id,
            version: 1,
            size: 0,
            mtime_ms: 0,
            block_bytes: 1,
            page_bytes: 1,
            mode: 0,
            uid: 0,
            gid: 0,
            nlink: 1,
            mount_id: 0,
            kind: 1,
            valid_for_ms: 0,
        };
        Arc::new(range.map(|id| Entry { name: format!("{id:04}").into_bytes(), attr: attr(id) }).collect())
    }

    #[test]
    fn parts_are_found_again_after_seeking_back() {
        let directory = Directory::new(FileId(1));
        let mut window = directory.window.into_inner();
        assert!(!window.holds(0));
        assert_eq!(window.part_before(0), (0, Vec::new()));
        window.take(0, entries(0..10), false, Instant::now());
        assert!(window.holds(9) && !window.holds(10));
        assert_eq!(window.part_before(10), (10, b"0009".to_vec()));
        window.take(10, entries(10..15), true, Instant::now());
        assert!(window.holds(12) && window.holds(15) && !window.holds(3));
        assert_eq!(window.part_before(3), (0, Vec::new()));
        window.take(0, entries(0..10), false, Instant::now());
        assert_eq!(window.parts.len(), 2);
        window.forget();
        assert_eq!((window.parts.len(), window.holds(0)), (1, false));
    }

    #[test]
    fn an_empty_directory_ends() {
        let mut window = Directory::new(FileId(1)).window.into_inner();
        window.take(0, Arc::default(), false, Instant::now());
        assert!(window.holds(0));
    }
}

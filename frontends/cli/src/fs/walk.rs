//! Walking a tree depth first with an explicit stack. Holds one page of entries for each level that is open, never
//! a whole directory.

use forebay_base::{FileId, KindError};
use forebay_client::Client;
use forebay_client::message::namespace::{Attr, Entry, KIND_DIRECTORY, Refresh};
use std::collections::VecDeque;

/// Entries asked for at a time.
pub(crate) const PAGE_ENTRIES: u32 = 1024;

/// Something the walk met.
#[derive(Debug)]
pub(crate) enum Met {
    /// A file or directory with its path; a directory comes before what it holds.
    Entry(Vec<u8>, Attr),
    /// A directory that could not be listed to its end; the walk goes on elsewhere.
    Failed(Vec<u8>, KindError),
}

/// One directory that is open.
struct Level {
    directory: FileId,
    path: Vec<u8>,
    page: VecDeque<Entry>,
    after: Vec<u8>,
    begun: bool,
    end: bool,
}

/// A walk under way.
pub(crate) struct Walk<'a> {
    client: &'a Client,
    recursive: bool,
    refreshing: bool,
    levels: Vec<Level>,
}

impl<'a> Walk<'a> {
    /// The entries of `directory`, and with `recursive` all below.
    pub(crate) fn below(client: &'a Client, path: &[u8], directory: &Attr, recursive: bool) -> Self {
        let mut walk = Walk { client, recursive, refreshing: false, levels: Vec::new() };
        walk.enter(path.to_vec(), directory);
        walk
    }

    /// Asks the store about each directory before it is listed.
    pub(crate) fn refreshing(mut self, refreshing: bool) -> Self {
        self.refreshing = refreshing;
        self
    }

    fn enter(&mut self, path: Vec<u8>, directory: &Attr) {
        self.levels.push(Level {
            directory: FileId(directory.file_id),
            path,
            page: VecDeque::new(),
            after: Vec::new(),
            begun: false,
            end: false,
        });
    }

    /// The next thing met; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Met> {
        loop {
            let level = self.levels.last_mut()?;
            if let Some(entry) = level.page.pop_front() {
                let path = join(&level.path, &entry.name);
                if self.recursive && entry.attr.kind == KIND_DIRECTORY {
                    self.enter(path.clone(), &entry.attr);
                }
                return Some(Met::Entry(path, entry.attr));
            }
            if level.end {
                self.levels.pop();
                continue;
            }
            if self.refreshing && !level.begun {
                level.begun = true;
                let request = Refresh { file_id: level.directory.0, apply: true };
                if let Err(error) = self.client.master(&request).await {
                    let path = std::mem::take(&mut level.path);
                    self.levels.pop();
                    return Some(Met::Failed(path, error));
                }
            }
            match self.client.read_dir(level.directory, &level.after, PAGE_ENTRIES).await {
                Ok(reply) => {
                    // A page without entries ends the directory whatever it says, so that the walk always ends.
                    level.end = reply.end || reply.entries.is_empty();
                    if let Some(last) = reply.entries.last() {
                        level.after.clone_from(&last.name);
                    }
                    level.page = reply.entries.into();
                }
                Err(error) => {
                    let path = std::mem::take(&mut level.path);
                    self.levels.pop();
                    return Some(Met::Failed(path, error));
                }
            }
        }
    }
}

/// `directory` / `name`.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.strip_suffix(b"/").unwrap_or(directory).to_vec();
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins() {
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"/a", b"b"), b"/a/b");
        assert_eq!(join(b"/a/", b"b"), b"/a/b");
    }
}

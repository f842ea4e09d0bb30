//! The order in which a job does its work: each of its paths, depth first, names bytewise, a page of names at a time.
//!
//! Invariants: memory holds one page for each level that is open, whatever the tree's size; what cannot be looked up or
//! listed is met as a failure and never passed over; a walk from a place meets exactly what lies behind it.

use crate::namespace::JobPlace;
use crate::tree::{Named, Tree};
use forebay_base::{ErrorKind, FileId, KindError};
use forebay_net::message::namespace::{Attr, KIND_DIRECTORY};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Names read from a directory at once.
const PAGE_NAMES: usize = 1000;
/// Waits between the tries of a store that does not answer.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// What the walk comes to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Met {
    /// A file.
    File { place: JobPlace, id: FileId, size: u64, version: u64 },
    /// A path that cannot be looked up, or a directory that cannot be listed.
    Failed { place: JobPlace, error: KindError },
}

struct Level {
    directory: FileId,
    path: Vec<u8>,
    after: Vec<u8>,
    page: VecDeque<Named>,
    is_listed: bool,
    end: bool,
}

impl Level {
    fn new(directory: FileId, path: Vec<u8>) -> Self {
        Self { directory, path, after: Vec::new(), page: VecDeque::new(), is_listed: false, end: false }
    }
}

/// A walk.
pub(crate) struct Walk {
    tree: Arc<Tree>,
    roots: Vec<String>,
    recursive: bool,
    /// A listing that began later than this is new enough; without one no store is asked, names are as they are known.
    since: Option<Instant>,
    root: usize,
    is_open: bool,
    resume: Vec<u8>,
    levels: Vec<Level>,
    met: VecDeque<Met>,
}

/// `directory` / `name`.
fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.strip_suffix(b"/").unwrap_or(directory).to_vec();
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// The names on the way from `root` to `path`; none where it does not lie below.
fn names_below<'a>(path: &'a [u8], root: &[u8]) -> Vec<&'a [u8]> {
    let root = root.strip_suffix(b"/").unwrap_or(root);
    match path.strip_prefix(root).and_then(|rest| rest.strip_prefix(b"/")) {
        Some(rest) if !rest.is_empty() => rest.split(|byte| *byte == b'/').collect(),
        _ => Vec::new(),
    }
}

fn may_pass(error: &KindError) -> bool {
    matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Overloaded)
}

impl Walk {
    /// From behind `from`; an empty path there is the start of that root.
    pub(super) fn new(tree: Arc<Tree>, roots: Vec<String>, recursive: bool, since: Instant, from: &JobPlace) -> Self {
        Self::from_place(tree, roots, recursive, Some(since), from)
    }

    /// All below one root; `since` as in `Walk`.
    pub(crate) fn whole(tree: Arc<Tree>, root: String, since: Option<Instant>) -> Self {
        Self::from_place(tree, vec![root], true, since, &JobPlace::default())
    }

    fn from_place(
        tree: Arc<Tree>,
        roots: Vec<String>,
        recursive: bool,
        since: Option<Instant>,
        from: &JobPlace,
    ) -> Self {
        Self {
            tree,
            roots,
            recursive,
            since,
            root: from.root as usize,
            is_open: false,
            resume: from.path.clone(),
            levels: Vec::new(),
            met: VecDeque::new(),
        }
    }

    fn place(&self, path: Vec<u8>) -> JobPlace {
        JobPlace { root: self.root as u32, path }
    }

    /// What comes next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Met> {
        loop {
            if let Some(met) = self.met.pop_front() {
                return Some(met);
            }
            let Some(level) = self.levels.last_mut() else {
                if std::mem::replace(&mut self.is_open, true) {
                    self.root += 1;
                    self.resume.clear();
                }
                let root = self.roots.get(self.root)?.clone();
                self.enter(root).await;
                continue;
            };
            if let Some(named) = level.page.pop_front() {
                let path = join(&level.path, &named.name);
                if named.is_directory {
                    self.levels.push(Level::new(named.id, path));
                    continue;
                }
                return Some(Met::File {
                    place: self.place(path),
                    id: named.id,
                    size: named.size,
                    version: named.version,
                });
            }
            if level.end {
                self.levels.pop();
                continue;
            }
            if let Err(error) = Self::fill(&self.tree, self.since, level).await {
                let path = std::mem::take(&mut level.path);
                self.levels.pop();
                return Some(Met::Failed { place: self.place(path), error });
            }
        }
    }

    async fn fill(tree: &Arc<Tree>, since: Option<Instant>, level: &mut Level) -> Result<(), KindError> {
        if let (Some(since), false) = (since, level.is_listed) {
            let mut waits = WAITS.iter();
            while let Err(error) = tree.list_for_job(level.directory, since).await {
                match waits.next() {
                    Some(wait) if may_pass(&error) => tokio::time::sleep(*wait).await,
                    _ => return Err(error),
                }
            }
            level.is_listed = true;
        }
        let (names, end) = tree.names_for_job(level.directory, &level.after, PAGE_NAMES).await?;
        // A page without names ends the directory whatever it says, so that the walk always ends.
        level.end = end || names.is_empty();
        if let Some(last) = names.last() {
            level.after.clone_from(&last.name);
        }
        level.page = names.into();
        Ok(())
    }

    async fn resolve(&self, path: &[u8]) -> Result<Attr, KindError> {
        if self.since.is_none() {
            return self.tree.known_for_job(path).await;
        }
        let mut waits = WAITS.iter();
        loop {
            match self.tree.resolve(path).await {
                Ok(attr) => return Ok(attr),
                Err(error) => match waits.next() {
                    Some(wait) if may_pass(&error) => tokio::time::sleep(*wait).await,
                    _ => return Err(error),
                },
            }
        }
    }

    /// Begins a root, behind where an earlier walk of it was.
    async fn enter(&mut self, root: String) {
        let (path, resume) = (root.into_bytes(), std::mem::take(&mut self.resume));
        if resume == path {
            return;
        }
        let attr = match self.resolve(&path).await {
            Ok(attr) => attr,
            Err(error) => return self.met.push_back(Met::Failed { place: self.place(path), error }),
        };
        let id = FileId(attr.file_id);
        if attr.kind != KIND_DIRECTORY {
            let (size, version) = (attr.size, attr.version);
            return self.met.push_back(Met::File { place: self.place(path), id, size, version });
        }
        if !self.recursive {
            let error = KindError::new(ErrorKind::IsADirectory, "it is a directory now");
            return self.met.push_back(Met::Failed { place: self.place(path), error });
        }
        let names = names_below(&resume, &path);
        let mut level = Level::new(id, path);
        for (index, name) in names.iter().enumerate() {
            level.after = name.to_vec();
            if index + 1 == names.len() {
                break;
            }
            let below = join(&level.path, name);
            match self.resolve(&below).await {
                Ok(attr) if attr.kind == KIND_DIRECTORY => {
                    let id = FileId(attr.file_id);
                    self.levels.push(std::mem::replace(&mut level, Level::new(id, below)));
                }
                Ok(_) => break,
                Err(error) if error.kind == ErrorKind::NotFound => break,
                Err(error) => {
                    self.met.push_back(Met::Failed { place: self.place(below), error });
                    break;
                }
            }
        }
        self.levels.push(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_down() {
        assert_eq!(names_below(b"/a/b/c", b"/a"), [b"b", b"c"]);
        assert_eq!(names_below(b"/a/b", b"/"), [b"a", b"b"]);
        assert!(names_below(b"/ab/c", b"/a").is_empty() && names_below(b"/a", b"/a").is_empty());
        assert_eq!(join(b"/", b"a"), b"/a");
        assert_eq!(join(b"/a", b"b"), b"/a/b");
    }
}

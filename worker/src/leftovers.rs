//! What uploads of this worker would leave in stores if it died now: a small file for each below `worker.dir`, read again
//! after a restart. Used by the store threads.
//!
//! Invariant: a note stays until its upload is finished, or what it names is removed.

use crate::store_gate::StoreGate;
use forebay_base::{ErrorKind, MountId};
use hashbrown::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often what could not be removed is tried again.
const AGAIN: Duration = Duration::from_secs(20);

/// The notes.
pub(crate) struct Leftovers {
    directory: PathBuf,
    active: Mutex<Active>,
}

#[derive(Default)]
struct Active {
    next: u64,
    numbers: HashSet<String>,
}

/// The note of an upload that goes on.
pub(crate) struct Note {
    leftovers: Arc<Leftovers>,
    name: String,
    text: Option<String>,
}

impl Leftovers {
    /// Keeps its notes in `directory`, which it makes.
    pub(crate) fn open(directory: &Path) -> std::io::Result<Arc<Self>> {
        fs::create_dir_all(directory)?;
        Ok(Arc::new(Self { directory: directory.to_path_buf(), active: Mutex::default() }))
    }

    fn active(&self) -> MutexGuard<'_, Active> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A note without a text yet.
    pub(crate) fn note(self: &Arc<Self>) -> Note {
        let mut active = self.active();
        let name = loop {
            let name = format!("{:016x}", active.next);
            active.next += 1;
            // The number may be that of a note from before the last start.
            if !self.directory.join(&name).exists() {
                break name;
            }
        };
        active.numbers.insert(name.clone());
        Note { leftovers: Arc::clone(self), name, text: None }
    }

    /// Removes what uploads left that have ended, and goes on looking for ever.
    pub(crate) async fn keep_clean(self: Arc<Self>, gate: Arc<StoreGate>) {
        loop {
            for name in self.ended() {
                self.clean(&gate, &name).await;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    fn ended(&self) -> Vec<String> {
        let found = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let active = self.active();
        let names = found.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| !active.numbers.contains(name)).collect()
    }

    async fn clean(&self, gate: &Arc<StoreGate>, name: &str) {
        let path = self.directory.join(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let parsed = text.split_once('\n').and_then(|(mount, left)| Some((MountId(mount.parse().ok()?), left)));
        let result = match parsed {
            // Half a note: what it would have named was not there yet.
            None => Ok(false),
            Some((mount, left)) => gate.remove_leftover(mount, left).await,
        };
        match result {
            Err(error) if !matches!(error.kind, ErrorKind::Stale | ErrorKind::NotFound | ErrorKind::Invalid) => {
                tracing::debug!(%error, "what an upload left is not removed yet");
            }
            // The mount is gone, or the note names nothing that can be removed.
            Err(error) => {
                tracing::info!(%error, note = text.replace('\n', " "), "a note of what an upload left is dropped");
                let _ = fs::remove_file(path);
            }
            Ok(was_there) => {
                if let (true, Some((mount, left))) = (was_there, parsed) {
                    tracing::info!(%mount, left, "removed what an upload left that did not end");
                }
                let _ = fs::remove_file(path);
            }
        }
    }
}

impl Note {
    /// Writes down what a crash would leave now.
    pub(crate) fn set(&mut self, mount: MountId, left: Option<String>) {
        if left.is_none() || self.text == left {
            return;
        }
        let text = format!("{mount}\n{}", left.as_deref().unwrap_or_default());
        if let Err(error) = fs::write(self.path(), text) {
            tracing::warn!(%error, "cannot note an upload: if this worker is killed, part of a file may stay in the store");
        }
        self.text = left;
    }

    /// Nothing is left.
    pub(crate) fn done(self) {
        if self.text.is_some() {
            let _ = fs::remove_file(self.path());
        }
    }

    fn path(&self) -> PathBuf {
        self.leftovers.directory.join(&self.name)
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        self.leftovers.active().numbers.remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_stay_until_nothing_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let leftovers = Leftovers::open(&dir.path().join("uploads")).expect("made");
        let mut first = leftovers.note();
        first.set(MountId(3), None);
        assert!(!first.path().exists(), "nothing to note yet");
        first.set(MountId(3), Some("a/b\nc".into()));
        assert_eq!(fs::read_to_string(first.path()).expect("written"), "3\na/b\nc");
        assert!(leftovers.ended().is_empty(), "it goes on");
        let kept = first.path();
        drop(first);
        assert_eq!(leftovers.ended().len(), 1);
        let again = Leftovers::open(&dir.path().join("uploads")).expect("made");
        let mut second = again.note();
        assert_ne!(second.path(), kept, "another number than that of a note from before");
        second.set(MountId(3), Some("x".into()));
        second.done();
        assert_eq!(again.ended().len(), 1);
    }
}

//! Who writes which file now: promises of clients in the leader's memory, renewed by them (`HoldSessions`). After a restart
//! of the master nobody is known to write; a session that goes on then shows the version that it goes by.
//!
//! Invariant: a save replaces only the content that its session began with, or saved last (`base`), also where the mark of
//! that content changed by what programs did through this master.

use forebay_base::{ErrorKind, FileId, KindError};
use hashbrown::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a promise holds.
const HOLD: Duration = Duration::from_secs(15);
/// A file that was never saved goes when nobody has held it for this long. A worker saves what a dead client left before.
pub(crate) const UNSAVED_KEPT: Duration = Duration::from_secs(45);
/// A grant may be this much older than a renewal that does not name it yet.
const CROSSED: Duration = Duration::from_millis(500);
/// Most files that are written at once.
const SESSIONS_MAX: usize = 1 << 20;

/// The client of a file that was found unsaved, before its own has been heard of.
const NOBODY: u64 = 0;

/// A client's promise, or none yet for a file that was found unsaved.
#[derive(Clone)]
struct Hold {
    client_id: u64,
    renewed: Instant,
    /// The fingerprint that its next save replaces, where a grant said so.
    base: Option<String>,
    /// The client has not named it since.
    is_given_back: bool,
}

/// The table.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<FileId, Hold>>);

impl Sessions {
    fn table(&self) -> MutexGuard<'_, HashMap<FileId, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client writes the file from now on; `Busy` while another one does.
    pub(crate) fn begin(&self, file: FileId, client_id: u64, base: &str) -> Result<(), KindError> {
        let mut table = self.table();
        let now = Instant::now();
        if let Some(hold) = table.get(&file)
            && hold.client_id != client_id
            && hold.client_id != NOBODY
            && now.duration_since(hold.renewed) < if hold.is_given_back { CROSSED } else { HOLD }
        {
            return Err(KindError::new(ErrorKind::Busy, format!("file {file}: another client writes it")));
        }
        if table.len() >= SESSIONS_MAX && !table.contains_key(&file) {
            let message = format!("{SESSIONS_MAX} files are being written");
            return Err(KindError::new(ErrorKind::Overloaded, message));
        }
        table.insert(file, Hold { client_id, renewed: now, base: Some(base.to_string()), is_given_back: false });
        Ok(())
    }

    /// What the session that a client holds replaces next.
    pub(crate) fn base(&self, file: FileId, client_id: u64) -> Option<String> {
        self.table().get(&file).filter(|hold| hold.client_id == client_id)?.base.clone()
    }

    /// The same content has another mark.
    pub(crate) fn rebase(&self, file: FileId, old: &str, new: &str) {
        if let Some(hold) = self.table().get_mut(&file)
            && hold.base.as_deref() == Some(old)
        {
            hold.base = Some(new.to_string());
        }
    }

    /// The session's content is in the store.
    pub(crate) fn saved(&self, file: FileId, fingerprint: &str) {
        if let Some(hold) = self.table().get_mut(&file) {
            hold.base = Some(fingerprint.to_string());
        }
    }

    /// The client still writes these files, and no others.
    pub(crate) fn renew(&self, files: &[FileId], client_id: u64) {
        let mut table = self.table();
        let now = Instant::now();
        for file in files {
            let room = table.len() < SESSIONS_MAX;
            match table.get_mut(file) {
                Some(hold) if [client_id, NOBODY].contains(&hold.client_id) => {
                    (hold.client_id, hold.renewed, hold.is_given_back) = (client_id, now, false);
                }
                Some(hold) if now.duration_since(hold.renewed) >= HOLD => {
                    *hold = Hold { client_id, renewed: now, base: None, is_given_back: false };
                }
                None if room => {
                    table.insert(*file, Hold { client_id, renewed: now, base: None, is_given_back: false });
                }
                _ => {}
            }
        }
        // What it does not name any more it has given back, unless a grant crossed this on its way: that shows soon.
        for (file, hold) in table.iter_mut() {
            hold.is_given_back |= hold.client_id == client_id && !files.contains(file);
        }
    }

    /// Of files that were never saved those that nobody has held for long. A file seen here first counts as held now: a new
    /// leader gives its client time.
    pub(crate) fn abandoned(&self, unsaved: &[FileId]) -> Vec<FileId> {
        let mut table = self.table();
        let now = Instant::now();
        let is_abandoned = |file: &&FileId| {
            let hold = table.entry(**file).or_insert(Hold {
                client_id: NOBODY,
                renewed: now,
                base: None,
                is_given_back: false,
            });
            now.duration_since(hold.renewed) >= UNSAVED_KEPT
        };
        let abandoned: Vec<FileId> = unsaved.iter().filter(is_abandoned).copied().collect();
        // A promise that ended long ago says nothing any more.
        table.retain(|file, hold| now.duration_since(hold.renewed) < UNSAVED_KEPT * 2 || unsaved.contains(file));
        abandoned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_writes_a_file_until_its_promise_ends() {
        let (sessions, file) = (Sessions::default(), FileId(7));
        let backdate = |by: Duration| {
            let mut table = sessions.table();
            let hold = table.get_mut(&file).unwrap();
            hold.renewed = hold.renewed.checked_sub(by).unwrap();
        };
        assert!(sessions.begin(file, 1, "a").is_ok() && sessions.begin(file, 1, "a").is_ok());
        assert_eq!(sessions.begin(file, 2, "a").unwrap_err().kind, ErrorKind::Busy);
        backdate(HOLD);
        sessions.renew(&[file], 1);
        assert_eq!(sessions.begin(file, 2, "a").unwrap_err().kind, ErrorKind::Busy);
        backdate(HOLD);
        assert!(sessions.begin(file, 2, "a").is_ok());
        sessions.renew(&[file], 1);
        assert_eq!(sessions.begin(file, 1, "a").unwrap_err().kind, ErrorKind::Busy);
        sessions.rebase(file, "x", "c");
        assert_eq!(sessions.base(file, 2).as_deref(), Some("a"));
        sessions.rebase(file, "a", "b");
        assert_eq!((sessions.base(file, 2).as_deref(), sessions.base(file, 1)), (Some("b"), None));
        assert!(sessions.abandoned(&[file, FileId(9)]).is_empty());
        sessions.renew(&[], 2);
        assert_eq!(sessions.begin(file, 1, "a").unwrap_err().kind, ErrorKind::Busy, "a grant may have crossed it");
        backdate(CROSSED);
        assert!(sessions.begin(file, 1, "a").is_ok(), "it was given back");
        backdate(UNSAVED_KEPT);
        assert_eq!(sessions.abandoned(&[file, FileId(9)]), [file]);
    }
}

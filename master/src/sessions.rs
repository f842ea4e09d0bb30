//! Who writes which file now: promises of clients in the leader's memory, renewed by them (`HoldSessions`). After a restart
//! of the master nobody is known to write; what keeps two writers from overwriting each other then is that each save
//! replaces only the content that it began with.

use forebay_base::{ErrorKind, FileId, KindError};
use hashbrown::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a promise holds.
const HOLD: Duration = Duration::from_secs(15);
/// A file that was never saved goes when nobody has held it for this long. A worker saves what a dead client left before.
pub(crate) const UNSAVED_KEPT: Duration = Duration::from_secs(90);
/// Most files that are written at once.
const SESSIONS_MAX: usize = 1 << 20;

/// The client of a file that was found unsaved, before its own has been heard of.
const NOBODY: u64 = 0;

/// A client's promise, or none yet for a file that was found unsaved.
#[derive(Clone, Copy)]
struct Hold {
    client_id: u64,
    renewed: Instant,
}

/// The table.
#[derive(Default)]
pub(crate) struct Sessions(Mutex<HashMap<FileId, Hold>>);

impl Sessions {
    fn table(&self) -> MutexGuard<'_, HashMap<FileId, Hold>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client writes the file from now on; `Busy` while another one does.
    pub(crate) fn begin(&self, file: FileId, client_id: u64) -> Result<(), KindError> {
        let mut table = self.table();
        let now = Instant::now();
        if let Some(hold) = table.get(&file)
            && hold.client_id != client_id
            && hold.client_id != NOBODY
            && now.duration_since(hold.renewed) < HOLD
        {
            return Err(KindError::new(ErrorKind::Busy, format!("file {file}: another client writes it")));
        }
        if table.len() >= SESSIONS_MAX && !table.contains_key(&file) {
            let message = format!("{SESSIONS_MAX} files are being written");
            return Err(KindError::new(ErrorKind::Overloaded, message));
        }
        table.insert(file, Hold { client_id, renewed: now });
        Ok(())
    }

    /// The client still writes these files, and no others.
    pub(crate) fn renew(&self, files: &[FileId], client_id: u64) {
        let mut table = self.table();
        let now = Instant::now();
        for file in files {
            let hold = table.entry(*file).or_insert(Hold { client_id, renewed: now });
            if [client_id, NOBODY].contains(&hold.client_id) || now.duration_since(hold.renewed) >= HOLD {
                *hold = Hold { client_id, renewed: now };
            }
        }
    }

    /// Of files that were never saved those that nobody has held for long. A file seen here first counts as held now: a new
    /// leader gives its client time.
    pub(crate) fn abandoned(&self, unsaved: &[FileId]) -> Vec<FileId> {
        let mut table = self.table();
        let now = Instant::now();
        let is_abandoned = |file: &&FileId| {
            let hold = table.entry(**file).or_insert(Hold { client_id: NOBODY, renewed: now });
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
        assert!(sessions.begin(file, 1).is_ok() && sessions.begin(file, 1).is_ok());
        assert_eq!(sessions.begin(file, 2).unwrap_err().kind, ErrorKind::Busy);
        backdate(HOLD);
        sessions.renew(&[file], 1);
        assert_eq!(sessions.begin(file, 2).unwrap_err().kind, ErrorKind::Busy);
        backdate(HOLD);
        assert!(sessions.begin(file, 2).is_ok());
        sessions.renew(&[file], 1);
        assert_eq!(sessions.begin(file, 1).unwrap_err().kind, ErrorKind::Busy);
        assert!(sessions.abandoned(&[file, FileId(9)]).is_empty());
        backdate(UNSAVED_KEPT);
        assert_eq!(sessions.abandoned(&[file, FileId(9)]), [file]);
    }
}

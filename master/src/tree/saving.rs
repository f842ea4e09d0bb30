//! Files that programs write: created here, granted to one client at a time, saved by a worker, and taken over as new versions.

use super::sync::TRIES;
use super::{Found, Tree, not_found, shown};
use crate::metrics::{CHANGE, STAT};
use crate::mounts::refused;
use crate::namespace::{Command, NewFile, Outcome, Removal, Upsert};
use forebay_base::{ErrorKind, FileId, KindError, limits, unix_now_ms};
use forebay_net::message::change::{CreateFile, SessionGrant};
use forebay_net::message::namespace::Attr;
use forebay_net::write_ticket::{self, WriteTicket};
use forebay_ufs::AttributeChange;
use std::sync::Arc;

impl Tree {
    /// A new file that its store does not have yet, held by the client that asks.
    pub(crate) async fn create_file(self: &Arc<Self>, request: &CreateFile) -> Result<SessionGrant, KindError> {
        let (parent, name) = (FileId(request.parent), &request.name);
        let mount = self.changeable(&self.directory(parent).await?)?;
        let _order = mount.order.read().await;
        Self::new_key(&self.directory(parent).await?, name)?;
        let taken = || KindError::new(ErrorKind::Exists, format!("\"{}\" exists already", shown(name)));
        for _ in 0..TRIES {
            match self.lookup(parent, name).await {
                Ok(_) => return Err(taken()),
                Err(error) if error.kind == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let _changing = self.freshness.changing(parent, name);
            let new = NewFile {
                directory: parent.0,
                name: name.clone(),
                mode: request.mode & 0o7777,
                uid: request.uid,
                gid: request.gid,
                now_ms: unix_now_ms(),
            };
            match self.journal.propose(Command::CreateFile(new)).await? {
                // Whoever reads the outcome of its own proposal finds the file, unless it is removed at once.
                Outcome::Done { events } => {
                    let id = FileId(events.first().map_or(0, |(id, _)| *id));
                    let gone = || not_found(&format!("\"{}\" is gone already", shown(name)));
                    let found = self.inode(id).await?.ok_or_else(gone)?;
                    self.sessions.begin(id, request.client_id, "")?;
                    return Ok(self.granted(&found, request.client_id, String::new()));
                }
                Outcome::Retry => {}
                other => return Err(refused(other)),
            }
        }
        Err(KindError::new(ErrorKind::Overloaded, format!("directory {parent}: too many changes at once")))
    }

    /// Leave for one client to write a file. `base_version` is what the session goes by that it has already, 0 for a new one.
    pub(crate) async fn grant_session(
        self: &Arc<Self>,
        id: FileId,
        client_id: u64,
        base_version: u64,
    ) -> Result<SessionGrant, KindError> {
        let first = self.inode(id).await?;
        let gone = || not_found(&format!("file {id} does not exist any more"));
        let found = first.ok_or_else(gone)?;
        if found.inode.is_directory() {
            return Err(KindError::new(ErrorKind::IsADirectory, format!("file {id} is a directory")));
        }
        self.changeable(&found)?;
        let goes_on = (base_version != 0).then(|| self.sessions.base(id, client_id)).flatten();
        let found = match goes_on {
            Some(_) => found,
            None if found.inode.unsaved => found,
            None => self.current(id, Some(found)).await?.0,
        };
        let base = match goes_on {
            Some(base) => base,
            None if base_version != 0 && base_version != found.inode.version => {
                let message = format!("file {id}: somebody else has changed it since it was opened for writing");
                return Err(KindError::new(ErrorKind::Stale, message));
            }
            None => found.inode.fingerprint.clone(),
        };
        self.sessions.begin(id, client_id, &base)?;
        Ok(self.granted(&found, client_id, base))
    }

    fn granted(&self, found: &Found, client_id: u64, replaces: String) -> SessionGrant {
        let ticket = WriteTicket {
            mount_id: found.inode.mount_id,
            store_key: found.inode.store_key.clone(),
            file_id: found.id.0,
            client_id,
            create_only: replaces.is_empty(),
            replaces,
            expires_unix_ms: unix_now_ms() + limits::TICKET_LIFE_MS,
        };
        self.metrics.here().write_tickets.add(1);
        SessionGrant {
            attr: found.attr(0),
            ticket: write_ticket::sign(&ticket, &self.ticket_key),
            ticket_life_ms: limits::TICKET_LIFE_MS,
        }
    }

    /// A worker has put a file's content into its store: it is a new version.
    pub(crate) async fn record_saved(self: &Arc<Self>, id: FileId, fingerprint: &str) -> Result<Attr, KindError> {
        let gone = || not_found(&format!("file {id} does not exist any more"));
        let mount = self.mount_of(&self.inode(id).await?.ok_or_else(gone)?)?;
        let _order = mount.order.read().await;
        let found = self.inode(id).await?.ok_or_else(gone)?;
        if found.inode.is_directory() {
            return Err(KindError::new(ErrorKind::IsADirectory, format!("file {id} is a directory")));
        }
        let parent = FileId(found.inode.parent);
        let name = self.name_in(&found, &mount);
        let _changing = self.freshness.changing(parent, &name);
        let key = found.inode.store_key.clone();
        let given = (found.inode.mode, found.inode.uid, found.inode.gid);
        let stat_key = key.clone();
        let mut meta = self.ask(&mount, STAT, move |store| async move { store.stat(&stat_key).await }).await?;
        if meta.fingerprint.0 != fingerprint {
            let message = format!("file {id}: its store has something else under its name now");
            return Err(KindError::new(ErrorKind::Stale, message));
        }
        if found.inode.unsaved && Self::keeps_attributes(&mount)? {
            let mtime_ms = found.inode.own_mtime.then_some(found.inode.mtime_ms);
            let change = AttributeChange { mode: Some(given.0), uid: Some(given.1), gid: Some(given.2), mtime_ms };
            match self.ask(&mount, CHANGE, move |store| async move { store.set_attributes(&key, &change).await }).await
            {
                Ok(changed) => meta = changed,
                Err(error) => tracing::info!(%error, "a new file keeps the owner and mode that its worker gave it"),
            }
        }
        let upsert = Upsert { expected: id.0, ..self.owned(&name, &meta, given) };
        let found = self.record(parent, upsert).await?;
        self.sessions.saved(id, &found.inode.fingerprint);
        Ok(found.attr(self.valid_ms(&mount, &found, parent)))
    }

    /// Removes files that were never saved and that nobody writes any more. How many went.
    pub(crate) async fn drop_abandoned(self: &Arc<Self>) -> Result<usize, KindError> {
        let unsaved = self.cores.read_all(|partition| partition.unsaved().collect::<Vec<_>>()).await?;
        let unsaved: Vec<FileId> = unsaved.into_iter().flatten().collect();
        let mut dropped = 0;
        for id in self.sessions.abandoned(&unsaved) {
            let Some(found) = self.inode(id).await? else { continue };
            let Ok(mount) = self.mount_of(&found) else { continue };
            let name = self.name_in(&found, &mount);
            let removal = Removal { parent: found.inode.parent, name, expected: id.0 };
            if matches!(self.journal.propose(Command::DropUnsaved(removal)).await?, Outcome::Done { .. }) {
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}

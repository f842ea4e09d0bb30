//! Leave to write whole files, and the look at what came of it. The store is asked in both, whatever the freshness: what
//! is decided here is decided on what is there now.

use super::{Found, Tree, not_found, shown};
use crate::mount_state::MountState;
use crate::mounts::components;
use crate::namespace::lies_in;
use crate::tree::refresh::Changes;
use forebay_base::{ErrorKind, FileId, KindError, limits, unix_now_ms};
use forebay_net::message::namespace::Attr;
use forebay_net::message::write::GrantWriteReply;
use forebay_net::write_ticket::{self, WriteTicket};
use std::sync::Arc;
use std::time::Instant;

/// Where a path leads inside its mount.
struct Place {
    /// The last directory on the way that exists.
    directory: Found,
    /// What its next name leads to; that is the path's last name unless directories are missing.
    child: Option<Found>,
    /// The key in the store.
    key: String,
}

impl Tree {
    /// A ticket to write the file at `path`.
    pub(crate) async fn grant_write(
        self: &Arc<Self>,
        path: &[u8],
        overwrite: bool,
    ) -> Result<GrantWriteReply, KindError> {
        let (text, mount) = self.writable(path)?;
        if mount.record.readonly {
            let at = &mount.record.path;
            let message = format!(
                "{text}: the mount {at} is read-only: forebay fs mount --update {at} --read-write changes that"
            );
            return Err(KindError::new(ErrorKind::ReadOnly, message));
        }
        let place = self.place(text, &mount).await?;
        match &place.child {
            Some(found) if found.inode.is_directory() => {
                return Err(KindError::new(ErrorKind::IsADirectory, format!("{text}: it is a directory")));
            }
            Some(_) if !overwrite => {
                return Err(KindError::new(ErrorKind::Exists, format!("{text}: it exists already")));
            }
            _ => {}
        }
        let ticket = WriteTicket {
            mount_id: mount.record.mount_id,
            store_key: place.key,
            file_id: 0,
            client_id: 0,
            create_only: !overwrite,
            replaces: String::new(),
            expires_unix_ms: unix_now_ms() + limits::TICKET_LIFE_MS,
        };
        self.metrics.here().write_tickets.add(1);
        Ok(GrantWriteReply {
            ticket: write_ticket::sign(&ticket, &self.ticket_key),
            ticket_life_ms: limits::TICKET_LIFE_MS,
            mount_id: mount.record.mount_id,
        })
    }

    /// Looks at a path in its store and says what is there now.
    pub(crate) async fn record_write(self: &Arc<Self>, path: &[u8]) -> Result<Attr, KindError> {
        let asked = Instant::now();
        let (text, mount) = self.writable(path)?;
        let place = self.place(text, &mount).await?;
        let missing = || not_found(&format!("{text}: the store has no such file"));
        let found = place.child.ok_or_else(missing)?;
        let bound = self.policies.bound(&mount, &found.inode.store_key);
        let checked = self.freshness.checked(found.id, place.directory.id);
        let valid = bound.valid_ms(checked, true, asked).unwrap_or(0);
        Ok(found.attr(valid))
    }

    /// The path and the mount that it lies in, below the mount's own directory.
    fn writable<'a>(&self, path: &'a [u8]) -> Result<(&'a str, Arc<MountState>), KindError> {
        let invalid = |message: String| KindError::new(ErrorKind::Invalid, message);
        let text = std::str::from_utf8(path)
            .map_err(|_| invalid(format!("{}: only names in UTF-8 can be written", shown(path))))?;
        components(text)?;
        let mounts = self.mounts.list();
        let Some(info) = mounts.iter().find(|mount| lies_in(text, &mount.path)) else {
            let known = match mounts.len() {
                0 => "there are none: forebay fs mount adds one".to_string(),
                1..=8 => mounts.iter().map(|mount| mount.path.as_str()).collect::<Vec<_>>().join(", "),
                count => format!("{count} others, see forebay fs mounts"),
            };
            let above = mounts.iter().any(|mount| lies_in(&mount.path, text));
            let kind = if above { ErrorKind::IsADirectory } else { ErrorKind::Invalid };
            return Err(KindError::new(
                kind,
                format!("{text}: lies in no mount, nothing can be written there; mounts: {known}"),
            ));
        };
        if info.path == text {
            return Err(KindError::new(ErrorKind::IsADirectory, format!("{text}: it is a mount's own directory")));
        }
        let gone = || not_found(&format!("{}: it was unmounted", info.path));
        Ok((text, self.mounts.get(info.mount_id).ok_or_else(gone)?))
    }

    /// Walks from the mount's root to `text`. Names that are not known, and the last one, are looked up in the store.
    async fn place(self: &Arc<Self>, text: &str, mount: &Arc<MountState>) -> Result<Place, KindError> {
        let gone = || not_found(&format!("{}: its directory is gone", mount.record.path));
        let mut directory = self.inode(FileId(mount.record.root)).await?.ok_or_else(gone)?;
        let inside = text.get(mount.record.path.len()..).unwrap_or_default().trim_matches('/');
        let names: Vec<&str> = inside.split('/').collect();
        for (index, name) in names.iter().enumerate() {
            let is_last = index + 1 == names.len();
            let (_, known) = self.name(directory.id, name.as_bytes()).await?;
            let child = match known {
                Some(known) if !is_last && known.inode.is_directory() => Some(known),
                _ => {
                    self.compare_name(mount, directory.id, name.as_bytes().to_vec(), &mut Changes::applied()).await?;
                    self.name(directory.id, name.as_bytes()).await?.1
                }
            };
            match child {
                Some(child) if is_last => {
                    let key = child.inode.store_key.clone();
                    return Ok(Place { directory, child: Some(child), key });
                }
                Some(child) if child.inode.is_directory() => directory = child,
                Some(_) => {
                    let message = format!("{text}: \"{name}\" on the way is a file");
                    return Err(KindError::new(ErrorKind::NotADirectory, message));
                }
                None => {
                    let rest = names[index..].join("/");
                    let key = directory.inode.child_key(rest.as_bytes()).ok_or_else(gone)?;
                    return Ok(Place { directory, child: None, key });
                }
            }
        }
        Err(gone())
    }
}

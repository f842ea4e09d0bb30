//! Opening for reading: the live version, checked for freshness, as a signed ticket. Runs on the serving runtime.

use super::{Found, Tree};
use forebay_base::{ErrorKind, FileId, KindError, limits, unix_now_ms};
use forebay_net::message::namespace::{Attr, OpenResult};
use forebay_net::ticket::{self, Ticket};
use std::sync::Arc;

impl Tree {
    /// Tickets for many files.
    pub(crate) async fn open_read(self: &Arc<Self>, files: &[(u64, u64)]) -> Result<Vec<OpenResult>, KindError> {
        let ids: Vec<FileId> = files.iter().map(|(id, _)| FileId(*id)).collect();
        let feed_position = self.feed.position();
        let current = self.current_many(&ids).await?;
        let granted = current.into_iter().zip(files).map(|(result, (_, version))| {
            result.and_then(|(found, valid)| Ok((found.attr(valid), self.ticket(&found, *version, feed_position)?)))
        });
        Ok(self.signed(granted.collect()).into_iter().map(open_result).collect())
    }

    /// Signs what was granted, all with one signature.
    pub(super) fn signed<T>(
        &self,
        granted: Vec<Result<(T, Ticket), KindError>>,
    ) -> Vec<Result<(T, Vec<u8>), KindError>> {
        let mut tickets = Vec::with_capacity(granted.len());
        let split = granted.into_iter().map(|result| {
            result.map(|(with, ticket)| {
                tickets.push(ticket);
                with
            })
        });
        let split: Vec<Result<T, KindError>> = split.collect();
        self.metrics.here().tickets.add(tickets.len() as u64);
        let mut signed = ticket::sign(&tickets, &self.ticket_key).into_iter();
        let join = |result: Result<T, KindError>| Ok((result?, signed.next().unwrap_or_default()));
        split.into_iter().map(join).collect()
    }

    pub(super) fn ticket(&self, found: &Found, version: u64, position: u64) -> Result<Ticket, KindError> {
        if found.inode.is_directory() {
            return Err(KindError::new(ErrorKind::IsADirectory, format!("file {} is a directory", found.id)));
        }
        if version != 0 && version != found.inode.version {
            let message = format!("file {}: version {version} was replaced by {}", found.id, found.inode.version);
            return Err(KindError::new(ErrorKind::Stale, message));
        }
        if found.inode.size > limits::FILE_BYTES_MAX {
            let message = format!("file {}: {} bytes are more than Forebay serves", found.id, found.inode.size);
            return Err(KindError::new(ErrorKind::Unsupported, message));
        }
        Ok(Ticket {
            file_id: found.id.0,
            version: found.inode.version,
            mount_id: found.inode.mount_id,
            page_bytes: limits::PAGE_BYTES,
            block_bytes: limits::BLOCK_BYTES,
            size: found.inode.size,
            store_key: found.inode.store_key.clone(),
            fingerprint: found.inode.fingerprint.clone(),
            feed_position: position,
            store_away: self.mounts.get(found.inode.mount_id).is_some_and(|mount| mount.in_trouble()),
            expires_unix_ms: unix_now_ms() + limits::TICKET_LIFE_MS,
        })
    }
}

fn open_result(granted: Result<(Attr, Vec<u8>), KindError>) -> OpenResult {
    match granted {
        Ok((attr, ticket)) => OpenResult {
            status: 0,
            message: String::new(),
            attr: Some(attr),
            ticket,
            ticket_life_ms: limits::TICKET_LIFE_MS,
        },
        Err(error) => OpenResult {
            status: error.kind.code(),
            message: error.message,
            attr: None,
            ticket: Vec::new(),
            ticket_life_ms: 0,
        },
    }
}

//! What a job asks of the tree: names in pages, listings that are waited for as long as they take, and tickets without
//! a look at the store for each file. Runs on the serving runtime.
//!
//! A job lists each directory once. What changes behind it is noticed by the worker, whose read is conditional; the
//! job then looks again.

use super::{Found, Tree, live, not_found, shown};
use crate::flights::FlightKey;
use crate::namespace::Partition;
use forebay_base::{ErrorKind, FileId, KindError};
use forebay_net::message::namespace::{Attr, KIND_DIRECTORY};
use std::sync::Arc;
use std::time::Instant;

/// A name, and what a job needs of what it leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Named {
    pub(crate) name: Vec<u8>,
    pub(crate) id: FileId,
    pub(crate) is_directory: bool,
    pub(crate) size: u64,
    pub(crate) version: u64,
}

impl Tree {
    /// Waits until all names of a directory are known: as its mount's freshness wants it, or from a listing that began
    /// after `since`. A listing may take long; the store's own deadlines end it.
    pub(crate) async fn list_for_job(self: &Arc<Self>, id: FileId, since: Instant) -> Result<(), KindError> {
        let found = self.directory(id).await?;
        if found.inode.mount_id == 0 {
            return Ok(());
        }
        let mount = self.mount_of(&found)?;
        let listed = self.freshness.listed(id);
        if listed.is_some_and(|at| at >= since)
            || mount.bound.valid_ms(listed, found.inode.listed, Instant::now()).is_some()
        {
            return Ok(());
        }
        mount.may_ask()?;
        let (tree, at) = (Arc::clone(self), Arc::clone(&mount));
        let flight = self.flights.join(FlightKey::Listing(id), move |steps| tree.sync_listing(at, id, steps));
        flight.landed().await.map(drop)
    }

    /// A path as it is known; no store is asked.
    pub(crate) async fn known_for_job(&self, path: &[u8]) -> Result<Attr, KindError> {
        let absent = || not_found(&format!("{}: it does not exist", shown(path)));
        let mut found = self.inode(FileId::ROOT).await?.ok_or_else(absent)?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            found = self.name(found.id, name).await?.1.ok_or_else(absent)?;
        }
        if found.inode.mount_id != 0 {
            self.mount_of(&found)?;
        }
        Ok(found.attr(0))
    }

    /// Names of a directory behind `after`, as they are known, and whether these were the last.
    pub(crate) async fn names_for_job(
        &self,
        directory: FileId,
        after: &[u8],
        names_max: usize,
    ) -> Result<(Vec<Named>, bool), KindError> {
        let after = after.to_vec();
        let look = move |partition: &Partition| {
            live(partition, directory)?;
            let mut looked = 0;
            let names = partition.entries_after(directory, &after).take(names_max).inspect(|_| looked += 1);
            let names: Vec<Named> = names
                .filter_map(|(name, entry)| {
                    let is_directory = entry.kind == KIND_DIRECTORY;
                    let (size, version) = match is_directory {
                        true => (0, 0),
                        false => partition.inode(entry.file_id).map(|inode| (inode.size, inode.version))?,
                    };
                    Some(Named { name: name.to_vec(), id: entry.file_id, is_directory, size, version })
                })
                .collect();
            Some((names, looked < names_max))
        };
        let found = self.cores.read(directory.partition(), look).await?;
        found.ok_or_else(|| {
            KindError::new(ErrorKind::NotFound, format!("directory {directory} does not exist any more"))
        })
    }

    /// Tickets for files as they are known: (size, ticket) of each.
    pub(crate) async fn tickets_for_job(
        &self,
        ids: &[FileId],
    ) -> Result<Vec<Result<(u64, Vec<u8>), KindError>>, KindError> {
        let position = self.feed.position();
        let found = self.inodes(ids).await?;
        let ticket = |found: Option<Found>| {
            let found = found.ok_or_else(|| KindError::new(ErrorKind::Stale, "it does not exist any more"))?;
            Ok((found.inode.size, self.ticket(&found, 0, position)?))
        };
        Ok(self.signed(found.into_iter().map(ticket).collect()))
    }

    /// A file after a look at its store that begins now.
    pub(crate) async fn recheck_for_job(self: &Arc<Self>, id: FileId) -> Result<Attr, KindError> {
        let attr = self.recheck(&[id]).await?.into_iter().next();
        attr.unwrap_or_else(|| Err(KindError::new(ErrorKind::Internal, "no answer for a file")))
    }
}

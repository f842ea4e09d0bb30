//! Removes detached subtrees in the background, a bounded part at a time. What is left after a crash is in the state.

use super::Tree;
use crate::namespace::{Command, Outcome, Partition, Reap, Removal};
use forebay_base::{FileId, KindError};
use std::sync::Arc;

/// Most names in one command.
const NAMES_MAX: usize = 500;

impl Tree {
    /// Removes all that is detached now. Answers how many names went.
    pub(crate) async fn reap(self: &Arc<Self>) -> Result<u64, KindError> {
        let mut names = 0;
        loop {
            let orphans = self.cores.read_all(|partition| partition.orphans().collect::<Vec<_>>()).await?;
            let orphans: Vec<FileId> = orphans.into_iter().flatten().collect();
            if orphans.is_empty() {
                return Ok(names);
            }
            for directory in orphans {
                names += self.reap_directory(directory).await?;
            }
        }
    }

    async fn reap_directory(&self, directory: FileId) -> Result<u64, KindError> {
        let mut names = 0;
        loop {
            let look = move |partition: &Partition| {
                let mount_id = partition.inode(directory).map(|inode| inode.mount_id);
                let children = partition.entries_after(directory, &[]).take(NAMES_MAX);
                let children = children.map(|(name, entry)| Removal {
                    parent: directory.0,
                    name: name.to_vec(),
                    expected: entry.file_id.0,
                });
                (mount_id, children.collect::<Vec<_>>())
            };
            let (mount_id, children) = self.cores.read(directory.partition(), look).await?;
            let Some(mount_id) = mount_id else { return Ok(names) };
            let count = children.len() as u64;
            let tell = self.mounts.get(mount_id).is_some();
            let part = Reap { directory: directory.0, children, tell };
            match self.journal.propose(Command::Reap(part)).await? {
                Outcome::Done { .. } => names += count,
                _ => return Ok(names),
            }
        }
    }
}

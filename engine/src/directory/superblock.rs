//! Taking a shard's directory: the lock, and the superblock that says whose it is.
//!
//! Invariant: nothing is removed unless the superblock proves that it is this cluster's cache.

use super::Directory;
use crate::disk::Disk;
use crate::format::{FORMAT, Superblock};
use crate::{EngineError, StoreConfig};
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
pub(crate) const SUPERBLOCK: &str = "superblock";

fn io_error(path: &Path, verb: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Io { path, verb, source }
}

impl Directory {
    /// Where a shard's files are.
    pub(crate) fn shard_path(base: &Path, shard: u16) -> PathBuf {
        base.join(format!("shard-{shard}"))
    }

    /// Locks the directory and makes sure that its superblock is ours. A directory for another number of shards or
    /// another page size is emptied: it is only cache.
    pub(crate) fn take(disk: &dyn Disk, path: &Path, config: &StoreConfig) -> Result<Box<dyn Any>, EngineError> {
        disk.create_dir(path).map_err(io_error(path, "make the directory"))?;
        let lock = disk.lock(&path.join(LOCK)).map_err(io_error(path, "lock the directory"))?;
        let Some(lock) = lock else { return Err(EngineError::Locked { path: path.to_owned() }) };
        let place = path.join(SUPERBLOCK);
        let found = disk.read_whole(&place).map_err(io_error(&place, "read"))?;
        let ours = Superblock {
            format: FORMAT,
            page_bytes: config.page_bytes,
            cluster_id: config.cluster_id,
            shard: config.shard,
            shards: config.shards,
        };
        match found {
            None => {
                let files = disk.list(path).map_err(io_error(path, "list"))?;
                let strange = files.iter().find(|file| file.name != LOCK && file.name != "superblock.new");
                if let Some(strange) = strange {
                    let what = format!("holds {:?} but no superblock", strange.name);
                    return Err(EngineError::NotOurs { path: path.to_owned(), what });
                }
            }
            Some(bytes) => {
                let Some(found) = Superblock::decode(&bytes) else {
                    let what = "its superblock is damaged".to_owned();
                    return Err(EngineError::NotOurs { path: path.to_owned(), what });
                };
                if found.is_newer() {
                    let path = path.to_owned();
                    return Err(EngineError::NewerFormat { path, found: found.format, known: FORMAT });
                }
                if found.cluster_id != ours.cluster_id {
                    let (path, found, want) = (path.to_owned(), found.cluster_id, ours.cluster_id);
                    return Err(EngineError::ForeignCluster { path, found, want });
                }
                if found == ours {
                    return Ok(lock);
                }
                tracing::warn!(
                    directory = %path.display(),
                    "emptied: made for shard {} of {} with pages of {} bytes, now shard {} of {} with pages of {} bytes",
                    found.shard, found.shards, found.page_bytes, ours.shard, ours.shards, ours.page_bytes,
                );
                // The superblock stays until the rest is gone, so that an interrupted wipe is continued.
                let kept = [LOCK, SUPERBLOCK];
                disk.wipe(path, &kept).map_err(io_error(path, "empty the directory"))?;
            }
        }
        disk.write_whole(&place, &ours.encode()).map_err(io_error(&place, "write"))?;
        Ok(lock)
    }

    /// Removes directories of shards that this worker no longer has, if they are ours and nobody uses them.
    pub(crate) fn remove_surplus(disk: &dyn Disk, base: &Path, config: &StoreConfig) {
        for shard in config.shards.. {
            let path = Self::shard_path(base, shard);
            let Ok(Some(bytes)) = disk.read_whole(&path.join(SUPERBLOCK)) else { return };
            let ours = Superblock::decode(&bytes)
                .is_some_and(|found| found.cluster_id == config.cluster_id && !found.is_newer());
            let Ok(Some(_lock)) = disk.lock(&path.join(LOCK)) else { return };
            if !ours {
                return;
            }
            tracing::warn!(directory = %path.display(), "removed: this worker has {} shards now", config.shards);
            if let Err(error) = disk.wipe(&path, &[]) {
                tracing::warn!(directory = %path.display(), "cannot remove it: {error}");
                return;
            }
        }
    }
}

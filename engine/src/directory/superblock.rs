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

pub(super) const LOCK: &str = "lock";
pub(crate) const SUPERBLOCK: &str = "superblock";

pub(super) fn io_error(path: &Path, verb: &'static str) -> impl FnOnce(io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Io { path, verb, source }
}

/// A directory that is ours to use.
pub(crate) struct Taken {
    pub(crate) lock: Box<dyn Any>,
    /// It was made for another number of shards: what does not belong to this shard any more is to go, then the
    /// superblock is to be written.
    pub(crate) resharded: bool,
}

impl Directory {
    /// Where a shard's files are.
    pub(crate) fn shard_path(base: &Path, shard: u16) -> PathBuf {
        base.join(format!("shard-{shard}"))
    }

    fn superblock(config: &StoreConfig) -> Superblock {
        Superblock {
            format: FORMAT,
            page_bytes: config.page_bytes,
            cluster_id: config.cluster_id,
            shard: config.shard,
            shards: config.shards,
            incarnation: config.incarnation,
        }
    }

    /// Locks the directory and makes sure that its superblock is ours. A directory for another page size is emptied: it
    /// is only cache.
    pub(crate) fn take(disk: &dyn Disk, path: &Path, config: &StoreConfig) -> Result<Taken, EngineError> {
        disk.create_dir(path).map_err(io_error(path, "make the directory"))?;
        let lock = disk.lock(&path.join(LOCK)).map_err(io_error(path, "lock the directory"))?;
        let Some(lock) = lock else { return Err(EngineError::Locked { path: path.to_owned() }) };
        let place = path.join(SUPERBLOCK);
        let found = disk.read_whole(&place).map_err(io_error(&place, "read"))?;
        let ours = Self::superblock(config);
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
                if found.incarnation > ours.incarnation {
                    let (path, found, want) = (path.to_owned(), found.incarnation, ours.incarnation);
                    return Err(EngineError::LaterIncarnation { path, found, want });
                }
                if found == ours {
                    return Ok(Taken { lock, resharded: false });
                }
                if found.page_bytes == ours.page_bytes && found.shard == ours.shard {
                    if found.shards != ours.shards {
                        tracing::warn!(
                            directory = %path.display(),
                            "made for {} shards, there are {} now: what belongs to others is dropped",
                            found.shards, ours.shards,
                        );
                        return Ok(Taken { lock, resharded: true });
                    }
                } else {
                    tracing::warn!(
                        directory = %path.display(),
                        "emptied: made for shard {} with pages of {} bytes, now shard {} with pages of {} bytes",
                        found.shard, found.page_bytes, ours.shard, ours.page_bytes,
                    );
                    // The superblock stays until the rest is gone, so that an interrupted wipe is continued.
                    let kept = [LOCK, SUPERBLOCK];
                    disk.wipe(path, &kept).map_err(io_error(path, "empty the directory"))?;
                }
            }
        }
        disk.write_whole(&place, &ours.encode()).map_err(io_error(&place, "write"))?;
        Ok(Taken { lock, resharded: false })
    }

    /// Nothing of other shards is in it any more.
    pub(crate) fn confirm(&self, config: &StoreConfig) {
        let place = self.path.join(SUPERBLOCK);
        match self.disk.write_whole(&place, &Self::superblock(config).encode()) {
            Ok(()) => self.resharded.set(false),
            // The next start finds the old one, and looks through the directory again.
            Err(error) => self.set_trouble(format!("cannot write its superblock: {error}")),
        }
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

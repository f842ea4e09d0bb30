//! Emptying a cache directory because the operator says so, whoever's cache it is. Not for a directory in use.
//!
//! Invariants: nothing is removed before every shard of the directory is locked and holds only what Forebay makes; a
//! shard's superblock goes last, so that an interrupted wipe is known for what it is.

use super::superblock::{LOCK, SUPERBLOCK, io_error};
use crate::EngineError;
use crate::disk::{Depth, Disk, GlommioDisk};
use std::path::{Path, PathBuf};

/// What a shard's directory may hold.
const NAMES: [&str; 10] =
    [LOCK, SUPERBLOCK, "superblock.new", "clean", "clean.new", "headers", "rows", "small", "files", "slabs"];

fn names(path: &Path) -> Result<Vec<String>, EngineError> {
    let entries = std::fs::read_dir(path).map_err(io_error(path, "list"))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(io_error(path, "list"))
    };
    entries.map(name).collect()
}

/// The shards' directories below one of a tier.
fn shards(base: &Path) -> Result<Vec<PathBuf>, EngineError> {
    let is_shard = |name: &String| {
        name.strip_prefix("shard-").is_some_and(|number| number.parse::<u16>().is_ok_and(|n| n.to_string() == number))
    };
    Ok(names(base)?.into_iter().filter(is_shard).map(|name| base.join(name)).collect())
}

/// Whether a directory of a tier holds the cache of at least one shard.
///
/// # Errors
/// If it cannot be looked at; one that is not there holds none.
pub fn holds_cache(base: &Path) -> std::io::Result<bool> {
    let entries = match std::fs::read_dir(base) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("shard-") && entry.path().join(SUPERBLOCK).try_exists()? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes the caches of all shards below a directory of a tier. Returns how many there were.
///
/// # Errors
/// If a worker uses it, or something in it is not Forebay's: then nothing is removed.
pub fn wipe_cache(base: &Path) -> Result<usize, EngineError> {
    let disk = GlommioDisk::before_probe(Depth { requests: 1, background: 1, bytes: 0 });
    let shards = shards(base)?;
    let mut locks = Vec::new();
    for path in &shards {
        if let Some(strange) = names(path)?.iter().find(|name| !NAMES.contains(&name.as_str())) {
            let what = format!("holds {strange:?}, which is not Forebay's");
            return Err(EngineError::NotOurs { path: path.clone(), what });
        }
        let lock = disk.lock(&path.join(LOCK)).map_err(io_error(path, "lock the directory"))?;
        locks.push(lock.ok_or_else(|| EngineError::Locked { path: path.clone() })?);
    }
    for path in &shards {
        disk.wipe(path, &[LOCK, SUPERBLOCK]).map_err(io_error(path, "empty the directory"))?;
        disk.wipe(path, &[LOCK]).map_err(io_error(path, "empty the directory"))?;
        std::fs::remove_file(path.join(LOCK)).map_err(io_error(path, "remove"))?;
        std::fs::remove_dir(path).map_err(io_error(path, "remove"))?;
    }
    if let Ok(directory) = std::fs::File::open(base) {
        directory.sync_all().map_err(io_error(base, "sync"))?;
    }
    Ok(shards.len())
}

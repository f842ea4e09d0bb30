//! The directories of the disk tiers: which of them are used at this start. Used by the control thread.
//!
//! `worker.dir/directories` remembers each directory that was used with the identity of its file system, so that a disk
//! that is not mounted is not taken for an empty directory and filled on the file system below.
//!
//! Invariants: a directory that was used before never keeps the worker from starting: it is used, or left out with its
//! reason; one that was never used has to be usable, for then a setting is wrong.

use crate::error::WorkerError;
use crate::home::{self, Home, usable};
use forebay_base::ByteSize;
use forebay_base::settings::Settings;
use forebay_engine::{Tier, holds_cache};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE: &str = "directories";
/// Longest list that is read.
const LIST_BYTES_MAX: u64 = 1 << 20;
/// Directories remembered; those that are not listed any more go first.
const KNOWN_MAX: usize = 1024;

/// One directory of a disk tier, as it is used at this start.
#[derive(Clone, Debug)]
pub(crate) struct TierDirectory {
    pub(crate) tier: Tier,
    pub(crate) path: PathBuf,
    /// All cores together.
    pub(crate) capacity: ByteSize,
    /// Why it is not used, if so.
    pub(crate) out_of_use: Option<String>,
}

/// Directories used before, with their file systems.
type Known = BTreeMap<String, u64>;

/// The identity of the file system that a path lies on, or would.
fn file_system(path: &Path) -> Option<u64> {
    path.ancestors().find_map(|place| rustix::fs::statvfs(place).ok()).map(|found| found.f_fsid)
}

fn parse(text: &str) -> Known {
    let entry = |line: &str| {
        let (id, path) = line.split_once(' ')?;
        Some((path.to_string(), u64::from_str_radix(id, 16).ok()?))
    };
    text.lines().filter_map(entry).collect()
}

fn print(known: &Known) -> String {
    known.iter().map(|(path, id)| format!("{id:016x} {path}\n")).collect()
}

fn known(home: &Home) -> Result<Known, WorkerError> {
    let text = home::read_text(&home.path.join(FILE), LIST_BYTES_MAX);
    // A list that cannot be read costs a question that is not asked.
    Ok(parse(&text.map_err(|error| home::directory_error("worker.dir", &home.path, &error))?.unwrap_or_default()))
}

fn name_of(path: &Path) -> Option<String> {
    path.to_str().filter(|name| !name.contains('\n')).map(str::to_string)
}

/// Decides about every directory of the configuration.
pub(crate) fn choose(settings: &Settings, home: &Home) -> Result<Vec<TierDirectory>, WorkerError> {
    let known = known(home)?;
    let ssd = settings.worker.ssd.len();
    let mut chosen = Vec::new();
    for (index, (name, dir)) in settings.worker.tier_dirs().enumerate() {
        let tier = if index < ssd { Tier::Ssd } else { Tier::Hdd };
        let before = name_of(&dir.path).and_then(|path| known.get(&path).copied());
        let out_of_use = match before {
            None => usable(&name, &dir.path).map(|()| None)?,
            Some(before) => why_not(&name, &dir.path, before),
        };
        if let Some(why) = &out_of_use {
            tracing::error!(directory = %dir.path.display(), "left out: {why}");
        }
        chosen.push(TierDirectory { tier, path: dir.path.clone(), capacity: dir.capacity, out_of_use });
    }
    Ok(chosen)
}

/// Why a directory that was used before is not used now.
fn why_not(name: &str, path: &Path, before: u64) -> Option<String> {
    match holds_cache(path) {
        Err(error) => return Some(format!("cannot be looked at: {error}")),
        Ok(false) if file_system(path) != Some(before) => {
            return Some(format!(
                "holds no cache any more and lies on another file system than before: is its disk mounted? Mount it and \
                 restart, or let it begin empty: forebay worker --wipe-cache {}",
                path.display()
            ));
        }
        Ok(false) => tracing::warn!(directory = %path.display(), "holds no cache any more; it begins empty"),
        Ok(true) => {}
    }
    usable(name, path).err().map(|error| error.to_string())
}

/// Notes the directories that are used, durably.
pub(crate) fn remember(directories: &[TierDirectory], home: &Home) -> Result<(), WorkerError> {
    let before = known(home)?;
    let mut after = before.clone();
    for directory in directories.iter().filter(|directory| directory.out_of_use.is_none()) {
        if let (Some(path), Some(id)) = (name_of(&directory.path), file_system(&directory.path)) {
            after.insert(path, id);
        }
    }
    if after.len() > KNOWN_MAX {
        after.retain(|path, _| directories.iter().any(|directory| directory.path == Path::new(path)));
    }
    if after == before {
        return Ok(());
    }
    write(home, &after)
}

fn write(home: &Home, known: &Known) -> Result<(), WorkerError> {
    home::write_text(&home.path, FILE, &print(known))
        .map_err(|error| home::directory_error("worker.dir", &home.path, &error))
}

/// Forgets that a directory was used: the next start takes it as it finds it.
pub(crate) fn forget(path: &Path, home: &Home) -> Result<(), WorkerError> {
    let mut known = known(home)?;
    match name_of(path).and_then(|path| known.remove(&path)) {
        Some(_) => write(home, &known),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_is_remembered_and_a_missing_disk_is_left_out() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = Home::open(&dir.path().join("worker")).expect("it is new");
        let cache = dir.path().join("cache with space");
        let directory = TierDirectory { tier: Tier::Hdd, path: cache.clone(), capacity: ByteSize(1), out_of_use: None };
        assert!(known(&home).expect("readable").is_empty());
        usable("worker.hdd[0]", &cache).expect("it can be made");
        remember(std::slice::from_ref(&directory), &home).expect("writable");
        let id = file_system(&cache).expect("it is somewhere");
        assert_eq!(known(&home).expect("readable"), Known::from([(cache.display().to_string(), id)]));
        // Removed by hand: nothing is missing but the cache.
        std::fs::remove_dir(&cache).expect("it is empty");
        assert_eq!(why_not("worker.hdd[0]", &cache, id), None);
        // Another file system, and nothing of ours on it: as when a disk is not mounted.
        let why = why_not("worker.hdd[0]", &cache, id ^ 1).expect("it is left out");
        assert!(why.contains("is its disk mounted?") && why.contains("--wipe-cache") && !why.contains('\n'), "{why}");
        // It was copied to a larger disk.
        std::fs::create_dir_all(cache.join("shard-0")).expect("writable");
        std::fs::write(cache.join("shard-0/superblock"), "x").expect("writable");
        assert_eq!(why_not("worker.hdd[0]", &cache, id ^ 1), None);
        // One that cannot be used any more is left out, not fatal.
        std::fs::remove_dir_all(&cache).expect("ours");
        std::fs::write(&cache, "a file").expect("writable");
        assert!(why_not("worker.hdd[0]", &cache, id).expect("it is left out").contains("cannot be looked at"));
        forget(&cache, &home).expect("writable");
        assert!(known(&home).expect("readable").is_empty());
        assert_eq!(parse("nonsense\nzz /a\n"), Known::new());
    }
}

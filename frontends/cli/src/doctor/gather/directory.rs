//! One directory of a role: owner, space, whether it can be written, whether direct I/O works there, how fast it is.
//!
//! Invariant: the probe file is removed, whatever happens, and no other file is touched.

use crate::doctor::facts::{DirectoryState, Speed};
use forebay_base::UNIT_BYTES;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SPEED_BYTES: u64 = 128 * MIB;
/// A slow disk is measured on less.
const SPEED_TIME_MAX: Duration = Duration::from_secs(5);
const SMALL_READS: u64 = 400;
const SMALL_TIME_MAX: Duration = Duration::from_secs(2);
/// Beyond this many entries nobody waits for the sum.
const COUNTED_MAX: usize = 200_000;
const TMPFS_MAGIC: i64 = 0x0102_1994;
const RAMFS_MAGIC: i64 = 0x8584_58f6;

/// Looks at `path`, or at the nearest directory above it that exists.
pub(crate) fn look(path: &Path, capacity: Option<u64>, speed: bool) -> Result<DirectoryState, String> {
    let exists = path.symlink_metadata().is_ok();
    let place = path.ancestors().find(|place| place.symlink_metadata().is_ok()).unwrap_or(path);
    let meta = place.metadata().map_err(|error| error.to_string())?;
    if !meta.is_dir() {
        return Err(format!("{} is no directory", place.display()));
    }
    let space = rustix::fs::statvfs(place).map_err(|error| error.to_string())?;
    let magic = rustix::fs::statfs(place).map_err(|error| error.to_string())?.f_type;
    let free_bytes = space.f_bavail.saturating_mul(space.f_frsize);
    let writable = Probe::new(place).and_then(|probe| probe.write_small()).map_err(|error| error.to_string());
    let tier = capacity.is_some() && writable.is_ok();
    let direct = tier.then(|| direct(place).map_err(|error| error.to_string()));
    let speed = (tier && speed).then(|| {
        let is_direct = matches!(direct, Some(Ok(())));
        if free_bytes < 2 * SPEED_BYTES {
            return Err(format!("{} MiB free, a measurement needs {}", free_bytes / MIB, 2 * SPEED_BYTES / MIB));
        }
        measure(place, is_direct).map_err(|error| error.to_string())
    });
    Ok(DirectoryState {
        exists,
        uid: meta.uid(),
        mode: meta.permissions().mode() & 0o7777,
        device: meta.dev(),
        free_bytes,
        used_bytes: if exists { used_bytes(path) } else { Some(0) },
        in_memory: [TMPFS_MAGIC, RAMFS_MAGIC].contains(&magic),
        writable,
        direct,
        speed,
    })
}

/// A file of its own in a directory, removed at the end.
struct Probe {
    path: PathBuf,
}

impl Probe {
    fn new(place: &Path) -> io::Result<Probe> {
        Ok(Probe { path: place.join(format!(".forebay-doctor-{}", std::process::id())) })
    }

    fn open(&self, direct: bool) -> io::Result<File> {
        let mut flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        if direct {
            flags |= OFlags::DIRECT;
        }
        Ok(File::from(rustix::fs::open(&self.path, flags, Mode::RUSR | Mode::WUSR)?))
    }

    fn write_small(&self) -> io::Result<()> {
        let file = self.open(false)?;
        file.write_all_at(&[7; UNIT_BYTES], 0)?;
        file.sync_data()
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // It may never have been made.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Memory that direct I/O takes.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    fn new(length: usize, value: u8) -> Self {
        let bytes = vec![value; length + UNIT_BYTES];
        let start = bytes.as_ptr().align_offset(UNIT_BYTES);
        Self { bytes, start, length }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.length]
    }

    fn get_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.length]
    }
}

fn direct(place: &Path) -> io::Result<()> {
    let probe = Probe::new(place)?;
    let file = probe.open(true)?;
    let written = Aligned::new(UNIT_BYTES, 0x5a);
    file.write_all_at(written.get(), 0)?;
    let mut read = Aligned::new(UNIT_BYTES, 0);
    file.read_exact_at(read.get_mut(), 0)?;
    if read.get() == written.get() { Ok(()) } else { Err(io::Error::other("other bytes came back than were written")) }
}

fn measure(place: &Path, direct: bool) -> io::Result<Speed> {
    let probe = Probe::new(place)?;
    let file = probe.open(direct)?;
    let mut piece = Aligned::new(MIB as usize, 0x5a);
    let start = Instant::now();
    let mut bytes = 0;
    while bytes < SPEED_BYTES && start.elapsed() < SPEED_TIME_MAX {
        // No two pieces alike, for devices that notice.
        piece.get_mut()[..8].copy_from_slice(&(bytes ^ 0x9e37_79b9_7f4a_7c15).to_le_bytes());
        file.write_all_at(piece.get(), bytes)?;
        bytes += MIB;
    }
    file.sync_data()?;
    let write_mb_per_s = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    if !direct {
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
    }
    let start = Instant::now();
    let mut read = 0;
    while read < bytes && start.elapsed() < SPEED_TIME_MAX {
        file.read_exact_at(piece.get_mut(), read)?;
        read += MIB;
    }
    let read_mb_per_s = read as f64 / 1e6 / start.elapsed().as_secs_f64();
    let mut unit = Aligned::new(UNIT_BYTES, 0);
    let mut times = Vec::new();
    let (start, units) = (Instant::now(), bytes / UNIT_BYTES as u64);
    let mut place = 1u64;
    for _ in 0..SMALL_READS {
        place = place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let one = Instant::now();
        file.read_exact_at(unit.get_mut(), (place >> 33) % units * UNIT_BYTES as u64)?;
        times.push(one.elapsed());
        if start.elapsed() > SMALL_TIME_MAX {
            break;
        }
    }
    times.sort_unstable();
    let read_4k_us = times[times.len() / 2].as_secs_f64() * 1e6;
    Ok(Speed { bytes, write_mb_per_s, read_mb_per_s, read_4k_us })
}

/// What the files below take on disk.
fn used_bytes(path: &Path) -> Option<u64> {
    let (mut sum, mut counted, mut folders) = (0, 0, vec![path.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).ok()?.flatten() {
            counted += 1;
            if counted > COUNTED_MAX {
                return None;
            }
            // An evicted file is gone between listing and looking.
            let Ok(meta) = entry.metadata() else { continue };
            if meta.is_dir() {
                folders.push(entry.path());
            } else {
                sum += meta.blocks() * 512;
            }
        }
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_is_looked_at_and_left_as_it_was() {
        let temp = tempfile::tempdir().expect("a directory");
        std::fs::write(temp.path().join("x"), vec![1; 10_000]).expect("written");
        let state = look(temp.path(), Some(1 << 30), true).expect("it is there");
        assert!(state.exists && state.writable.is_ok() && state.used_bytes.is_some_and(|bytes| bytes >= 8192));
        assert!(matches!(state.speed, Some(Ok(speed)) if speed.read_4k_us > 0.0), "{state:?}");
        let deeper = look(&temp.path().join("not/yet"), None, false).expect("looked at above it");
        assert!(!deeper.exists && deeper.writable.is_ok() && deeper.direct.is_none());
        assert!(look(&temp.path().join("x"), None, false).is_err());
        let left: Vec<_> = std::fs::read_dir(temp.path()).expect("there").flatten().map(|e| e.file_name()).collect();
        assert_eq!(left, ["x"]);
    }
}

//! Writing and removing files. Blocking. A file appears whole, under its final name, or not at all.

use super::beneath::{Root, failure_of, open_beneath};
use crate::{failure::Failure, key::last_name};
use forebay_base::ErrorKind;
use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fchmod, fstat, fsync, linkat, mkdirat, openat, renameat,
        renameat_with, statat, unlinkat,
    },
    io::Errno,
};
use std::sync::OnceLock;

const TEMPORARY: &str = ".forebay-put-";

/// Names of files being written; one that a crash left behind stays unseen.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

pub(super) fn put(root: &Root, key: &str, bytes: &[u8], create_only: bool) -> Result<Stat, Failure> {
    let name = checked_name(key)?;
    let parent = make_parent(&root.open()?, key)?;
    let temporary = fresh_name()?;
    let file = create(&parent, &temporary)?;
    let written = set_new_mode(&file)
        .and_then(|()| write_all(&file, bytes))
        .and_then(|()| sync(&file))
        .and_then(|()| name_it(&parent, &temporary, &parent, name, create_only));
    if written.is_err() {
        // It is under its final name only if all went well.
        let _ = unlinkat(&parent, &temporary, AtFlags::empty());
    }
    written?;
    attributes_of(&file)
}

/// The last component of a key that a file may be written to.
pub(super) fn checked_name(key: &str) -> Result<&str, Failure> {
    let name = last_name(key);
    if is_temporary(name) {
        return Err(Failure::new(ErrorKind::Invalid, format!("names that begin with {TEMPORARY} are reserved")));
    }
    Ok(name)
}

/// A name for a file that is being written.
pub(super) fn fresh_name() -> Result<String, Failure> {
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))?;
    Ok(format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random)))
}

/// Makes a file that nobody else has, and nobody else reads until its mode is set.
pub(super) fn create(directory: &OwnedFd, name: &str) -> Result<OwnedFd, Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(directory, name, flags, Mode::from_raw_mode(0o600)).map_err(|errno| failure_of(errno, "creating the file"))
}

/// What any program's new file gets: readable by all, less the process's mask.
pub(super) fn set_new_mode(file: &OwnedFd) -> Result<(), Failure> {
    static MASK: OnceLock<u32> = OnceLock::new();
    let mask = *MASK.get_or_init(|| {
        // Asking with `umask` would change it for a moment.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
        line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o022)
    });
    fchmod(file, Mode::from_raw_mode(0o644 & !mask)).map_err(|errno| failure_of(errno, "setting its mode"))
}

pub(super) fn write_all(file: &OwnedFd, bytes: &[u8]) -> Result<(), Failure> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failure_of(errno, "writing")),
        }
    }
    Ok(())
}

/// The bytes, and what is needed to find them, are durable.
pub(super) fn sync(file: &OwnedFd) -> Result<(), Failure> {
    fsync(file).map_err(|errno| failure_of(errno, "syncing the file"))
}

pub(super) fn attributes_of(file: &OwnedFd) -> Result<Stat, Failure> {
    fstat(file).map_err(|errno| failure_of(errno, "asking for its attributes"))
}

/// Gives a synced file its final name, durably.
pub(super) fn name_it(
    from: &OwnedFd,
    temporary: &str,
    parent: &OwnedFd,
    name: &str,
    create_only: bool,
) -> Result<(), Failure> {
    let named = if create_only {
        match renameat_with(from, temporary, parent, name, RenameFlags::NOREPLACE) {
            // File systems without it (NFS) have hard links, which never replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => linkat(from, temporary, parent, name, AtFlags::empty())
                .and_then(|()| unlinkat(from, temporary, AtFlags::empty())),
            other => other,
        }
    } else {
        renameat(from, temporary, parent, name)
    };
    named.map_err(|errno| failure_of(errno, "naming the file"))?;
    fsync(parent).map_err(|errno| failure_of(errno, "syncing the directory"))
}

/// Removes a file that its writer left under a temporary name, if it is still there; whether it was. While its directory
/// cannot be opened that is not known: nothing may be mounted there yet.
pub(super) fn remove_temporary(root: &Root, key: &str) -> Result<bool, Failure> {
    if !is_temporary(last_name(key)) {
        return Err(Failure::new(ErrorKind::Invalid, format!("want a name that begins with {TEMPORARY}")));
    }
    let opened = root.open().and_then(|root| {
        open_beneath(&root, parent_of(key), OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|errno| failure_of(errno, "opening the directory"))
    });
    let parent = opened.map_err(|failure| match failure.kind {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            Failure::unavailable(format!("its directory cannot be opened: {}", failure.message))
        }
        _ => failure,
    })?;
    match unlinkat(&parent, last_name(key), AtFlags::empty()) {
        Ok(()) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(failure_of(errno, "removing the file")),
    }
    fsync(&parent).map_err(|errno| failure_of(errno, "syncing the directory"))?;
    Ok(true)
}

pub(super) fn delete(root: &Root, key: &str) -> Result<(), Failure> {
    let root = root.open()?;
    let parent = open_beneath(&root, parent_of(key), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|errno| failure_of(errno, "opening the directory"))?;
    let name = last_name(key);
    unlinkat(&parent, name, AtFlags::empty()).map_err(|errno| {
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => failure_of(Errno::ISDIR, ""),
            _ => failure_of(errno, "removing the file"),
        }
    })?;
    fsync(&parent).map_err(|errno| failure_of(errno, "syncing the directory"))
}

pub(super) fn parent_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Opens the directory of `key`, after creating what is missing on the way: object stores have no directories to make.
pub(super) fn make_parent(root: &OwnedFd, key: &str) -> Result<OwnedFd, Failure> {
    let parent = parent_of(key);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let failed = |errno| match errno {
        Errno::NOTDIR => Failure::new(ErrorKind::NotADirectory, "a part of its path is a file"),
        errno => failure_of(errno, "creating its directory"),
    };
    match open_beneath(root, parent, flags) {
        Err(Errno::NOENT) => {}
        other => return other.map_err(failed),
    }
    let mut directory = open_beneath(root, "", flags).map_err(failed)?;
    let mut ends = parent.match_indices('/').map(|(at, _)| at).collect::<Vec<_>>();
    ends.push(parent.len());
    for end in ends {
        let path = &parent[..end];
        match open_beneath(root, path, flags) {
            Ok(next) => directory = next,
            Err(Errno::NOENT) => {
                match mkdirat(&directory, last_name(path), Mode::from_raw_mode(0o755)) {
                    Ok(()) => fsync(&directory).map_err(failed)?,
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                directory = open_beneath(root, path, flags).map_err(failed)?;
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    Ok(directory)
}

//! Writing and removing files. Blocking. A file appears whole, under its final name, or not at all.

use super::beneath::{Root, failure_of, open_beneath};
use crate::{failure::Failure, key::last_name};
use forebay_base::ErrorKind;
use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fstat, fsync, linkat, mkdirat, openat, renameat,
        renameat_with, statat, unlinkat,
    },
    io::Errno,
};

const TEMPORARY: &str = ".forebay-put-";

/// Names of files being written; one that a crash left behind stays unseen.
pub(super) fn is_temporary(name: &str) -> bool {
    name.starts_with(TEMPORARY)
}

pub(super) fn put(root: &Root, key: &str, bytes: &[u8], create_only: bool) -> Result<Stat, Failure> {
    let name = last_name(key);
    if is_temporary(name) {
        return Err(Failure::new(ErrorKind::Invalid, format!("names that begin with {TEMPORARY} are reserved")));
    }
    let parent = make_parent(&root.open()?, key)?;
    let mut random = [0u8; 8];
    getrandom::fill(&mut random).map_err(|error| Failure::new(ErrorKind::Internal, error.to_string()))?;
    let temporary = format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random));
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(&parent, &temporary, flags, Mode::from_raw_mode(0o644))
        .map_err(|errno| failure_of(errno, "creating the file"))?;
    let written = write_and_name(&parent, &file, &temporary, name, bytes, create_only);
    if written.is_err() {
        // It is under its final name only if all went well.
        let _ = unlinkat(&parent, &temporary, AtFlags::empty());
    }
    written?;
    fsync(&parent).map_err(|errno| failure_of(errno, "syncing the directory"))?;
    fstat(&file).map_err(|errno| failure_of(errno, "asking for its attributes"))
}

fn write_and_name(
    parent: &OwnedFd,
    file: &OwnedFd,
    temporary: &str,
    name: &str,
    bytes: &[u8],
    create_only: bool,
) -> Result<(), Failure> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failure_of(errno, "writing")),
        }
    }
    fsync(file).map_err(|errno| failure_of(errno, "syncing the file"))?;
    let named = if create_only {
        match renameat_with(parent, temporary, parent, name, RenameFlags::NOREPLACE) {
            // File systems without it (NFS) have hard links, which never replace either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                linkat(parent, temporary, parent, name, AtFlags::empty())
                    .and_then(|()| unlinkat(parent, temporary, AtFlags::empty()))
            }
            other => other,
        }
    } else {
        renameat(parent, temporary, parent, name)
    };
    named.map_err(|errno| failure_of(errno, "naming the file"))
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

fn parent_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Opens the directory of `key`, after creating what is missing on the way: object stores have no directories to make.
fn make_parent(root: &OwnedFd, key: &str) -> Result<OwnedFd, Failure> {
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

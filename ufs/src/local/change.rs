//! Making and removing directories, and renaming. Blocking. Each is on the disk when it returns.

use super::{
    beneath::{Root, failure_of, meta_of, open_beneath},
    write::{checked_name, parent_of},
};
use crate::{
    failure::Failure,
    key::{is_below, last_name},
    under_store::ObjectMeta,
};
use forebay_base::ErrorKind;
use rustix::{
    fd::OwnedFd,
    fs::{
        AtFlags, FileType, Mode, OFlags, RenameFlags, Stat, fsync, linkat, mkdirat, renameat, renameat_with, statat,
        unlinkat,
    },
    io::Errno,
};

pub(super) fn make_directory(root: &Root, key: &str) -> Result<ObjectMeta, Failure> {
    let name = checked_name(key)?;
    let parent = parent(&root.open()?, key)?;
    mkdirat(&parent, name, Mode::from_raw_mode(0o777)).map_err(|errno| failure_of(errno, "making the directory"))?;
    synced(&parent)?;
    meta(name, &looked_at(&parent, name)?)
}

pub(super) fn remove_directory(root: &Root, key: &str) -> Result<(), Failure> {
    let parent = parent(&root.open()?, key)?;
    unlinkat(&parent, last_name(key), AtFlags::REMOVEDIR).map_err(|errno| match errno {
        Errno::NOTDIR => Failure::new(ErrorKind::NotADirectory, "it is not a directory"),
        Errno::EXIST => Failure::new(ErrorKind::NotEmpty, "the directory has entries"),
        errno => moved(errno, "removing the directory"),
    })?;
    synced(&parent)
}

pub(super) fn rename(root: &Root, from: &str, to: &str, replace: bool) -> Result<ObjectMeta, Failure> {
    let (old, new) = (checked_name(from)?, checked_name(to)?);
    if is_below(to, from) {
        return Err(Failure::new(ErrorKind::Invalid, "a directory cannot be moved into itself"));
    }
    meta(old, &root.stat(from)?)?;
    let opened = root.open()?;
    let (old_parent, new_parent) = (parent(&opened, from)?, parent(&opened, to)?);
    let renamed = match replace {
        true => renameat(&old_parent, old, &new_parent, new),
        false => rename_to_free(&old_parent, old, &new_parent, new),
    };
    renamed.map_err(|errno| match errno {
        Errno::EXIST if replace => Failure::new(ErrorKind::NotEmpty, "the directory has entries"),
        Errno::NOTDIR => Failure::new(ErrorKind::NotADirectory, "a directory replaces only a directory"),
        errno => moved(errno, "renaming"),
    })?;
    // The new name first: after a crash it may have both, never none.
    synced(&new_parent)?;
    synced(&old_parent)?;
    meta(new, &root.stat(to)?)
}

/// A rename that never replaces.
fn rename_to_free(old_parent: &OwnedFd, old: &str, new_parent: &OwnedFd, new: &str) -> Result<(), Errno> {
    match renameat_with(old_parent, old, new_parent, new, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        other => return other,
    }
    // File systems without it (NFS): a hard link never replaces either; directories have none, and are looked for just before.
    let stat = statat(old_parent, old, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        linkat(old_parent, old, new_parent, new, AtFlags::empty())?;
        return unlinkat(old_parent, old, AtFlags::empty());
    }
    match statat(new_parent, new, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => renameat(old_parent, old, new_parent, new),
        Ok(_) => Err(Errno::EXIST),
        Err(errno) => Err(errno),
    }
}

fn parent(root: &OwnedFd, key: &str) -> Result<OwnedFd, Failure> {
    open_beneath(root, parent_of(key), OFlags::RDONLY | OFlags::DIRECTORY).map_err(|errno| match errno {
        Errno::NOTDIR => Failure::new(ErrorKind::NotADirectory, "a part of its path is a file"),
        errno => failure_of(errno, "opening its directory"),
    })
}

fn synced(directory: &OwnedFd) -> Result<(), Failure> {
    fsync(directory).map_err(|errno| failure_of(errno, "syncing the directory"))
}

fn looked_at(parent: &OwnedFd, name: &str) -> Result<Stat, Failure> {
    statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| failure_of(errno, "asking for its attributes"))
}

fn meta(name: &str, stat: &Stat) -> Result<ObjectMeta, Failure> {
    meta_of(name, stat).ok_or_else(|| Failure::new(ErrorKind::NotFound, "neither a file nor a directory"))
}

/// What renames and removals of directories say beside what everything says.
fn moved(errno: Errno, doing: &str) -> Failure {
    match errno {
        Errno::NOTEMPTY => Failure::new(ErrorKind::NotEmpty, "the directory has entries"),
        Errno::BUSY => Failure::new(ErrorKind::Busy, "something is mounted there"),
        Errno::XDEV => Failure::new(ErrorKind::Unsupported, "the other directory is in another file system"),
        errno => failure_of(errno, doing),
    }
}

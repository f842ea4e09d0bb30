//! Listing a directory in the order of names. Blocking.
//!
//! Each page reads all names of the directory anew and keeps the first ones after the last page's last name: an order
//! by name is the only one that holds on every file system while entries come and go.

use super::{
    beneath::{Root, failure_of, meta_of, open_beneath},
    write::is_temporary,
};
use crate::{
    failure::Failure,
    key::is_name,
    under_store::{ListPage, ObjectMeta},
};
use forebay_base::ErrorKind;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, OFlags, fstat, statat},
    io::Errno,
};
use std::collections::BinaryHeap;

/// Names in a page: few pages for large directories, each well within a deadline.
const PAGE_ENTRIES: usize = 8192;

pub(super) fn list(root: &Root, key: &str, after: Option<&str>) -> Result<ListPage, Failure> {
    list_page(root, key, after, PAGE_ENTRIES)
}

fn list_page(root: &Root, key: &str, after: Option<&str>, page_entries: usize) -> Result<ListPage, Failure> {
    let root_fd = root.open()?;
    let directory = match open_beneath(&root_fd, key, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(fd) => fd,
        Err(Errno::NOTDIR) if open_beneath(&root_fd, key, OFlags::PATH).is_ok() => {
            return Err(Failure::new(ErrorKind::NotADirectory, "it is not a directory"));
        }
        Err(errno) => return Err(failure_of(errno, "opening the directory")),
    };
    let mut names: BinaryHeap<String> = BinaryHeap::with_capacity(64);
    let reader = Dir::read_from(&directory).map_err(|errno| failure_of(errno, "reading the directory"))?;
    for entry in reader {
        let entry = entry.map_err(|errno| failure_of(errno, "reading the directory"))?;
        let Ok(name) = entry.file_name().to_str() else {
            tracing::debug!(key, name = ?entry.file_name(), "a name that is not UTF-8 is left out");
            continue;
        };
        // One more than fits tells whether there is another page.
        let is_early = names.len() <= page_entries || names.peek().is_some_and(|last| name < last.as_str());
        if is_early && is_name(name) && !is_temporary(name) && after.is_none_or(|after| name > after) {
            names.push(name.to_string());
            if names.len() > page_entries + 1 {
                names.pop();
            }
        }
    }
    let mut names = names.into_sorted_vec();
    let is_last = names.len() <= page_entries;
    names.truncate(page_entries);
    let next = if is_last { None } else { names.last().cloned() };
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        entries.extend(child(&root_fd, &directory, key, &name)?);
    }
    Ok(ListPage { entries, next })
}

/// `None` for what is not there: gone meanwhile, a link that leads out, neither file nor directory.
fn child(root: &OwnedFd, directory: &OwnedFd, key: &str, name: &str) -> Result<Option<ObjectMeta>, Failure> {
    let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
            let path = if key.is_empty() { name.to_string() } else { format!("{key}/{name}") };
            open_beneath(root, &path, OFlags::PATH).and_then(|fd| fstat(&fd))
        }
        other => other,
    };
    match stat {
        Ok(stat) => Ok(meta_of(name, &stat)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::XDEV | Errno::LOOP | Errno::ACCESS) => {
            tracing::debug!(key, name, "a name that leads nowhere is left out");
            Ok(None)
        }
        Err(errno) => Err(failure_of(errno, &format!("asking for the attributes of \"{}\"", name.escape_debug()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_in_order_and_complete_while_entries_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        for index in 0..25 {
            std::fs::write(dir.path().join(format!("f{index:02}")), "x").unwrap();
        }
        let root = Root::new(dir.path().into());
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = list_page(&root, "", after.as_deref(), 10).unwrap();
            assert!(page.entries.len() <= 10);
            seen.extend(page.entries.into_iter().map(|meta| meta.name));
            std::fs::remove_file(dir.path().join(format!("f{:02}", seen.len() - 5))).unwrap();
            std::fs::write(dir.path().join(format!("a{}", seen.len())), "x").unwrap();
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..25).map(|index| format!("f{index:02}")).collect::<Vec<_>>());
        let exact = list_page(&root, "", Some("f14"), 9).unwrap();
        assert_eq!((exact.entries.len(), exact.next), (8, None));
    }
}

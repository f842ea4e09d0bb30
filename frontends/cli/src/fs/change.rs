//! `fs mkdir`, `rm`, `mv`, `touch` and `chmod`: changes of the namespace, which the stores have when the command ends.

use super::paths::{Named, absolute, exact, named};
use super::walk::{Met, Walk};
use crate::arguments::{Chmod, Mkdir, Mv, Rm, Touch};
use crate::failure::Failure;
use crate::output::printable;
use forebay_base::{ErrorKind, FileId, unix_now_ms};
use forebay_client::Client;
use forebay_client::message::change::{MakeDirectory, RENAME_NOREPLACE, Remove, Rename, SetAttr};
use forebay_client::message::namespace::KIND_DIRECTORY;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

/// A path that may not exist: its directory, which must, and its name.
struct Place {
    directory: Named,
    name: Vec<u8>,
    path: Vec<u8>,
}

async fn place(client: &Client, what: &str, argument: &OsStr) -> Result<Place, Failure> {
    let path = absolute(what, argument)?;
    let cut = path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
    let (above, name) = (&path[..cut.max(1)], &path[cut + 1..]);
    if name.is_empty() {
        return Err(Failure::usage(format!("{what}: {}: want a path below /", printable(path))));
    }
    let directory = exact(client, what, OsStr::from_bytes(above)).await?;
    Ok(Place { directory, name: name.to_vec(), path: path.to_vec() })
}

fn ids() -> (u32, u32) {
    (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
}

/// Makes directories.
pub(crate) async fn mkdir(client: &Client, arguments: Mkdir) -> Result<(), Failure> {
    const WHAT: &str = "fs mkdir";
    for path in &arguments.paths {
        let whole = absolute(WHAT, path)?;
        let ends = whole.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        let above: Vec<&[u8]> = ends.map(|at| &whole[..at]).collect();
        for missing in above.into_iter().filter(|_| arguments.parents).chain([whole]) {
            if missing.len() < whole.len() && client.resolve(missing).await.is_ok() {
                continue;
            }
            let place = place(client, WHAT, OsStr::from_bytes(missing)).await?;
            let (uid, gid) = ids();
            let parent = place.directory.attr.file_id;
            let made = client.master(&MakeDirectory { parent, name: place.name, mode: 0o755, uid, gid }).await;
            match made {
                Err(error) if error.kind == ErrorKind::Exists && arguments.parents => {
                    let there = exact(client, WHAT, OsStr::from_bytes(missing)).await?;
                    if !there.is_directory() {
                        return Err(Failure::of(WHAT, &there.shown(), &error));
                    }
                }
                Err(error) => return Err(Failure::of(WHAT, &printable(&place.path), &error)),
                Ok(_) => {}
            }
        }
    }
    Ok(())
}

/// Removes files and, with `recursive`, trees: from their stores too.
pub(crate) async fn rm(client: &Client, arguments: Rm) -> Result<(), Failure> {
    const WHAT: &str = "fs rm";
    let roots = named(client, WHAT, &arguments.paths).await?;
    if let Some(directory) = roots.iter().find(|root| root.is_directory() && !arguments.recursive) {
        let message = format!("{WHAT}: {}: is a directory: give -R for it and all below it", directory.shown());
        return Err(Failure::usage(message));
    }
    let mut failures = String::new();
    for root in roots {
        // Files go while the tree is walked, directories afterwards, the deepest first.
        let mut directories = Vec::new();
        if root.is_directory() {
            directories.push(root.path.clone());
            let mut walk = Walk::below(client, &root.path, &root.attr, true);
            let mut files = Vec::new();
            while let Some(met) = walk.next().await {
                match met {
                    Met::Entry(path, attr) if attr.kind == KIND_DIRECTORY => {
                        directories.push(path);
                    }
                    Met::Entry(path, _) => files.push(path),
                    Met::Failed(path, error) => {
                        failures.push_str(&format!("{WHAT}: {}: {}\n", printable(&path), error.message));
                    }
                }
            }
            for path in files {
                remove(client, WHAT, &path, false, &mut failures).await?;
            }
        } else {
            remove(client, WHAT, &root.path, false, &mut failures).await?;
        }
        directories.sort_by_key(|path| std::cmp::Reverse(path.iter().filter(|byte| **byte == b'/').count()));
        for path in directories {
            remove(client, WHAT, &path, true, &mut failures).await?;
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

async fn remove(
    client: &Client,
    what: &str,
    path: &[u8],
    is_directory: bool,
    failures: &mut String,
) -> Result<(), Failure> {
    let place = place(client, what, OsStr::from_bytes(path)).await?;
    let request = Remove { parent: place.directory.attr.file_id, name: place.name, is_directory };
    if let Err(error) = client.master(&request).await {
        failures.push_str(&format!("{what}: {}: {}\n", printable(path), error.message));
    }
    Ok(())
}

/// Gives something another name, or moves things into a directory.
pub(crate) async fn mv(client: &Client, arguments: Mv) -> Result<(), Failure> {
    const WHAT: &str = "fs mv";
    let sources = named(client, WHAT, &arguments.from).await?;
    let target = absolute(WHAT, &arguments.to)?;
    let into = client.resolve(target).await.ok().filter(|attr| attr.kind == KIND_DIRECTORY);
    if sources.len() > 1 && into.is_none() {
        let message = format!("{WHAT}: {}: want a directory for {} sources", printable(target), sources.len());
        return Err(Failure::usage(message));
    }
    for source in sources {
        let from = place(client, WHAT, OsStr::from_bytes(&source.path)).await?;
        let (new_parent, new_name) = match &into {
            Some(directory) => (directory.file_id, from.name.clone()),
            None => {
                let to = place(client, WHAT, &arguments.to).await?;
                (to.directory.attr.file_id, to.name)
            }
        };
        let flags = if arguments.overwrite { 0 } else { RENAME_NOREPLACE };
        let parent = from.directory.attr.file_id;
        let moved = client.master(&Rename { parent, name: from.name, new_parent, new_name, flags }).await;
        moved.map_err(|error| Failure::of(WHAT, &source.shown(), &error))?;
    }
    Ok(())
}

/// Makes empty files, or sets the time of those that are there to now.
pub(crate) async fn touch(client: &Client, arguments: Touch) -> Result<(), Failure> {
    const WHAT: &str = "fs touch";
    for path in &arguments.paths {
        let place = place(client, WHAT, path).await?;
        let failed = |error| Failure::of(WHAT, &printable(&place.path), &error);
        let ((uid, gid), parent) = (ids(), FileId(place.directory.attr.file_id));
        match client.create_file(parent, &place.name, 0o644, uid, gid).await {
            Ok((_, session)) => {
                session.save().await.map_err(failed)?;
                session.end().await.map_err(failed)?;
            }
            Err(error) if error.kind == ErrorKind::Exists => {
                let there = exact(client, WHAT, path).await?;
                let mtime_ms = Some(unix_now_ms());
                let request = SetAttr { file_id: there.attr.file_id, mode: None, uid: None, gid: None, mtime_ms };
                client.master(&request).await.map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Changes permission bits.
pub(crate) async fn chmod(client: &Client, arguments: Chmod) -> Result<(), Failure> {
    const WHAT: &str = "fs chmod";
    let set = async |path: &[u8], file_id: u64| {
        let request = SetAttr { file_id, mode: Some(arguments.mode), uid: None, gid: None, mtime_ms: None };
        let changed = client.master(&request).await;
        changed.map(drop).map_err(|error| Failure::of(WHAT, &printable(path), &error))
    };
    for root in named(client, WHAT, &arguments.paths).await? {
        set(&root.path, root.attr.file_id).await?;
        if !arguments.recursive || !root.is_directory() {
            continue;
        }
        let mut walk = Walk::below(client, &root.path, &root.attr, true);
        while let Some(met) = walk.next().await {
            match met {
                Met::Entry(path, attr) => set(&path, attr.file_id).await?,
                Met::Failed(path, error) => return Err(Failure::of(WHAT, &printable(&path), &error)),
            }
        }
    }
    Ok(())
}

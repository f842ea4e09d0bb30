//! `fs free`: drops files from the cache in batches; nothing leaves the store.

use super::paths::named;
use super::pinned::Pinned;
use super::walk::{Met, Walk};
use crate::failure::Failure;
use crate::output::{self, printable};
use forebay_base::{ByteSize, FileId};
use forebay_client::Client;
use forebay_client::message::namespace::KIND_DIRECTORY;
use std::ffi::OsString;

const BATCH_FILES: usize = 1024;

/// Frees files and, with `recursive`, trees; what is pinned only by `force`.
pub(crate) async fn free(client: &Client, paths: &[OsString], recursive: bool, force: bool) -> Result<(), Failure> {
    let roots = named(client, "fs free", paths).await?;
    if let Some(directory) = roots.iter().find(|root| root.is_directory() && !recursive) {
        let message = format!("fs free: {}: is a directory: give -R for all below it", directory.shown());
        return Err(Failure::usage(message));
    }
    let pinned = if force { Pinned::default() } else { Pinned::ask(client, "fs free").await? };
    for root in &roots {
        if let Some(pin) = pinned.above(&root.path).or_else(|| pinned.below(&root.path)) {
            let (path, pin) = (root.shown(), printable(pin.as_bytes()));
            let message = format!("fs free: {path}: {pin} is pinned: forebay fs unpin {pin}, or give --force");
            return Err(Failure::failed(message));
        }
    }
    let mut batch = Vec::with_capacity(BATCH_FILES);
    let (mut files, mut freed) = (0u64, 0u64);
    let mut failures = String::new();
    for root in roots {
        if root.is_directory() {
            let mut walk = Walk::below(client, &root.path, &root.attr, true);
            while let Some(met) = walk.next().await {
                match met {
                    Met::Entry(_, attr) if attr.kind != KIND_DIRECTORY => batch.push(FileId(attr.file_id)),
                    Met::Entry(..) => {}
                    Met::Failed(path, error) => {
                        failures.push_str(&format!("fs free: {}: {}\n", printable(&path), error.message));
                    }
                }
                if batch.len() == BATCH_FILES {
                    files += batch.len() as u64;
                    freed += evict(client, &mut batch, &root.shown()).await?;
                }
            }
        } else {
            batch.push(FileId(root.attr.file_id));
        }
        files += batch.len() as u64;
        freed += evict(client, &mut batch, &root.shown()).await?;
    }
    output::line(&format!("{files} files, {freed} bytes ({}) freed, memory and SSD together", ByteSize(freed)))?;
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

async fn evict(client: &Client, batch: &mut Vec<FileId>, path: &str) -> Result<u64, Failure> {
    if batch.is_empty() {
        return Ok(0);
    }
    let freed = client.evict(batch).await.map_err(|error| Failure::of("fs free", path, &error))?;
    batch.clear();
    Ok(freed)
}

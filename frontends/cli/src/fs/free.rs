//! `fs free`: drops files from the cache in batches; nothing leaves the store.

use super::walk::{Met, Walk, resolve};
use crate::failure::Failure;
use crate::output::{self, printable};
use forebay_base::{ByteSize, FileId};
use forebay_client::Client;
use forebay_client::message::namespace::KIND_DIRECTORY;

const BATCH_FILES: usize = 1024;

/// Frees files and, with `recursive`, trees.
pub(crate) async fn free(client: &Client, paths: &[String], recursive: bool) -> Result<(), Failure> {
    let mut batch = Vec::with_capacity(BATCH_FILES);
    let (mut files, mut freed) = (0u64, 0u64);
    let mut failures = String::new();
    for path in paths {
        let attr = resolve(client, "fs free", path).await?;
        if attr.kind != KIND_DIRECTORY {
            batch.push(FileId(attr.file_id));
        } else if recursive {
            let mut walk = Walk::below(client, path.as_bytes(), &attr, true);
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
                    freed += evict(client, &mut batch, path).await?;
                }
            }
        } else {
            return Err(Failure::usage(format!("fs free: {path}: is a directory: give -R for all below it")));
        }
        files += batch.len() as u64;
        freed += evict(client, &mut batch, path).await?;
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

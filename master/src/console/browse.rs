//! Browsing the namespace in parts, with what the workers hold of each file: only they know, so they are asked.

use super::Console;
use forebay_base::{ErrorKind, FileId, KindError, ShardId, limits, placement};
use forebay_net::http::HttpRequest;
use forebay_net::message::cluster::WorkerInfo;
use forebay_net::message::data::{CacheStatus, CachedBytes};
use forebay_net::message::namespace::{Attr, Entry, KIND_DIRECTORY, ReadDir};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Entries of a part unless told otherwise.
const ENTRIES: u32 = 200;
/// Most entries of a part.
const ENTRIES_MAX: u32 = 1000;
/// A worker that does not answer in this time is left out and named.
const PATIENCE: Duration = Duration::from_secs(2);
/// Cores asked at once.
const CORES_AT_ONCE: usize = 64;

/// What the workers hold of files, and which workers did not say.
struct Held {
    files: Vec<CachedBytes>,
    silent: Vec<String>,
}

impl Console {
    /// A directory's part, or one file.
    pub(super) async fn browse(&self, request: &HttpRequest) -> Result<Value, KindError> {
        let path = request.query_value("path").unwrap_or("/");
        let after = request.query_value("after").unwrap_or_default();
        let entries_max = match request.query_value("limit") {
            None => ENTRIES,
            Some(text) => text.parse().ok().filter(|limit| (1..=ENTRIES_MAX).contains(limit)).ok_or_else(|| {
                let message = format!("limit: got \"{text}\", want a whole number from 1 to {ENTRIES_MAX}");
                KindError::new(ErrorKind::Invalid, message)
            })?,
        };
        let tree = &self.service.tree;
        let attr = tree.resolve(path.as_bytes()).await?;
        let is_directory = attr.kind == KIND_DIRECTORY;
        let (entries, end) = if is_directory {
            let part = tree.read_dir(&ReadDir::part(attr.file_id, after.as_bytes(), entries_max)).await?;
            (part.entries, part.end)
        } else {
            let name = path.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
            (vec![Entry { name, attr }], true)
        };
        let files: Vec<(u64, u64)> = entries.iter().map(|entry| (entry.attr.file_id, entry.attr.version)).collect();
        let held = self.held(&files).await;
        let mounts: Vec<String> = self.service.mounts.list().into_iter().map(|mount| mount.path).collect();
        let base = if path == "/" { "" } else { path };
        let rows: Vec<Value> = entries
            .iter()
            .zip(&held.files)
            .map(|(entry, held)| {
                let name = String::from_utf8_lossy(&entry.name);
                let whole = format!("{base}/{name}");
                let mut row = entry_json(&name, &entry.attr, held);
                row["is_mount"] = json!(mounts.contains(&whole));
                row
            })
            .collect();
        let next = entries.last().filter(|_| !end).map(|entry| String::from_utf8_lossy(&entry.name).into_owned());
        Ok(json!({
            "path": path,
            "kind": if is_directory { "directory" } else { "file" },
            "entries": rows,
            "next": next,
            "silent_workers": held.silent,
        }))
    }

    /// Each file may have blocks at every worker, at one core of it.
    async fn held(&self, files: &[(u64, u64)]) -> Held {
        let workers = self.service.members.map().workers;
        let mut calls = Vec::new();
        for worker in workers.iter().filter(|worker| !worker.shards.is_empty()) {
            for (shard, mine) in by_core(worker, files) {
                for batch in mine.chunks(limits::BATCH_MAX) {
                    calls.push((worker.clone(), shard, batch.to_vec()));
                }
            }
        }
        let asked = stream::iter(calls).map(|(worker, shard, batch)| async move {
            let status = CacheStatus { files: batch.iter().map(|index| files[*index]).collect() };
            (worker.worker_id, batch, self.service.links.call(&worker, shard, &status, PATIENCE).await)
        });
        let mut asked = asked.buffer_unordered(CORES_AT_ONCE);
        let mut held = Held { files: vec![CachedBytes::default(); files.len()], silent: Vec::new() };
        while let Some((worker, batch, reply)) = asked.next().await {
            match reply {
                Ok(reply) => {
                    for (index, one) in batch.into_iter().zip(reply.files) {
                        held.files[index] += one;
                    }
                }
                Err(failed) => {
                    tracing::debug!("not told what a worker holds: {}", failed.error.message);
                    let name = format!("{worker:016x}");
                    if !held.silent.contains(&name) {
                        held.silent.push(name);
                    }
                }
            }
        }
        held
    }
}

/// Indexes of the files by the core of this worker that owns them.
fn by_core(worker: &WorkerInfo, files: &[(u64, u64)]) -> BTreeMap<ShardId, Vec<usize>> {
    let cores = u16::try_from(worker.shards.len()).unwrap_or(u16::MAX);
    let mut mine: BTreeMap<ShardId, Vec<usize>> = BTreeMap::new();
    // A directory has version 0 and no bytes.
    for (index, (file, _)) in files.iter().enumerate().filter(|(_, (_, version))| *version != 0) {
        mine.entry(placement::shard_of(FileId(*file), cores)).or_default().push(index);
    }
    mine
}

fn entry_json(name: &str, attr: &Attr, held: &CachedBytes) -> Value {
    let is_directory = attr.kind == KIND_DIRECTORY;
    let (mem, ssd, hdd, any) = (held.mem_bytes, held.ssd_bytes, held.hdd_bytes, held.any_bytes);
    let cached =
        (!is_directory).then(|| json!({ "mem_bytes": mem, "ssd_bytes": ssd, "hdd_bytes": hdd, "any_bytes": any }));
    json!({
        "name": name,
        "kind": if is_directory { "directory" } else { "file" },
        "size": attr.size,
        "mtime_ms": attr.mtime_ms,
        "mode": attr.mode,
        "file_id": attr.file_id.to_string(),
        "version": attr.version.to_string(),
        "cached": cached,
    })
}

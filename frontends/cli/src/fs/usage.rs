//! `fs du` and `fs count`: sums over trees, in one walk, with memory for the open directories alone.

use super::held::{BATCH_FILES, held};
use super::list::bytes_text;
use super::paths::{Named, named};
use super::progress::Progress;
use super::walk::{Met, Walk};
use crate::arguments::{Count, Du};
use crate::failure::Failure;
use crate::output::{Output, printable};
use forebay_base::{FileId, Version, WorkerId};
use forebay_client::Client;
use forebay_client::message::data::CachedBytes;
use forebay_client::message::namespace::Attr;
use serde_json::{Value, json};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
struct Sum {
    directories: u64,
    files: u64,
    bytes: u64,
    cached: CachedBytes,
    workers: BTreeMap<u64, CachedBytes>,
}

fn add(to: &mut CachedBytes, more: &CachedBytes) {
    *to += *more;
}

impl Sum {
    fn take(&mut self, other: &Sum) {
        self.directories += other.directories;
        self.files += other.files;
        self.bytes += other.bytes;
        add(&mut self.cached, &other.cached);
        for (worker, cached) in &other.workers {
            add(self.workers.entry(*worker).or_default(), cached);
        }
    }
}

/// One directory whose sum is not complete yet.
struct Open {
    path: Vec<u8>,
    sum: Sum,
}

/// `fs du`: sizes and what is cached.
pub(crate) async fn du(client: &Client, arguments: Du) -> Result<(), Failure> {
    const WHAT: &str = "fs du";
    let roots = named(client, WHAT, &arguments.paths).await?;
    let mut output = Output::open();
    if !arguments.json {
        let head = ["SIZE", "CACHED", "%", "MEM", "SSD", "HDD"].map(|head| format!("{head:>14}")).concat();
        output.line(&format!("{head}  PATH"))?;
    }
    let mut failures = String::new();
    for root in roots {
        let mut show = |path: &[u8], sum: &Sum, is_root: bool| {
            if !is_root && arguments.summary { Ok(()) } else { du_line(&mut output, path, sum, &arguments) }
        };
        failures.push_str(&sums(client, WHAT, &root, true, arguments.workers, &mut show).await?);
        output.flush()?;
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

fn du_line(output: &mut Output, path: &[u8], sum: &Sum, arguments: &Du) -> Result<(), Failure> {
    let share = |cached: u64| {
        if sum.bytes == 0 { "-".into() } else { format!("{:.1}%", cached as f64 * 100.0 / sum.bytes as f64) }
    };
    if arguments.json {
        let cached = |cached: &CachedBytes| super::list::cached_json(cached);
        let mut value = json!({
            "path": String::from_utf8_lossy(path),
            "bytes": sum.bytes,
            "files": sum.files,
            "directories": sum.directories,
            "cached": cached(&sum.cached),
        });
        if arguments.workers {
            let workers = sum.workers.iter().map(|(worker, held)| (format!("{worker:016x}"), cached(held)));
            value["workers"] = Value::Object(workers.collect());
        }
        return output.line(&value.to_string());
    }
    let row = |size: String, held: &CachedBytes, name: String| {
        let text = |bytes| bytes_text(bytes, arguments.human);
        let cells = [
            size,
            text(held.any_bytes),
            share(held.any_bytes),
            text(held.mem_bytes),
            text(held.ssd_bytes),
            text(held.hdd_bytes),
        ];
        format!("{}  {name}", cells.map(|cell| format!("{cell:>14}")).concat())
    };
    output.line(&row(bytes_text(sum.bytes, arguments.human), &sum.cached, printable(path)))?;
    if arguments.workers {
        for (worker, held) in &sum.workers {
            output.line(&row(String::new(), held, format!("  worker {worker:016x}")))?;
        }
    }
    Ok(())
}

/// `fs count`: how many of what.
pub(crate) async fn count(client: &Client, arguments: Count) -> Result<(), Failure> {
    const WHAT: &str = "fs count";
    let roots = named(client, WHAT, &arguments.paths).await?;
    let mut output = Output::open();
    if !arguments.json {
        output.line(&format!("{:>12}{:>12}{:>16}  PATH", "DIRECTORIES", "FILES", "BYTES"))?;
    }
    let mut failures = String::new();
    for root in roots {
        let mut show = |path: &[u8], sum: &Sum, is_root: bool| {
            if !is_root {
                return Ok(());
            }
            let (path, Sum { directories, files, bytes, .. }) = (path, sum);
            output.line(&if arguments.json {
                let path = String::from_utf8_lossy(path);
                json!({ "path": path, "directories": directories, "files": files, "bytes": bytes }).to_string()
            } else {
                let size = bytes_text(*bytes, arguments.human);
                format!("{directories:>12}{files:>12}{size:>16}  {}", printable(path))
            })
        };
        failures.push_str(&sums(client, WHAT, &root, false, false, &mut show).await?);
        output.flush()?;
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

type Show<'a> = dyn FnMut(&[u8], &Sum, bool) -> Result<(), Failure> + 'a;

/// Walks one tree and shows each directory when it is complete, the root last. Returns what could not be listed.
async fn sums(
    client: &Client,
    what: &str,
    root: &Named,
    ask: bool,
    by_worker: bool,
    show: &mut Show<'_>,
) -> Result<String, Failure> {
    let mut open = vec![Open { path: root.path.clone(), sum: Sum::default() }];
    let progress = Progress::counting();
    let mut failures = String::new();
    let mut batch: Vec<Named> = Vec::new();
    if root.is_directory() {
        let mut walk = Walk::below(client, &root.path, &root.attr, true);
        while let Some(met) = walk.next().await {
            progress.seen();
            match met {
                Met::Entry(path, attr) => batch.push(Named { path, attr }),
                Met::Failed(path, error) => {
                    failures.push_str(&format!("{what}: {}: {}\n", printable(&path), error.message));
                }
            }
            if batch.len() >= BATCH_FILES {
                take(client, what, &mut batch, &mut open, ask, by_worker, show).await?;
            }
        }
        open[0].sum.directories = 1;
    } else {
        batch.push(root.clone());
    }
    take(client, what, &mut batch, &mut open, ask, by_worker, show).await?;
    progress.finish();
    while open.len() > 1 {
        close(&mut open, show)?;
    }
    show(&root.path, &open[0].sum, true)?;
    Ok(failures)
}

/// Adds entries, in the order of the walk, to the directories that hold them.
async fn take(
    client: &Client,
    what: &str,
    batch: &mut Vec<Named>,
    open: &mut Vec<Open>,
    ask: bool,
    by_worker: bool,
    show: &mut Show<'_>,
) -> Result<(), Failure> {
    let attrs: Vec<&Attr> = batch.iter().map(|named| &named.attr).collect();
    let cached = if ask { held(client, what, &attrs).await? } else { Vec::new() };
    let files: Vec<(FileId, Version)> =
        attrs.iter().map(|attr| (FileId(attr.file_id), Version(attr.version))).collect();
    let workers: Vec<(WorkerId, Vec<CachedBytes>)> = if by_worker && !files.is_empty() {
        client.cached_by_worker(&files).await.map_err(|error| Failure::of(what, "workers", &error))?
    } else {
        Vec::new()
    };
    for (index, named) in batch.drain(..).enumerate() {
        while open.len() > 1 && !lies_in(&named.path, &open[open.len() - 1].path) {
            close(open, show)?;
        }
        if named.is_directory() {
            open.push(Open { path: named.path, sum: Sum { directories: 1, ..Sum::default() } });
            continue;
        }
        let by_worker = workers.iter().map(|(worker, held)| (worker.0, held[index]));
        let sum = Sum {
            directories: 0,
            files: 1,
            bytes: named.attr.size,
            cached: cached.get(index).copied().unwrap_or_default(),
            workers: by_worker.filter(|(_, held)| held.any_bytes > 0).collect(),
        };
        if let Some(directory) = open.last_mut() {
            directory.sum.take(&sum);
        }
    }
    Ok(())
}

fn close(open: &mut Vec<Open>, show: &mut Show<'_>) -> Result<(), Failure> {
    let Some(done) = open.pop() else { return Ok(()) };
    show(&done.path, &done.sum, false)?;
    if let Some(above) = open.last_mut() {
        above.sum.take(&done.sum);
    }
    Ok(())
}

fn lies_in(path: &[u8], directory: &[u8]) -> bool {
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with(b"/"))
}

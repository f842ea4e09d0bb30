//! `fs ls`: streams, so that a directory of millions needs no memory and `| head` ends at once; only another order than
//! that of names collects first.

use super::held::{BATCH_FILES, held, percent};
use super::paths::{Named, named};
use super::pinned::Pinned;
use super::walk::{Met, Walk};
use crate::arguments::{Ls, Sort};
use crate::failure::Failure;
use crate::output::{Output, date, printable, timestamp};
use forebay_base::ByteSize;
use forebay_client::Client;
use forebay_client::message::data::CachedBytes;
use forebay_client::message::namespace::{Attr, KIND_DIRECTORY, Refresh};
use serde_json::{Value, json};

const WHAT: &str = "fs ls";
/// Most entries that can be ordered.
const SORTED_MAX: usize = 2_000_000;

/// An entry with what is cached of it, if that was asked for.
struct Line {
    named: Named,
    cached: Option<CachedBytes>,
}

struct Listing<'a> {
    client: &'a Client,
    arguments: &'a Ls,
    pinned: Pinned,
    output: Output,
    shown: u64,
    waiting: Vec<Named>,
    collected: Vec<Line>,
}

/// Lists files, directories, or trees.
pub(crate) async fn list(client: &Client, arguments: Ls) -> Result<(), Failure> {
    let roots = named(client, WHAT, &arguments.paths).await?;
    let headings = roots.len() > 1 && !arguments.recursive && !arguments.directory && !arguments.json;
    let mut failures = String::new();
    let wants_pins = arguments.pinned || arguments.json;
    let pinned = if wants_pins { Pinned::ask(client, WHAT).await? } else { Pinned::default() };
    let mut listing = Listing {
        client,
        arguments: &arguments,
        pinned,
        output: Output::open(),
        shown: 0,
        waiting: Vec::new(),
        collected: Vec::new(),
    };
    let (files, directories): (Vec<Named>, Vec<Named>) =
        roots.into_iter().partition(|root| arguments.directory || !root.is_directory());
    for mut file in files {
        if arguments.refresh {
            let wrong = |error| Failure::of(WHAT, &file.shown(), &error);
            client.master(&Refresh { file_id: file.attr.file_id, apply: true }).await.map_err(wrong)?;
            file.attr = client.resolve(&file.path).await.map_err(wrong)?;
        }
        listing.take(file).await?;
    }
    for directory in directories {
        if headings {
            listing.end_of_part().await?;
            let gap = if listing.shown > 0 { "\n" } else { "" };
            listing.output.line(&format!("{gap}{}:", directory.shown()))?;
        }
        let mut walk =
            Walk::below(client, &directory.path, &directory.attr, arguments.recursive).refreshing(arguments.refresh);
        while let Some(met) = walk.next().await {
            match met {
                Met::Entry(path, attr) => listing.take(Named { path, attr }).await?,
                Met::Failed(path, error) => {
                    failures.push_str(&format!("{WHAT}: {}: {}\n", printable(&path), error.message));
                }
            }
        }
        listing.shown += u64::from(headings);
    }
    listing.end_of_part().await?;
    listing.end()?;
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

impl Listing<'_> {
    fn wants_cached(&self) -> bool {
        self.arguments.long || self.arguments.sort == Some(Sort::Cached)
    }

    fn is_sorted(&self) -> bool {
        self.arguments.reverse || self.arguments.sort.is_some_and(|sort| sort != Sort::Name)
    }

    async fn take(&mut self, named: Named) -> Result<(), Failure> {
        if self.arguments.pinned && self.pinned.above(&named.path).is_none() {
            return Ok(());
        }
        if !self.wants_cached() {
            return self.place(Line { named, cached: None });
        }
        self.waiting.push(named);
        if self.waiting.len() >= BATCH_FILES { self.ask().await } else { Ok(()) }
    }

    /// Learns what is cached of those that wait.
    async fn ask(&mut self) -> Result<(), Failure> {
        let waiting = std::mem::take(&mut self.waiting);
        let attrs: Vec<&Attr> = waiting.iter().map(|named| &named.attr).collect();
        let cached = held(self.client, WHAT, &attrs).await?;
        for (named, cached) in waiting.into_iter().zip(cached) {
            self.place(Line { named, cached: Some(cached) })?;
        }
        Ok(())
    }

    fn place(&mut self, line: Line) -> Result<(), Failure> {
        if !self.is_sorted() {
            return self.show(&line);
        }
        if self.collected.len() == SORTED_MAX {
            let message = format!("{WHAT}: more than {SORTED_MAX} entries to sort: name a part, or do without --sort");
            return Err(Failure::failed(message));
        }
        self.collected.push(line);
        Ok(())
    }

    /// Everything taken so far is shown.
    async fn end_of_part(&mut self) -> Result<(), Failure> {
        self.ask().await?;
        let mut lines = std::mem::take(&mut self.collected);
        let bytes = |line: &Line| line.cached.map_or(0, |cached| cached.any_bytes);
        // Stable: what is equal stays in the order of names.
        match self.arguments.sort.unwrap_or(Sort::Name) {
            Sort::Name => {}
            Sort::Size => lines.sort_by_key(|line| std::cmp::Reverse(line.named.attr.size)),
            Sort::Mtime => lines.sort_by_key(|line| std::cmp::Reverse(line.named.attr.mtime_ms)),
            Sort::Cached => lines.sort_by_key(|line| std::cmp::Reverse(bytes(line))),
        }
        if self.arguments.reverse {
            lines.reverse();
        }
        lines.iter().try_for_each(|line| self.show(line))
    }

    fn show(&mut self, line: &Line) -> Result<(), Failure> {
        let arguments = self.arguments;
        let (path, attr) = (&line.named.path, &line.named.attr);
        if arguments.json {
            let mut value = as_json(path, attr);
            value["pinned_by"] = json!(self.pinned.above(path));
            if let Some(cached) = line.cached.filter(|_| attr.kind != KIND_DIRECTORY) {
                value["cached"] = cached_json(&cached);
            }
            if !arguments.recursive {
                self.output.bytes(if self.shown == 0 { b"[\n" } else { b",\n" })?;
            }
            self.shown += 1;
            self.output.bytes(value.to_string().as_bytes())?;
            return if arguments.recursive { self.output.bytes(b"\n") } else { Ok(()) };
        }
        self.shown += 1;
        let name = if arguments.recursive || arguments.directory { path } else { last_name(path) };
        let cached = line.cached.filter(|_| arguments.long);
        self.output.line(&text_line(name, attr, cached.as_ref(), arguments))
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.arguments.json && !self.arguments.recursive {
            self.output.bytes(if self.shown == 0 { b"[]\n" } else { b"\n]\n" })?;
        }
        self.output.flush()
    }
}

pub(crate) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty()).unwrap_or(b"/")
}

/// A number of bytes, for people or exactly.
pub(crate) fn bytes_text(bytes: u64, human: bool) -> String {
    if human { ByteSize(bytes).to_string() } else { bytes.to_string() }
}

fn text_line(name: &[u8], attr: &Attr, cached: Option<&CachedBytes>, arguments: &Ls) -> String {
    let is_directory = attr.kind == KIND_DIRECTORY;
    let size = if is_directory { "-".to_string() } else { bytes_text(attr.size, arguments.human) };
    let width = if arguments.human { 9 } else { 14 };
    let cached = cached.map(|cached| format!("  {:>6}", percent(attr, cached))).unwrap_or_default();
    format!(
        "{}  {size:>width$}{cached}  {}  {}{}",
        mode_text(is_directory, attr.mode),
        if arguments.timestamp { timestamp(attr.mtime_ms) } else { date(attr.mtime_ms) },
        printable(name),
        if is_directory && name != b"/" { "/" } else { "" }
    )
}

/// `drwxr-xr-x`.
pub(crate) fn mode_text(is_directory: bool, mode: u32) -> String {
    let mut text = String::from(if is_directory { "d" } else { "-" });
    for bit in (0..9).rev() {
        text.push(if mode >> bit & 1 == 1 { ['x', 'w', 'r'][bit % 3] } else { '-' });
    }
    text
}

/// An inode for programs.
pub(crate) fn as_json(path: &[u8], attr: &Attr) -> Value {
    json!({
        "path": String::from_utf8_lossy(path),
        "name": String::from_utf8_lossy(last_name(path)),
        "kind": if attr.kind == KIND_DIRECTORY { "directory" } else { "file" },
        "file_id": attr.file_id,
        "version": attr.version,
        "size": attr.size,
        "mtime_ms": attr.mtime_ms,
        "mode": format!("{:04o}", attr.mode & 0o7777),
        "uid": attr.uid,
        "gid": attr.gid,
        "mount_id": attr.mount_id,
    })
}

/// Cached bytes for programs.
pub(crate) fn cached_json(cached: &CachedBytes) -> Value {
    let CachedBytes { mem_bytes, ssd_bytes, hdd_bytes, any_bytes } = *cached;
    json!({ "any_bytes": any_bytes, "mem_bytes": mem_bytes, "ssd_bytes": ssd_bytes, "hdd_bytes": hdd_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_modes() {
        assert_eq!(last_name(b"/a/b/"), b"b");
        assert_eq!(last_name(b"/"), b"/");
        assert_eq!(mode_text(true, 0o755), "drwxr-xr-x");
        assert_eq!(mode_text(false, 0o640), "-rw-r-----");
    }
}

//! `fs find`: walks trees and shows what matches, as it is met.

use super::glob::Glob;
use super::held::{BATCH_FILES, held};
use super::list::{as_json, cached_json, last_name};
use super::paths::{Named, exact, named};
use super::progress::Progress;
use super::walk::{Met, Walk};
use crate::arguments::{Find, Kind, Signed};
use crate::failure::Failure;
use crate::output::{Output, printable};
use forebay_base::unix_now_ms;
use forebay_client::Client;
use forebay_client::message::namespace::Attr;

const WHAT: &str = "fs find";

struct Wanted {
    arguments: Find,
    name: Option<Glob>,
    newer_ms: Option<u64>,
    now_ms: u64,
}

impl Signed {
    fn holds(self, value: u64) -> bool {
        value.cmp(&self.value) == self.order
    }
}

impl Wanted {
    fn matches(&self, named: &Named) -> bool {
        let (arguments, attr) = (&self.arguments, &named.attr);
        let is_directory = named.is_directory();
        let files_only = arguments.cached || arguments.uncached || arguments.size.is_some();
        let age_ms = self.now_ms.saturating_sub(attr.mtime_ms);
        // As in find, a bare number of days means: within that day.
        let of_age = |age: Signed| match age.order {
            std::cmp::Ordering::Equal => (age.value..age.value.saturating_add(86_400_000)).contains(&age_ms),
            _ => age.holds(age_ms),
        };
        !(files_only && is_directory)
            && self.name.as_ref().is_none_or(|glob| glob.matches(last_name(&named.path), false))
            && arguments.kind.is_none_or(|kind| (kind == Kind::Directory) == is_directory)
            && arguments.size.is_none_or(|size| size.holds(attr.size))
            && arguments.mtime.is_none_or(of_age)
            && self.newer_ms.is_none_or(|newer| attr.mtime_ms > newer)
    }
}

/// Shows everything below the paths, and the paths, that matches.
pub(crate) async fn find(client: &Client, arguments: Find) -> Result<(), Failure> {
    let newer_ms = match &arguments.newer {
        Some(path) => Some(exact(client, WHAT, path).await?.attr.mtime_ms),
        None => None,
    };
    let roots = named(client, WHAT, &arguments.paths).await?;
    let name = arguments.name.as_deref().map(Glob::new);
    let wanted = Wanted { name, newer_ms, now_ms: unix_now_ms(), arguments };
    let (mut output, progress) = (Output::open(), Progress::counting());
    let mut waiting: Vec<Named> = Vec::new();
    let mut failures = String::new();
    for root in roots {
        let mut walk = root.is_directory().then(|| Walk::below(client, &root.path, &root.attr, true));
        let mut next = Some(root);
        while let Some(named) = next.take() {
            progress.seen();
            if wanted.matches(&named) {
                waiting.push(named);
            }
            if waiting.len() >= BATCH_FILES {
                show(client, &wanted, &mut waiting, &mut output).await?;
            }
            while let (Some(walk), None) = (&mut walk, &next) {
                match walk.next().await {
                    None => break,
                    Some(Met::Entry(path, attr)) => next = Some(Named { path, attr }),
                    Some(Met::Failed(path, error)) => {
                        failures.push_str(&format!("{WHAT}: {}: {}\n", printable(&path), error.message));
                    }
                }
            }
        }
    }
    show(client, &wanted, &mut waiting, &mut output).await?;
    progress.finish();
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

async fn show(client: &Client, wanted: &Wanted, waiting: &mut Vec<Named>, output: &mut Output) -> Result<(), Failure> {
    let arguments = &wanted.arguments;
    let by_cache = arguments.cached || arguments.uncached;
    let attrs: Vec<&Attr> = waiting.iter().map(|named| &named.attr).collect();
    let cached = if by_cache { held(client, WHAT, &attrs).await? } else { Vec::new() };
    for (index, named) in waiting.drain(..).enumerate() {
        let held = cached.get(index);
        if held.is_some_and(|held| (held.any_bytes >= named.attr.size) != arguments.cached) {
            continue;
        }
        if arguments.print0 {
            output.bytes(&named.path)?;
            output.bytes(b"\0")?;
        } else if arguments.json {
            let mut value = as_json(&named.path, &named.attr);
            if let Some(held) = held {
                value["cached"] = cached_json(held);
            }
            output.line(&value.to_string())?;
        } else {
            output.line(&named.shown())?;
        }
    }
    output.flush()
}

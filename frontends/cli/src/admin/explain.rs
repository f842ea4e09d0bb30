//! `admin explain`: of a file what is cached where, how warm it is, what keeps it there, and why pages of it left.

use crate::failure::Failure;
use crate::fs::paths::{Named, files};
use crate::output::{Output, printable, table};
use forebay_base::{BlockIndex, ByteSize, FileId, Span, Version, WorkerId};
use forebay_client::Client;
use forebay_client::message::data::{ExplainGone, ExplainReply};
use forebay_client::message::namespace::{ListMounts, ListPathPolicies, MountInfo, PathPolicy};
use serde_json::{Value, json};
use std::ffi::OsString;

const WHAT: &str = "admin explain";
/// Departures shown of each worker; `--json` has all.
const GONE_SHOWN: usize = 12;

/// One worker's part of a file.
struct Part {
    worker: WorkerId,
    core: u16,
    address: String,
    /// How many of the file's blocks it owns.
    owned_blocks: u64,
    reply: ExplainReply,
}

/// What holds for a file beside its cache.
struct Rules<'a> {
    mount: Option<&'a MountInfo>,
    pin: Option<&'a str>,
    /// The path whose policy says how old metadata may be, and how old.
    freshness: Option<(&'a str, u64)>,
}

/// Explains files.
pub(crate) async fn explain(client: &Client, paths: &[OsString], as_json: bool) -> Result<(), Failure> {
    let all = files(client, WHAT, paths).await?;
    let policies = client.master(&ListPathPolicies::default()).await;
    let policies = policies.map_err(|error| Failure::of(WHAT, "policies", &error))?.policies;
    let mounts = client.master(&ListMounts::default()).await;
    let mounts = mounts.map_err(|error| Failure::of(WHAT, "mounts", &error))?.mounts;
    let mut output = Output::open();
    for (index, named) in all.iter().enumerate() {
        let parts = parts(client, named).await?;
        let rules = rules(named, &policies, &mounts);
        if as_json {
            output.line(&json_of(named, &rules, &parts).to_string())?;
        } else {
            if index > 0 {
                output.line("")?;
            }
            show(&mut output, named, &rules, &parts)?;
        }
    }
    output.flush()
}

async fn parts(client: &Client, named: &Named) -> Result<Vec<Part>, Failure> {
    let (file, version) = (FileId(named.attr.file_id), Version(named.attr.version));
    let known = client.explain(file, version).await.map_err(|error| Failure::of(WHAT, &named.shown(), &error))?;
    let blocks = named.attr.size.div_ceil(named.attr.block_bytes.max(1)).max(1);
    let owners: Vec<WorkerId> = (0..blocks)
        .filter_map(|block| client.owners(file, BlockIndex(u32::try_from(block).ok()?)).first().map(|owner| owner.0))
        .collect();
    let places = client.owners(file, BlockIndex(0));
    let part = |(worker, reply): (WorkerId, ExplainReply)| {
        let place = places.iter().find(|(id, _, _)| *id == worker);
        Part {
            worker,
            core: place.map_or(0, |(_, core, _)| core.0),
            address: place.map_or(String::new(), |(_, _, address)| address.clone()),
            owned_blocks: owners.iter().filter(|owner| **owner == worker).count() as u64,
            reply,
        }
    };
    Ok(known.into_iter().map(part).collect())
}

/// Whether `above` is the path or a directory above it.
fn is_above(above: &str, path: &[u8]) -> bool {
    let above = above.trim_end_matches('/').as_bytes();
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn rules<'a>(named: &Named, policies: &'a [PathPolicy], mounts: &'a [MountInfo]) -> Rules<'a> {
    let above = || policies.iter().filter(|policy| is_above(&policy.path, &named.path));
    let longest = |policy: &&PathPolicy| policy.path.len();
    Rules {
        mount: mounts.iter().find(|mount| mount.mount_id == named.attr.mount_id),
        pin: above().filter(|policy| policy.pin == Some(true)).max_by_key(longest).map(|policy| policy.path.as_str()),
        freshness: above()
            .filter(|policy| policy.freshness_ms.is_some())
            .max_by_key(longest)
            .and_then(|policy| Some((policy.path.as_str(), policy.freshness_ms?))),
    }
}

fn show(output: &mut Output, named: &Named, rules: &Rules<'_>, parts: &[Part]) -> Result<(), Failure> {
    let attr = &named.attr;
    let mut line = |name: &str, value: String| output.line(&format!("{name:<10} {value}"));
    line("path", named.shown())?;
    line("id", format!("{}  version {}  mount {}", attr.file_id, attr.version, attr.mount_id))?;
    line("size", format!("{} ({})", attr.size, ByteSize(attr.size)))?;
    let freshness = match (rules.freshness, rules.mount) {
        (Some((path, ms)), _) => format!("{}, by the policy of {}", Span::from_ms(ms), printable(path.as_bytes())),
        (None, Some(mount)) => format!("{}, as its mount says", Span::from_ms(mount.freshness_ms)),
        (None, None) => "-".into(),
    };
    line("freshness", freshness)?;
    let valid = match attr.valid_for_ms {
        u64::MAX => "for ever".into(),
        ms => format!("for {}", Span::from_ms(ms)),
    };
    line("valid", format!("{valid}, then its store is asked again"))?;
    if let Some(mount) = rules.mount.filter(|mount| !mount.trouble.is_empty()) {
        line("store", printable(mount.trouble.as_bytes()))?;
    }
    line("pinned", rules.pin.map_or("no".into(), |path| format!("by {}", printable(path.as_bytes()))))?;
    let rows: Vec<Vec<String>> = parts.iter().flat_map(place_rows).collect();
    output.line("")?;
    if rows.is_empty() {
        output.line("no worker answers")?;
    } else {
        let heading = ["WORKER", "CORE", "ADDRESS", "OWNS", "TIER", "BYTES", "PAGES", "PINNED", "READ", "DIRECTORY"];
        table(output, &heading, &[1, 3, 5, 6, 7, 8], &rows)?;
    }
    for part in parts {
        for text in remarks(part, attr.version) {
            output.line(&format!("{:016x}: {text}", part.worker.0))?;
        }
    }
    let gone: Vec<Vec<String>> = parts
        .iter()
        .flat_map(|part| part.reply.gone.iter().take(GONE_SHOWN).map(move |gone| gone_row(part, gone)))
        .collect();
    output.line("")?;
    if gone.is_empty() {
        return output.line("nothing of it left a cache or was refused of late");
    }
    table(output, &["WORKER", "AGO", "TIER", "PAGES", "VERSION", "WHY"], &[1, 3], &gone)
}

fn place_rows(part: &Part) -> Vec<Vec<String>> {
    let head = || {
        vec![
            format!("{:016x}", part.worker.0),
            part.core.to_string(),
            part.address.clone(),
            format!("{} blocks", part.owned_blocks),
        ]
    };
    if part.reply.places.is_empty() {
        return vec![[head(), vec!["-".into(), "0".into(), "0".into(), "0".into(), "0".into(), "-".into()]].concat()];
    }
    let row = |place: &forebay_client::message::data::ExplainPlace| {
        let directory = if place.directory.is_empty() { "-".into() } else { printable(place.directory.as_bytes()) };
        let tail = vec![
            place.tier.clone(),
            ByteSize(place.bytes).to_string(),
            place.pages.to_string(),
            place.pinned_pages.to_string(),
            ByteSize(place.read_bytes).to_string(),
            directory,
        ];
        [head(), tail].concat()
    };
    part.reply.places.iter().map(row).collect()
}

/// What a table has no column for.
fn remarks(part: &Part, version: u64) -> Vec<String> {
    let reply = &part.reply;
    let mut said = Vec::new();
    if reply.dead {
        said.push(format!("version {version} is dead: the file has another content; look again"));
    }
    if reply.pin_ms > 0 {
        let short = if reply.pin_short { "; some of its pages found no room among what is pinned" } else { "" };
        let (bytes, left) = (ByteSize(reply.pin_bytes), Span::from_ms(reply.pin_ms / 1000 * 1000));
        said.push(format!("pinned for {left} unless renewed, room for {bytes}{short}"));
    }
    if reply.queued_pages > 0 {
        said.push(format!("{} pages wait to be written to a disk", reply.queued_pages));
    }
    if reply.moving_pages > 0 {
        said.push(format!("{} pages are on their way to another tier", reply.moving_pages));
    }
    if !reply.other_versions.is_empty() {
        said.push(format!("holds pages of {} other versions", reply.other_versions.len()));
    }
    said
}

fn why(gone: &ExplainGone) -> String {
    match gone.cause.as_str() {
        "room" => "evicted: others needed the room".into(),
        "dead" => "dropped: the file has a newer content, or is gone".into(),
        "freed" => "freed: somebody asked for it".into(),
        "corrupt" => "dropped: a checksum was wrong".into(),
        "unreadable" => "dropped: the disk did not give it back".into(),
        "directory-lost" => "lost: its directory was given up".into(),
        "not-written" => "not kept there: no room on the disk, or the write failed".into(),
        "not-admitted" => "refused: the policy expects no second use".into(),
        "pin-refused" => "not pinned: pins hold as much as they may".into(),
        other => printable(other.as_bytes()),
    }
}

fn gone_row(part: &Part, gone: &ExplainGone) -> Vec<String> {
    vec![
        format!("{:016x}", part.worker.0),
        Span::from_ms(if gone.age_ms < 1000 { gone.age_ms } else { gone.age_ms / 1000 * 1000 }).to_string(),
        gone.tier.clone(),
        gone.pages.to_string(),
        gone.version.to_string(),
        why(gone),
    ]
}

fn json_of(named: &Named, rules: &Rules<'_>, parts: &[Part]) -> Value {
    let attr = &named.attr;
    let worker = |part: &Part| {
        let reply = &part.reply;
        let places: Vec<Value> = reply
            .places
            .iter()
            .map(|place| {
                json!({
                    "tier": place.tier,
                    "directory": place.directory,
                    "pages": place.pages,
                    "bytes": place.bytes,
                    "pinned_pages": place.pinned_pages,
                    "read_bytes": place.read_bytes,
                })
            })
            .collect();
        let gone: Vec<Value> = reply
            .gone
            .iter()
            .map(|gone| {
                json!({
                    "version": gone.version.to_string(),
                    "tier": gone.tier,
                    "cause": gone.cause,
                    "pages": gone.pages,
                    "age_ms": gone.age_ms,
                })
            })
            .collect();
        json!({
            "worker_id": format!("{:016x}", part.worker.0),
            "core": part.core,
            "address": part.address,
            "owned_blocks": part.owned_blocks,
            "policy": reply.policy,
            "places": places,
            "queued_pages": reply.queued_pages,
            "moving_pages": reply.moving_pages,
            "pin": (reply.pin_ms > 0).then(|| json!({
                "bytes": reply.pin_bytes, "remaining_ms": reply.pin_ms, "short": reply.pin_short,
            })),
            "dead": reply.dead,
            "other_versions": reply.other_versions.iter().map(u64::to_string).collect::<Vec<_>>(),
            "gone": gone,
        })
    };
    json!({
        "path": String::from_utf8_lossy(&named.path),
        "file_id": attr.file_id.to_string(),
        "version": attr.version.to_string(),
        "size": attr.size,
        "mount": rules.mount.map(|mount| &mount.path),
        // null: what was once loaded is believed for ever.
        "freshness_ms": rules.freshness.map(|(_, ms)| ms).or(rules.mount.map(|mount| mount.freshness_ms)).filter(|ms| *ms != u64::MAX),
        "freshness_policy": rules.freshness.map(|(path, _)| path),
        "valid_for_ms": (attr.valid_for_ms != u64::MAX).then_some(attr.valid_for_ms),
        "pinned_by": rules.pin,
        "workers": parts.iter().map(worker).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_policy_above_counts() {
        assert!(is_above("/a", b"/a/b") && is_above("/", b"/a") && is_above("/a", b"/a"));
        assert!(!is_above("/a", b"/ab") && !is_above("/a/b", b"/a"));
    }
}

//! `fs stat`: inodes and what the workers hold of them, for people, as JSON, or in a format of letters.

use super::held::{BATCH_FILES, held, percent};
use super::list::{as_json, cached_json, last_name, mode_text};
use super::paths::{Named, named};
use super::pinned::Pinned;
use crate::arguments::Stat;
use crate::failure::Failure;
use crate::output::{Output, date, printable, timestamp};
use forebay_base::ByteSize;
use forebay_client::Client;
use forebay_client::message::data::CachedBytes;
use forebay_client::message::namespace::{Attr, ListMounts, MountInfo};
use serde_json::json;

const WHAT: &str = "fs stat";
const LETTERS: &str = "%N %n %z %y %Y %b %i %u %g %a %v %c %m %F %p %%";

/// A piece of a format.
#[derive(PartialEq, Eq, Debug)]
enum Piece {
    Text(String),
    Letter(char),
}

/// Reads a format; the error names the letter that is none.
fn pieces(format: &str) -> Result<Vec<Piece>, String> {
    let (mut pieces, mut text) = (Vec::new(), String::new());
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            text.push(letter);
            continue;
        }
        match letters.next() {
            Some('%') => text.push('%'),
            Some(letter) if LETTERS.contains(letter) && letter != ' ' => {
                if !text.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut text)));
                }
                pieces.push(Piece::Letter(letter));
            }
            other => {
                let got = other.map(String::from).unwrap_or_default();
                return Err(format!("--format: got %{got}, want one of {LETTERS}"));
            }
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

/// Shows files and directories.
pub(crate) async fn stat(client: &Client, arguments: Stat) -> Result<(), Failure> {
    let format = arguments.format.as_deref().map(pieces).transpose();
    let format = format.map_err(|message| Failure::usage(format!("{WHAT}: {message}")))?;
    let all = named(client, WHAT, &arguments.paths).await?;
    let mounts = match &format {
        Some(pieces) if pieces.contains(&Piece::Letter('m')) => {
            client.master(&ListMounts::default()).await.map_err(|error| Failure::of(WHAT, "mounts", &error))?.mounts
        }
        _ => Vec::new(),
    };
    let pinned = match &format {
        Some(pieces) if !pieces.contains(&Piece::Letter('p')) => Pinned::default(),
        _ => Pinned::ask(client, WHAT).await?,
    };
    let mut output = Output::open();
    for (number, batch) in all.chunks(BATCH_FILES).enumerate() {
        let attrs: Vec<&Attr> = batch.iter().map(|named| &named.attr).collect();
        let cached = held(client, WHAT, &attrs).await?;
        for (index, (named, cached)) in batch.iter().zip(&cached).enumerate() {
            let pin = pinned.above(&named.path);
            if let Some(pieces) = &format {
                output.line(&formatted(pieces, named, cached, &mounts, pin))?;
            } else if arguments.json {
                output.line(&json_line(named, cached, pin))?;
            } else {
                if number + index > 0 {
                    output.line("")?;
                }
                for_people(&mut output, named, cached, pin)?;
            }
        }
    }
    output.flush()
}

fn formatted(pieces: &[Piece], named: &Named, cached: &CachedBytes, mounts: &[MountInfo], pin: Option<&str>) -> String {
    let attr = &named.attr;
    let value = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Letter('N') => printable(last_name(&named.path)),
        Piece::Letter('n') => named.shown(),
        Piece::Letter('z') => attr.size.to_string(),
        Piece::Letter('y') => timestamp(attr.mtime_ms),
        Piece::Letter('Y') => (attr.mtime_ms / 1000).to_string(),
        Piece::Letter('b') => attr.size.div_ceil(attr.block_bytes.max(1)).to_string(),
        Piece::Letter('i') => attr.file_id.to_string(),
        Piece::Letter('u') => attr.uid.to_string(),
        Piece::Letter('g') => attr.gid.to_string(),
        Piece::Letter('a') => format!("{:o}", attr.mode & 0o7777),
        Piece::Letter('v') => attr.version.to_string(),
        Piece::Letter('c') => cached.any_bytes.to_string(),
        Piece::Letter('m') => {
            let mount = mounts.iter().find(|mount| mount.mount_id == attr.mount_id);
            mount.map_or("-".into(), |mount| printable(mount.path.as_bytes()))
        }
        Piece::Letter('p') => pin.map_or("-".into(), |pin| printable(pin.as_bytes())),
        Piece::Letter('F') => if named.is_directory() { "directory" } else { "file" }.into(),
        Piece::Letter(other) => other.to_string(),
    };
    pieces.iter().map(value).collect()
}

fn json_line(named: &Named, cached: &CachedBytes, pin: Option<&str>) -> String {
    let attr = &named.attr;
    let mut value = as_json(&named.path, attr);
    value["valid_for_ms"] = json!((attr.valid_for_ms != u64::MAX).then_some(attr.valid_for_ms));
    value["page_bytes"] = json!(attr.page_bytes);
    value["block_bytes"] = json!(attr.block_bytes);
    value["cached"] = if named.is_directory() { json!(null) } else { cached_json(cached) };
    value["pinned_by"] = json!(pin);
    value.to_string()
}

fn for_people(output: &mut Output, named: &Named, cached: &CachedBytes, pin: Option<&str>) -> Result<(), Failure> {
    let (attr, is_directory) = (&named.attr, named.is_directory());
    let mut show = |name: &str, value: String| output.line(&format!("{name:<10} {value}"));
    show("path", named.shown())?;
    show("kind", if is_directory { "directory" } else { "file" }.into())?;
    show("mode", format!("{}  uid {}  gid {}", mode_text(is_directory, attr.mode), attr.uid, attr.gid))?;
    show("modified", format!("{} UTC", date(attr.mtime_ms)))?;
    show("id", format!("{}  version {}  mount {}", attr.file_id, attr.version, attr.mount_id))?;
    show("pinned", pin.map_or("no".into(), |pin| format!("by {}", printable(pin.as_bytes()))))?;
    if !is_directory {
        show("size", format!("{} ({})", attr.size, ByteSize(attr.size)))?;
        let (mem, ssd) = (ByteSize(cached.mem_bytes), ByteSize(cached.ssd_bytes));
        let share = percent(attr, cached);
        let hdd = match cached.hdd_bytes {
            0 => String::new(),
            bytes => format!(", {} on HDD", ByteSize(bytes)),
        };
        show("cached", format!("{} ({share}): {mem} in memory, {ssd} on SSD{hdd}", cached.any_bytes))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let want = [Piece::Text("a%".into()), Piece::Letter('z'), Piece::Text(" b".into())];
        assert_eq!(pieces("a%%%z b").unwrap(), want);
        for bad in ["%q", "%", "% "] {
            let message = pieces(bad).unwrap_err();
            assert!(message.contains(&format!("got %{}", &bad[1..])) && message.contains("%N %n"), "{message}");
        }
    }
}

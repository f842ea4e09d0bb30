//! `fs stat`: one inode and what the workers hold of it.

use super::list::{as_json, mode_text};
use super::walk::resolve;
use crate::failure::Failure;
use crate::output::{Output, date, printable};
use forebay_base::{ByteSize, FileId, Version};
use forebay_client::Client;
use forebay_client::message::namespace::KIND_DIRECTORY;
use serde_json::{Value, json};

/// Shows one file or directory.
pub(crate) async fn stat(client: &Client, path: &str, json: bool) -> Result<(), Failure> {
    let attr = resolve(client, "fs stat", path).await?;
    let is_directory = attr.kind == KIND_DIRECTORY;
    let cached = if is_directory {
        None
    } else {
        let files = [(FileId(attr.file_id), Version(attr.version))];
        let cached = client.cached(&files).await.map_err(|error| Failure::of("fs stat", path, &error))?;
        cached.first().copied()
    };
    let mut output = Output::open();
    if json {
        let mut value = as_json(path.as_bytes(), &attr);
        value["valid_for_ms"] = json!((attr.valid_for_ms != u64::MAX).then_some(attr.valid_for_ms));
        value["page_bytes"] = json!(attr.page_bytes);
        value["block_bytes"] = json!(attr.block_bytes);
        value["cached"] = cached.map_or(Value::Null, |cached| {
            json!({ "any_bytes": cached.any_bytes, "mem_bytes": cached.mem_bytes, "ssd_bytes": cached.ssd_bytes })
        });
        output.line(&value.to_string())?;
        return output.flush();
    }
    let mut show = |name: &str, value: String| output.line(&format!("{name:<10} {value}"));
    show("path", printable(path.as_bytes()))?;
    show("kind", if is_directory { "directory" } else { "file" }.into())?;
    show("mode", format!("{}  uid {}  gid {}", mode_text(is_directory, attr.mode), attr.uid, attr.gid))?;
    show("modified", format!("{} UTC", date(attr.mtime_ms)))?;
    show("id", format!("{}  version {}  mount {}", attr.file_id, attr.version, attr.mount_id))?;
    if let Some(cached) = cached {
        show("size", format!("{} ({})", attr.size, ByteSize(attr.size)))?;
        let percent = if attr.size == 0 { 100.0 } else { cached.any_bytes as f64 * 100.0 / attr.size as f64 };
        show(
            "cached",
            format!(
                "{} ({percent:.1} %): {} in memory, {} on SSD",
                cached.any_bytes,
                ByteSize(cached.mem_bytes),
                ByteSize(cached.ssd_bytes)
            ),
        )?;
    }
    output.flush()
}

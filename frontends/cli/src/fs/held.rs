//! What the workers hold of many files, asked for in batches.

use crate::failure::Failure;
use forebay_base::{FileId, Version};
use forebay_client::Client;
use forebay_client::message::data::CachedBytes;
use forebay_client::message::namespace::{Attr, KIND_DIRECTORY};

/// How many files are asked for together.
pub(crate) const BATCH_FILES: usize = 1024;

/// What is cached of each; nothing of directories.
pub(crate) async fn held(client: &Client, what: &str, attrs: &[&Attr]) -> Result<Vec<CachedBytes>, Failure> {
    let files: Vec<(usize, (FileId, Version))> = attrs
        .iter()
        .enumerate()
        .filter(|(_, attr)| attr.kind != KIND_DIRECTORY && attr.size > 0)
        .map(|(index, attr)| (index, (FileId(attr.file_id), Version(attr.version))))
        .collect();
    let mut all = vec![CachedBytes::default(); attrs.len()];
    if files.is_empty() {
        return Ok(all);
    }
    let asked: Vec<(FileId, Version)> = files.iter().map(|(_, file)| *file).collect();
    let found = client.cached(&asked).await.map_err(|error| Failure::of(what, "workers", &error))?;
    for ((index, _), cached) in files.into_iter().zip(found) {
        all[index] = cached;
    }
    Ok(all)
}

/// `97.5%`, `-` for a directory. An empty file is always there.
pub(crate) fn percent(attr: &Attr, cached: &CachedBytes) -> String {
    match (attr.kind, attr.size) {
        (KIND_DIRECTORY, _) => "-".into(),
        (_, 0) => "100%".into(),
        (_, size) if cached.any_bytes >= size => "100%".into(),
        // Never rounded up to all of it.
        (_, size) => format!("{:.1}%", (cached.any_bytes as f64 * 1000.0 / size as f64).floor() / 10.0),
    }
}

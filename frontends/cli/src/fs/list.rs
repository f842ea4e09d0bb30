//! `fs ls`: streams, so that a directory of millions needs no memory and `| head` ends at once.

use super::walk::{Met, Walk, resolve};
use crate::failure::Failure;
use crate::output::{Output, date, printable};
use forebay_base::ByteSize;
use forebay_client::Client;
use forebay_client::message::namespace::{Attr, KIND_DIRECTORY};
use serde_json::{Value, json};

/// How `ls` looks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    pub(crate) recursive: bool,
    pub(crate) human: bool,
    pub(crate) json: bool,
}

/// Lists a file, a directory, or a tree.
pub(crate) async fn list(client: &Client, path: &str, style: Style) -> Result<(), Failure> {
    let attr = resolve(client, "fs ls", path).await?;
    let mut output = Output::open();
    let is_array = style.json && !style.recursive;
    let mut shown = 0u64;
    let mut failures = String::new();
    let mut show = |output: &mut Output, path: &[u8], attr: &Attr| {
        if is_array {
            output.bytes(if shown == 0 { b"[\n" } else { b",\n" })?;
        }
        shown += 1;
        let name = if style.recursive { path } else { last_name(path) };
        if style.json {
            let text = as_json(path, attr).to_string();
            if is_array { output.bytes(text.as_bytes()) } else { output.line(&text) }
        } else {
            output.line(&text_line(name, attr, style.human))
        }
    };
    if attr.kind == KIND_DIRECTORY {
        let mut walk = Walk::below(client, path.as_bytes(), &attr, style.recursive);
        while let Some(met) = walk.next().await {
            match met {
                Met::Entry(path, attr) => show(&mut output, &path, &attr)?,
                Met::Failed(path, error) => {
                    failures.push_str(&format!("fs ls: {}: {}\n", printable(&path), error.message));
                }
            }
        }
    } else {
        show(&mut output, path.as_bytes(), &attr)?;
    }
    if is_array {
        output.bytes(if shown == 0 { b"[]\n" } else { b"\n]\n" })?;
    }
    output.flush()?;
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').find(|name| !name.is_empty()).unwrap_or(b"/")
}

fn text_line(name: &[u8], attr: &Attr, human: bool) -> String {
    let is_directory = attr.kind == KIND_DIRECTORY;
    let size = match (is_directory, human) {
        (true, _) => "-".to_string(),
        (false, true) => ByteSize(attr.size).to_string(),
        (false, false) => attr.size.to_string(),
    };
    let width = if human { 9 } else { 14 };
    format!(
        "{}  {size:>width$}  {}  {}{}",
        mode_text(is_directory, attr.mode),
        date(attr.mtime_ms),
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

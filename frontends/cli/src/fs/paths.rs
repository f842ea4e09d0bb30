//! From the arguments of a command to what they name: absolute paths, with wildcards expanded against the namespace.

use super::glob::Glob;
use super::walk::{Met, Walk, join};
use crate::failure::{Failure, NOT_FOUND};
use crate::output::printable;
use forebay_base::{ErrorKind, FileId};
use forebay_client::Client;
use forebay_client::message::namespace::{Attr, KIND_DIRECTORY};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Most paths that wildcards may stand for.
const EXPANDED_MAX: usize = 1_000_000;

/// Something that exists.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) path: Vec<u8>,
    pub(crate) attr: Attr,
}

impl Named {
    pub(crate) fn is_directory(&self) -> bool {
        self.attr.kind == KIND_DIRECTORY
    }

    /// For messages.
    pub(crate) fn shown(&self) -> String {
        printable(&self.path)
    }
}

/// The path without a slash at its end; it must be absolute.
pub(crate) fn absolute<'a>(what: &str, argument: &'a OsStr) -> Result<&'a [u8], Failure> {
    let mut path = argument.as_bytes();
    if !path.starts_with(b"/") {
        let shown = printable(path);
        return Err(Failure::usage(format!(
            "{what}: {shown}: want an absolute path in the namespace, such as /data/x"
        )));
    }
    while path.len() > 1 && path.ends_with(b"/") {
        path = &path[..path.len() - 1];
    }
    Ok(path)
}

/// What a path names, taken as it is.
pub(crate) async fn exact(client: &Client, what: &str, argument: &OsStr) -> Result<Named, Failure> {
    let path = absolute(what, argument)?;
    let attr = client.resolve(path).await.map_err(|error| Failure::of(what, &printable(path), &error))?;
    Ok(Named { path: path.to_vec(), attr })
}

/// What the arguments name, in their order, wildcards expanded. All must exist.
pub(crate) async fn named(client: &Client, what: &str, arguments: &[OsString]) -> Result<Vec<Named>, Failure> {
    let mut all = Vec::with_capacity(arguments.len());
    for argument in arguments {
        let path = absolute(what, argument)?;
        let parts: Option<Vec<Glob>> = std::str::from_utf8(path)
            .ok()
            .filter(|text| text.contains(['*', '?', '[', '\\']))
            .map(|text| text.split('/').skip(1).map(Glob::new).collect());
        match parts {
            None => all.push(exact(client, what, argument).await?),
            Some(parts) => expand(client, what, path, &parts, &mut all).await?,
        }
    }
    Ok(all)
}

/// The same for a command that works on files alone.
pub(crate) async fn files(client: &Client, what: &str, arguments: &[OsString]) -> Result<Vec<Named>, Failure> {
    let all = named(client, what, arguments).await?;
    match all.iter().find(|named| named.is_directory()) {
        Some(directory) => Err(Failure::failed(format!("{what}: {}: is a directory, want a file", directory.shown()))),
        None => Ok(all),
    }
}

async fn expand(
    client: &Client,
    what: &str,
    pattern: &[u8],
    parts: &[Glob],
    all: &mut Vec<Named>,
) -> Result<(), Failure> {
    let root = client.resolve(b"/").await.map_err(|error| Failure::of(what, "/", &error))?;
    let mut found = vec![Named { path: b"/".to_vec(), attr: root }];
    for part in parts {
        let mut next = Vec::new();
        for directory in found.iter().filter(|named| named.is_directory()) {
            if let Some(name) = part.literal() {
                match client.lookup(FileId(directory.attr.file_id), name.as_bytes()).await {
                    Ok(attr) => next.push(Named { path: join(&directory.path, name.as_bytes()), attr }),
                    Err(error) if error.kind == ErrorKind::NotFound => {}
                    Err(error) => return Err(Failure::of(what, &directory.shown(), &error)),
                }
                continue;
            }
            let mut walk = Walk::below(client, &directory.path, &directory.attr, false);
            while let Some(met) = walk.next().await {
                match met {
                    Met::Entry(path, attr) => {
                        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                        if part.matches(name, true) {
                            next.push(Named { path, attr });
                        }
                    }
                    Met::Failed(path, error) => return Err(Failure::of(what, &printable(&path), &error)),
                }
            }
            if next.len() > EXPANDED_MAX {
                let message = format!("{what}: {}: stands for more than {EXPANDED_MAX} paths", printable(pattern));
                return Err(Failure::usage(message));
            }
        }
        found = next;
    }
    if found.is_empty() {
        let shown = printable(pattern);
        let hint = "no path matches; put a \\ before *, ?, [ or \\ that is part of a name";
        return Err(Failure::coded(NOT_FOUND, format!("{what}: {shown}: {hint}")));
    }
    all.append(&mut found);
    Ok(())
}

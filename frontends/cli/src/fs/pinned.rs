//! Which paths are pinned, as verbs ask that only show it or heed it.

use crate::failure::Failure;
use forebay_client::Client;
use forebay_client::message::namespace::ListPathPolicies;
use std::collections::BTreeSet;

/// The pinned paths.
#[derive(Default, Debug)]
pub(crate) struct Pinned(BTreeSet<String>);

impl Pinned {
    /// Asks the master.
    pub(crate) async fn ask(client: &Client, what: &str) -> Result<Self, Failure> {
        let all = client.master(&ListPathPolicies::default()).await;
        let all = all.map_err(|error| Failure::of(what, "pins", &error))?.policies;
        Ok(Self(all.into_iter().filter(|policy| policy.pin == Some(true)).map(|policy| policy.path).collect()))
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    /// The path that pins this one: itself, or the nearest above it.
    pub(crate) fn above(&self, path: &[u8]) -> Option<&str> {
        let mut path = std::str::from_utf8(path).unwrap_or_default();
        loop {
            let known = self.0.get(if path.is_empty() { "/" } else { path });
            if known.is_some() || path.is_empty() {
                return known.map(String::as_str);
            }
            path = &path[..path.rfind('/').unwrap_or_default()];
        }
    }

    /// A pinned path below this one.
    pub(crate) fn below(&self, path: &[u8]) -> Option<&str> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let is_below = |pin: &&str| pin.as_bytes().strip_prefix(path).is_some_and(|rest| rest.starts_with(b"/"));
        self.paths().find(is_below)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn above_and_below() {
        let pinned = Pinned(["/a/b".to_string(), "/c".into()].into());
        assert_eq!(pinned.above(b"/a/b"), Some("/a/b"));
        assert_eq!(pinned.above(b"/a/b/c/d"), Some("/a/b"));
        assert_eq!((pinned.above(b"/a"), pinned.above(b"/a/bc"), pinned.above(b"/")), (None, None, None));
        assert_eq!((pinned.below(b"/a"), pinned.below(b"/"), pinned.below(b"/c")), (Some("/a/b"), Some("/a/b"), None));
        let all = Pinned(["/".to_string()].into());
        assert_eq!((all.above(b"/x/y"), all.above(b"/")), (Some("/"), Some("/")));
    }
}

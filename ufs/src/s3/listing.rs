//! Pages of ListObjectsV2, and the children of a directory made of them.
//!
//! Keys come in the order of their bytes, so that an object `a` and the keys `a/...` may lie pages apart: whether a
//! prefix has an object of the same name on an earlier page is asked for where that is possible.

use super::object::{Facts, directory_meta, strong_etag};
use crate::{failure::Failure, key::is_name, under_store::ObjectMeta};
use chrono::DateTime;
use forebay_base::ErrorKind;
use serde::Deserialize;
use std::collections::HashSet;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Page {
    contents: Vec<Content>,
    common_prefixes: Vec<CommonPrefix>,
    is_truncated: bool,
    next_continuation_token: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Content {
    key: String,
    size: u64,
    last_modified: String,
    #[serde(rename = "ETag")]
    e_tag: String,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct CommonPrefix {
    prefix: String,
}

/// Keys without what all of them begin with.
pub(super) type Keys = Vec<(String, Facts)>;

/// The children that one page names.
pub(super) struct Children {
    pub(super) entries: Vec<ObjectMeta>,
    /// Names of `entries` that are directories and may be objects on an earlier page.
    pub(super) doubtful: Vec<String>,
    /// Whether the page had anything at all, shown or not: then the directory exists.
    pub(super) is_inhabited: bool,
    pub(super) next: Option<String>,
}

pub(super) fn parse(text: &str) -> Result<Page, Failure> {
    // Any other document would read as an empty listing.
    if !text.contains("<ListBucketResult") {
        return Err(Failure::new(ErrorKind::Corrupt, "the answer is no listing: is the endpoint an S3 store?"));
    }
    quick_xml::de::from_str(text)
        .map_err(|error| Failure::new(ErrorKind::Corrupt, format!("the listing cannot be read: {error}")))
}

impl Page {
    pub(super) fn is_inhabited(&self) -> bool {
        !self.contents.is_empty() || !self.common_prefixes.is_empty()
    }

    /// Whether anything but the marker of the directory itself is there.
    pub(super) fn has_more_than(&self, marker: &str) -> bool {
        !self.common_prefixes.is_empty() || self.contents.iter().any(|content| content.key != marker)
    }

    /// The rests of all keys of a page, whether a path can name them or not, and where the next page begins.
    pub(super) fn keys_below(self, prefix: &str) -> Result<(Keys, Option<String>), Failure> {
        let next = self.next()?;
        let mut keys = Vec::with_capacity(self.contents.len());
        for content in &self.contents {
            let rest = content.key.strip_prefix(prefix);
            let rest = rest.ok_or_else(|| Failure::new(ErrorKind::Corrupt, "the listing has keys of elsewhere"))?;
            keys.push((rest.to_string(), content.facts()));
        }
        Ok((keys, next))
    }

    fn next(&self) -> Result<Option<String>, Failure> {
        let next = self.next_continuation_token.clone().filter(|token| !token.is_empty());
        if self.is_truncated && next.is_none() {
            return Err(Failure::new(ErrorKind::Corrupt, "the listing goes on, but the store does not say where"));
        }
        Ok(next.filter(|_| self.is_truncated))
    }

    /// `prefix` is the directory's, with its slash; `is_first` tells that no page came before.
    pub(super) fn children(self, prefix: &str, is_first: bool) -> Result<Children, Failure> {
        let is_inhabited = self.is_inhabited();
        let next = self.next()?;
        let first = self
            .contents
            .iter()
            .map(|content| content.key.as_str())
            .chain(self.common_prefixes.iter().map(|common| common.prefix.as_str()))
            .min()
            .and_then(|key| key.strip_prefix(prefix))
            .unwrap_or("")
            .to_string();
        let mut entries = Vec::with_capacity(self.contents.len() + self.common_prefixes.len());
        for content in &self.contents {
            // The directory's own marker is the prefix itself; markers of others end in a slash and are prefixes too.
            match content.key.strip_prefix(prefix) {
                Some("") => {}
                Some(name) if is_name(name) => entries.push(content.facts().meta(name)),
                _ => tracing::debug!(prefix, key = content.key, "a key that is no path is left out"),
            }
        }
        let files: HashSet<String> = entries.iter().map(|meta| meta.name.clone()).collect();
        let mut doubtful = Vec::new();
        for common in &self.common_prefixes {
            match common.prefix.strip_prefix(prefix).and_then(|rest| rest.strip_suffix('/')) {
                Some(name) if is_name(name) => {
                    if files.contains(name) {
                        continue;
                    }
                    entries.push(directory_meta(name));
                    // An object `name` sorts before the first key of this page only if that begins with it.
                    if !is_first && first.starts_with(name) {
                        doubtful.push(name.to_string());
                    }
                }
                _ => tracing::debug!(prefix, key = common.prefix, "a prefix that is no path is left out"),
            }
        }
        Ok(Children { entries, doubtful, is_inhabited, next })
    }
}

impl Content {
    fn facts(&self) -> Facts {
        let mtime = DateTime::parse_from_rfc3339(&self.last_modified).ok();
        Facts {
            size: self.size,
            mtime_s: mtime.and_then(|time| time.timestamp().try_into().ok()).unwrap_or(0),
            etag: strong_etag(&self.e_tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(keys: &[&str], prefixes: &[&str], next: Option<&str>) -> String {
        let contents: String = keys
            .iter()
            .map(|key| {
                format!(
                    "<Contents><Key>{key}</Key><LastModified>2026-11-23T20:00:00.123Z</LastModified>\
                     <ETag>&quot;e&quot;</ETag><Size>3</Size></Contents>\n"
                )
            })
            .collect();
        let prefixes: String = prefixes
            .iter()
            .map(|prefix| format!("<CommonPrefixes><Prefix>{prefix}</Prefix></CommonPrefixes>"))
            .collect();
        let token = next.map_or(String::new(), |next| {
            format!("<IsTruncated>true</IsTruncated><NextContinuationToken>{next}</NextContinuationToken>")
        });
        format!("<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name>{contents}{prefixes}{token}</ListBucketResult>")
    }

    fn names(children: &Children) -> Vec<&str> {
        children.entries.iter().map(|meta| meta.name.as_str()).collect()
    }

    #[test]
    fn children_are_what_a_path_can_name() {
        let text = page(
            &["p/", "p/a&amp;b", "p/ lead", "p/trail ", "p/c+d%20&#x4e16;", "p/.", "p/&#13;x", "q/else"],
            &["p/d/", "p//", "p/../", "p/a&amp;b/"],
            Some("t=&amp;"),
        );
        let children = parse(&text).unwrap().children("p/", true).unwrap();
        assert_eq!(names(&children), ["a&b", " lead", "trail ", "c+d%20\u{4e16}", "\rx", "d"]);
        assert_eq!(children.next.as_deref(), Some("t=&"));
        let first = &children.entries[0];
        assert_eq!((first.size, first.mtime_ms, first.fingerprint.0.as_str()), (3, 1_795_464_000_000, "etag:\"e\""));
        assert!(children.is_inhabited && children.doubtful.is_empty());
    }

    #[test]
    fn a_prefix_may_be_an_object_of_an_earlier_page() {
        let text = page(&["p/a-b", "p/z"], &["p/a/", "p/c/"], None);
        assert_eq!(parse(&text).unwrap().children("p/", false).unwrap().doubtful, ["a"]);
        assert!(parse(&text).unwrap().children("p/", true).unwrap().doubtful.is_empty());
    }

    #[test]
    fn nothing_and_nonsense() {
        let empty = parse(&page(&[], &[], None)).unwrap().children("p/", true).unwrap();
        assert!(!empty.is_inhabited && empty.entries.is_empty() && empty.next.is_none());
        assert!(parse("<html></html>").is_err());
        let cut = "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>";
        assert!(parse(cut).unwrap().children("", true).is_err());
    }
}

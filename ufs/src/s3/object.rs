//! What headers and listings say about an object, and the fingerprint made of it.
//!
//! `etag:"..."`, or `meta:size:mtime_s` where the ETag is missing or weak: then a change of equal length within one
//! second goes unnoticed. Times are whole seconds: HEAD has no finer ones, and listings must say the same.

use crate::{
    failure::Failure,
    under_store::{ObjectKind, ObjectMeta},
};
use chrono::DateTime;
use forebay_base::{ErrorKind, Fingerprint};
use http::{HeaderMap, header};

/// The facts of one object, wherever they come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Facts {
    pub(super) size: u64,
    pub(super) mtime_s: u64,
    /// Strong and quoted.
    pub(super) etag: Option<String>,
}

impl Facts {
    /// `size` is given where Content-Length is not the object's.
    pub(super) fn of_headers(headers: &HeaderMap, size: Option<u64>) -> Result<Facts, Failure> {
        let text = |name| headers.get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        let size = size.or_else(|| text(header::CONTENT_LENGTH)?.parse().ok());
        let size = size.ok_or_else(|| Failure::new(ErrorKind::Corrupt, "the answer has no length"))?;
        let mtime = text(header::LAST_MODIFIED).and_then(|value| DateTime::parse_from_rfc2822(value).ok());
        Ok(Facts {
            size,
            mtime_s: mtime.and_then(|time| time.timestamp().try_into().ok()).unwrap_or(0),
            etag: text(header::ETAG).and_then(strong_etag),
        })
    }

    pub(super) fn fingerprint(&self) -> Fingerprint {
        match &self.etag {
            Some(etag) => Fingerprint(format!("etag:{etag}")),
            None => Fingerprint(format!("meta:{}:{}", self.size, self.mtime_s)),
        }
    }

    /// Whether a copy of this object is one of that.
    pub(super) fn same_content(&self, other: &Facts) -> bool {
        (self.size, &self.etag) == (other.size, &other.etag)
    }

    pub(super) fn meta(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: name.to_string(),
            kind: ObjectKind::File,
            size: self.size,
            mtime_ms: self.mtime_s.saturating_mul(1000),
            mode: None,
            owner: None,
            fingerprint: self.fingerprint(),
        }
    }
}

pub(super) fn directory_meta(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: name.to_string(),
        kind: ObjectKind::Directory,
        size: 0,
        mtime_ms: 0,
        mode: None,
        owner: None,
        fingerprint: Fingerprint::default(),
    }
}

/// Some stores leave the quotes out in one place or another.
pub(super) fn strong_etag(text: &str) -> Option<String> {
    let inner = text.trim().trim_matches('"');
    let is_usable = !inner.is_empty() && inner.bytes().all(|byte| (0x21..0x7f).contains(&byte) && byte != b'"');
    (is_usable && !text.trim().starts_with("W/")).then(|| format!("\"{inner}\""))
}

/// A Content-Range: first byte, last byte, size of the object.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64, u64)> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes ")?;
    let (range, size) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?, size.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_and_what_stands_in_for_them() {
        assert_eq!(strong_etag("\"ab-2\""), Some("\"ab-2\"".into()));
        assert_eq!(strong_etag("ab"), Some("\"ab\"".into()));
        for bad in ["", "\"\"", "W/\"ab\"", "\"a b\"", "\"a\u{fc}\""] {
            assert_eq!(strong_etag(bad), None, "{bad}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, "5".parse().unwrap());
        headers.insert(header::LAST_MODIFIED, "Mon, 23 Nov 2026 20:00:00 GMT".parse().unwrap());
        assert_eq!(Facts::of_headers(&headers, None).unwrap().fingerprint().0, "meta:5:1795464000");
        headers.insert(header::ETAG, "\"x\"".parse().unwrap());
        let facts = Facts::of_headers(&headers, Some(9)).unwrap();
        assert_eq!((facts.fingerprint().0.as_str(), facts.size), ("etag:\"x\"", 9));
        assert!(Facts::of_headers(&HeaderMap::new(), None).is_err());
    }

    #[test]
    fn content_ranges() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(parse("bytes 0-4/10"), Some((0, 4, 10)));
        for bad in ["bytes */10", "bytes 0-4", "0-4/10", "bytes a-b/c", "bytes 5/10"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}

//! Mount URIs: `s3://bucket[/prefix]` and `file:///absolute/dir`. Pure parsing; bytes are taken literally, nothing is
//! percent-decoded.

use crate::{failure::Failure, key::is_name, under_store::StoreError};
use forebay_base::ErrorKind;
use std::fmt;

const ALLOWED: &str = "want s3://bucket, s3://bucket/prefix or file:///absolute/directory";

/// A parsed mount URI. Its text form is the normal form: no trailing slash.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StoreUri {
    /// A bucket and the prefix of every key, without leading or trailing slash.
    S3 {
        /// The bucket.
        bucket: String,
        /// The prefix; may be empty.
        prefix: String,
    },
    /// An absolute directory, without trailing slash; `/` for the root of the file system.
    File {
        /// The directory.
        directory: String,
    },
}

impl StoreUri {
    /// `s3` or `file`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            StoreUri::S3 { .. } => "s3",
            StoreUri::File { .. } => "file",
        }
    }
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUri::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            StoreUri::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            StoreUri::File { directory } => write!(f, "file://{directory}"),
        }
    }
}

/// Reads a mount URI; the error names the URI and what is allowed.
pub fn parse_uri(uri: &str) -> Result<StoreUri, StoreError> {
    let wrong = |why: String| Failure::new(ErrorKind::Invalid, why).at(&without_user(uri), "open", "");
    let Some((scheme, rest)) = uri.split_once("://") else {
        return Err(wrong(format!("not a store URI; {ALLOWED}")));
    };
    match scheme {
        "s3" => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.contains('@') {
                return Err(wrong(
                    "credentials do not belong into the URI: give options access_key and secret_key".into(),
                ));
            }
            let fits = (3..=63).contains(&bucket.len())
                && bucket.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            if !fits {
                return Err(wrong(format!(
                    "\"{}\" cannot be a bucket: want 3 to 63 letters, digits, dots, dashes or underscores",
                    bucket.escape_debug()
                )));
            }
            let prefix = prefix.trim_end_matches('/');
            check_components(prefix).map_err(wrong)?;
            Ok(StoreUri::S3 { bucket: bucket.to_string(), prefix: prefix.to_string() })
        }
        "file" => {
            if !rest.starts_with('/') {
                return Err(wrong(format!("the directory must be absolute, with three slashes; {ALLOWED}")));
            }
            let directory = rest.trim_end_matches('/');
            check_components(directory.strip_prefix('/').unwrap_or("")).map_err(wrong)?;
            let directory = if directory.is_empty() { "/" } else { directory };
            Ok(StoreUri::File { directory: directory.to_string() })
        }
        other => Err(Failure::new(ErrorKind::Unsupported, format!("unknown scheme \"{other}\"; {ALLOWED}")).at(
            &without_user(uri),
            "open",
            "",
        )),
    }
}

fn check_components(path: &str) -> Result<(), String> {
    match path.split('/').find(|name| !is_name(name)) {
        Some(name) if !path.is_empty() => {
            Err(format!("the path has the component \"{}\"; empty, . and .. are not allowed", name.escape_debug()))
        }
        _ => Ok(()),
    }
}

/// A URI for error messages: what looks like user:password is hidden.
fn without_user(uri: &str) -> String {
    if let Some((scheme, rest)) = uri.split_once("://") {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if let Some((_, host)) = authority.rsplit_once('@') {
            return format!("{scheme}://***@{host}{path}");
        }
    }
    uri.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_uris_have_a_normal_form() {
        for (text, normal) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://my.bucket/a b/%41/", "s3://my.bucket/a b/%41"),
            ("file:///data", "file:///data"),
            ("file:///data/x//", "file:///data/x"),
            ("file:///", "file:///"),
        ] {
            assert_eq!(parse_uri(text).unwrap().to_string(), normal);
        }
    }

    #[test]
    fn bad_uris_are_named_with_what_is_allowed() {
        for (text, expected) in [
            ("", "s3://bucket"),
            ("/data", "s3://bucket"),
            ("ftp://x/y", "unknown scheme \"ftp\""),
            ("s3://", "bucket"),
            ("s3:///x", "bucket"),
            ("s3://b?x/y", "bucket"),
            ("s3://bucket/a//b", "component"),
            ("s3://bucket//a", "component"),
            ("file://data", "three slashes"),
            ("file:///a/../b", "component"),
        ] {
            let message = parse_uri(text).unwrap_err().to_string();
            assert!(message.contains(expected) && message.contains(text), "{message}");
        }
        let message = parse_uri("s3://key:hunter2@bucket/x").unwrap_err().to_string();
        assert!(!message.contains("hunter2") && message.contains("access_key"), "{message}");
    }

    proptest! {
        #[test]
        fn never_panics_and_normal_forms_are_fixed_points(text in "(s3|file|x)?(://)?[a-z/.@:]{0,20}") {
            if let Ok(uri) = parse_uri(&text) {
                prop_assert_eq!(parse_uri(&uri.to_string()).unwrap(), uri);
            }
        }
    }
}

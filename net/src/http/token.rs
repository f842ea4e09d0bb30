//! The token of HTTP callers: read once, compared in constant time, never logged or shown.

use super::HttpRequest;
use crate::NetError;
use forebay_base::KindError;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

/// Shortest token, in bytes: it must not be guessed by trying.
const TOKEN_BYTES_MIN: usize = 16;
/// Longest one, in bytes.
const TOKEN_BYTES_MAX: usize = 256;

/// What a caller must know; never empty.
#[derive(Clone)]
pub struct HttpToken(Arc<str>);

impl HttpToken {
    /// Reads the token from its file, without white space at either end; no path means that nobody has one.
    pub fn load(path: Option<&Path>) -> Result<Option<HttpToken>, KindError> {
        Ok(path.map(Self::read).transpose()?)
    }

    fn read(path: &Path) -> Result<HttpToken, NetError> {
        let wrong = |error: String| NetError::HttpTokenFile { path: path.into(), error };
        let mode = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.permissions().mode();
        if mode & 0o007 != 0 {
            tracing::warn!(path = %path.display(), "every user of this host can read the HTTP token: chmod 600 it");
        }
        let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
        let token = bytes.trim_ascii();
        let text = std::str::from_utf8(token).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
        match text.filter(|text| (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&text.len())) {
            Some(text) => Ok(HttpToken(Arc::from(text))),
            None => Err(wrong(format!(
                "got {} bytes, want {TOKEN_BYTES_MIN} to {TOKEN_BYTES_MAX} printable ASCII characters without spaces",
                token.len()
            ))),
        }
    }

    /// Whether the request carries it. A wrong token takes as long as the right one.
    #[must_use]
    pub fn is_in(&self, request: &HttpRequest) -> bool {
        let given = request.bearer.as_deref().unwrap_or_default().as_bytes();
        let differ = self.0.bytes().enumerate().fold(u8::from(given.len() != self.0.len()), |differ, (at, wanted)| {
            differ | (given.get(at).copied().unwrap_or_default() ^ wanted)
        });
        std::hint::black_box(differ) == 0
    }
}

impl fmt::Debug for HttpToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HttpToken(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::super::HttpMethod;
    use super::*;

    fn written(text: &str) -> Result<Option<HttpToken>, KindError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("token");
        std::fs::write(&path, text).expect("written");
        HttpToken::load(Some(&path))
    }

    #[test]
    fn only_the_whole_token_is_the_token() {
        let token = written(" 0123456789abcdef\n").expect("good").expect("there");
        let carries = |bearer: Option<&str>| {
            token.is_in(&HttpRequest {
                method: HttpMethod::Get,
                path: "/".into(),
                query: Vec::new(),
                bearer: bearer.map(Into::into),
                body: bytes::Bytes::new(),
            })
        };
        assert!(carries(Some("0123456789abcdef")));
        for wrong in [None, Some(""), Some("0123456789abcde"), Some("0123456789abcdef0"), Some("0123456789abcdeF")] {
            assert!(!carries(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "HttpToken(***)");
    }

    #[test]
    fn what_is_no_token_is_refused_with_the_setting() {
        assert!(HttpToken::load(None).expect("none is good").is_none());
        for bad in ["", "short", "sixteen and more bytes", "0123456789abcdef\u{e9}"] {
            let error = written(bad).expect_err(bad);
            assert!(
                error.message.contains("cluster.http_token_file") && error.message.contains("16 to 256"),
                "{error}"
            );
        }
        assert!(HttpToken::load(Some(Path::new("/nonexistent"))).is_err());
    }
}

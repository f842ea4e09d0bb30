//! What a backend's inner code reports before it is known which store, operation and key it belongs to.

use crate::under_store::StoreError;
use forebay_base::ErrorKind;

/// A kind and what to say; `at` makes the full error of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into() }
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Failure::new(ErrorKind::Unavailable, message)
    }

    /// Nobody waits for the end of an upload any more.
    pub(crate) fn abandoned() -> Self {
        Failure::new(ErrorKind::Closed, "whoever asked for it has gone: it was not written")
    }

    /// Another number of bytes came than was announced.
    pub(crate) fn wrong_size(got: u64, announced: u64) -> Self {
        Failure::new(ErrorKind::Invalid, format!("got {got} bytes, want the {announced} that were announced"))
    }

    pub(crate) fn at(self, store: &str, operation: &'static str, key: &str) -> StoreError {
        StoreError {
            kind: self.kind,
            store: store.to_string(),
            operation,
            key: key.to_string(),
            message: one_line(&self.message),
        }
    }
}

/// What a server sends may hold line breaks and may be long; an error is one line for people.
fn one_line(text: &str) -> String {
    const MAX_CHARS: usize = 600;
    let joined = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if joined.chars().count() <= MAX_CHARS {
        return joined;
    }
    joined.chars().take(MAX_CHARS).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_short_line() {
        let error = Failure::unavailable(format!("a\n\tb\r\n{}", "x".repeat(5000))).at("s3://b", "stat", "k");
        let text = error.to_string();
        assert!(text.starts_with("s3://b: stat \"k\": a b x"), "{text}");
        assert!(!text.contains('\n') && text.len() < 700);
    }
}

//! What a write says of the content that it may replace, and what a refusal of that means.
//!
//! Servers that do not look at a condition are asked just before; the condition stays for those that do.

use super::{
    S3Inner,
    client::{Call, Trouble},
};
use crate::{failure::Failure, upload::WriteMode};
use forebay_base::{ErrorKind, Fingerprint};
use http::{HeaderValue, StatusCode, header};

/// Adds the condition to a request.
pub(super) fn set(call: &mut Call<'_>, mode: &WriteMode) {
    match mode {
        WriteMode::Replace => return,
        WriteMode::CreateOnly => {
            call.headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        WriteMode::ReplaceOnly(fingerprint) => {
            if let Some(etag) = etag_of(fingerprint).and_then(|etag| HeaderValue::from_str(etag).ok()) {
                call.headers.insert(header::IF_MATCH, etag);
            }
        }
    }
    // Sent again after an answer was lost, it would meet its own object and report a conflict.
    call.is_repeatable = false;
}

/// The ETag that a fingerprint was made of; none where it stands for a size and a time.
pub(super) fn etag_of(fingerprint: &Fingerprint) -> Option<&str> {
    fingerprint.0.strip_prefix("etag:")
}

/// What a refusal of a request with this condition means.
pub(super) fn refused(trouble: Trouble, mode: &WriteMode) -> Failure {
    match trouble {
        Trouble::Refused(refusal) if refusal.status == StatusCode::PRECONDITION_FAILED => {
            failed(mode, &refusal.failure.message)
        }
        // There is nothing that could match.
        Trouble::Refused(refusal)
            if matches!(mode, WriteMode::ReplaceOnly(_)) && refusal.failure.message.starts_with("NoSuchKey") =>
        {
            failed(mode, &refusal.failure.message)
        }
        trouble => trouble.into(),
    }
}

/// The condition did not hold.
pub(super) fn failed(mode: &WriteMode, said: &str) -> Failure {
    match mode {
        WriteMode::CreateOnly => Failure::new(ErrorKind::Exists, format!("it exists already ({said})")),
        _ => Failure::new(ErrorKind::Stale, format!("it is not what was to be replaced any more ({said})")),
    }
}

impl S3Inner {
    /// For servers that do not look at the condition.
    pub(super) async fn look_before(&self, full_key: &str, mode: &WriteMode) -> Result<(), Failure> {
        if *mode == WriteMode::Replace {
            return Ok(());
        }
        let found = self.head_if_there(full_key, self.gate.deadline()).await?;
        let holds = match mode {
            WriteMode::Replace => true,
            WriteMode::CreateOnly => found.is_none(),
            WriteMode::ReplaceOnly(fingerprint) => found.is_some_and(|facts| facts.fingerprint() == *fingerprint),
        };
        if holds { Ok(()) } else { Err(failed(mode, "it was written meanwhile")) }
    }
}

//! What a store's refusal means: from status and error document to a kind and one line that says what to do.

use crate::failure::Failure;
use forebay_base::ErrorKind;
use http::StatusCode;
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct Document {
    code: String,
    message: String,
    region: String,
}

pub(super) struct Refused {
    pub(super) failure: Failure,
    /// Whether the same request may succeed later.
    pub(super) is_curable: bool,
}

pub(super) fn of_response(status: StatusCode, body: &str, region: Option<&str>, bucket: &str) -> Refused {
    let document: Document = quick_xml::de::from_str(body).unwrap_or_default();
    let code = document.code.as_str();
    let said = match (code, document.message.as_str()) {
        ("", _) => format!("HTTP {status}"),
        (code, "") => format!("{code} (HTTP {})", status.as_u16()),
        (code, message) => format!("{code}: {message} (HTTP {})", status.as_u16()),
    };
    let region = Some(document.region.as_str()).filter(|region| !region.is_empty()).or(region);
    let curable = |kind, text: String| Refused { failure: Failure::new(kind, text), is_curable: true };
    let fatal = |kind, text: String| Refused { failure: Failure::new(kind, text), is_curable: false };
    match (code, status.as_u16()) {
        ("NoSuchBucket", _) => fatal(
            ErrorKind::NotFound,
            format!("bucket \"{bucket}\" does not exist: create it or correct the URI ({said})"),
        ),
        ("InvalidAccessKeyId" | "XAdminUserNotFound", _) => {
            fatal(ErrorKind::Denied, format!("the store does not know this access key: check access_key ({said})"))
        }
        ("SignatureDoesNotMatch", _) => fatal(
            ErrorKind::Denied,
            format!("the secret key does not belong to the access key: check secret_key ({said})"),
        ),
        ("RequestTimeTooSkewed", _) => fatal(ErrorKind::Denied, format!("set this host's clock right ({said})")),
        ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => {
            fatal(ErrorKind::Denied, format!("give a fresh session_token with its keys ({said})"))
        }
        ("AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException", _)
        | (_, 301 | 302 | 307 | 308) => {
            let right = region.map_or("the bucket's".to_string(), |region| format!("\"{region}\""));
            fatal(
                ErrorKind::Invalid,
                format!("the bucket is elsewhere: set region to {right} or correct endpoint ({said})"),
            )
        }
        ("SlowDown" | "InternalError" | "RequestTimeout" | "ServiceUnavailable" | "ConditionalRequestConflict", _) => {
            curable(ErrorKind::Unavailable, said)
        }
        (_, 401 | 403) => fatal(ErrorKind::Denied, format!("the store refuses these credentials ({said})")),
        (_, 404) => fatal(ErrorKind::NotFound, said),
        (_, 412) => fatal(ErrorKind::Stale, said),
        (_, 408 | 409 | 429 | 500 | 502 | 503 | 504) => curable(ErrorKind::Unavailable, said),
        (_, 507) => fatal(ErrorKind::NoSpace, said),
        (_, 501 | 405) => fatal(ErrorKind::Unsupported, said),
        (_, 400..=499) => fatal(ErrorKind::Invalid, said),
        _ => fatal(ErrorKind::Unavailable, said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, body: &str) -> Refused {
        of_response(StatusCode::from_u16(status).unwrap(), body, None, "b")
    }

    #[test]
    fn refusals_say_what_to_do() {
        let document = |code: &str| {
            format!(
                "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>m</Message><Region>r-1</Region></Error>"
            )
        };
        for (status, code, kind, expected, is_curable) in [
            (404, "NoSuchBucket", ErrorKind::NotFound, "bucket \"b\" does not exist", false),
            (404, "NoSuchKey", ErrorKind::NotFound, "NoSuchKey: m", false),
            (403, "InvalidAccessKeyId", ErrorKind::Denied, "check access_key", false),
            (403, "SignatureDoesNotMatch", ErrorKind::Denied, "check secret_key", false),
            (403, "AccessDenied", ErrorKind::Denied, "AccessDenied", false),
            (412, "PreconditionFailed", ErrorKind::Stale, "PreconditionFailed", false),
            (301, "PermanentRedirect", ErrorKind::Invalid, "set region to \"r-1\"", false),
            (400, "AuthorizationHeaderMalformed", ErrorKind::Invalid, "set region to \"r-1\"", false),
            (503, "SlowDown", ErrorKind::Unavailable, "SlowDown", true),
            (400, "InvalidArgument", ErrorKind::Invalid, "InvalidArgument", false),
        ] {
            let refused = refused(status, &document(code));
            assert_eq!((refused.failure.kind, refused.is_curable), (kind, is_curable), "{code}");
            assert!(refused.failure.message.contains(expected), "{}", refused.failure.message);
        }
        for body in ["", "<html>not found", "\u{0}"] {
            assert_eq!(refused(404, body).failure.kind, ErrorKind::NotFound);
            assert_eq!(refused(500, body).failure.kind, ErrorKind::Unavailable);
        }
    }
}

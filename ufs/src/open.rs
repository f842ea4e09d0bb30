//! From a mount's URI and options to a store. No network; reads credentials' files at most.

use crate::{
    failure::Failure,
    local::LocalStore,
    options::{OptionReader, StoreLimits},
    s3::S3Store,
    under_store::{StoreError, UnderStore},
    uri::{StoreUri, parse_uri},
};
use forebay_base::ErrorKind;
use std::sync::Arc;

/// Opens the store at `uri`. All problems of the options come in one error. Call it inside a tokio runtime; whether the
/// store answers is `check`'s to say.
pub fn open(uri: &str, options: &[(String, String)], limits: StoreLimits) -> Result<Arc<dyn UnderStore>, StoreError> {
    let parsed = parse_uri(uri)?;
    let name = parsed.to_string();
    let mut reader = OptionReader::new(parsed.scheme(), options);
    let limits = reader.limits(limits);
    let invalid = |message: String| Failure::new(ErrorKind::Invalid, message).at(&name, "open", "");
    match parsed {
        StoreUri::File { directory } => {
            reader.finish().map_err(invalid)?;
            Ok(Arc::new(LocalStore::new(name, directory.into(), limits)))
        }
        StoreUri::S3 { bucket, prefix } => {
            let config = crate::s3::config::read(&mut reader, bucket, prefix);
            reader.finish().map_err(invalid)?;
            let store = S3Store::new(name.clone(), config, limits).map_err(|failure| failure.at(&name, "open", ""))?;
            Ok(Arc::new(store))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LIMITS: StoreLimits = StoreLimits { concurrency: 4, deadline: Duration::from_secs(5), retries: 2 };

    fn options(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect()
    }

    #[tokio::test]
    async fn all_problems_come_at_once() {
        let given = options(&[("endpoin", "x"), ("deadline", "1"), ("secret_key", "hunter2")]);
        let error = open("s3://bucket/p", &given, LIMITS).err().unwrap();
        assert_eq!(error.kind, ErrorKind::Invalid);
        let text = error.to_string();
        for part in ["s3://bucket/p", "did you mean \"endpoint\"", "deadline", "access_key"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("hunter2") && !text.contains('\n'), "{text}");
    }

    #[tokio::test]
    async fn the_uri_holds_no_secret() {
        let given = options(&[("access_key", "AKIA"), ("secret_key", "hunter2"), ("endpoint", "http://127.0.0.1:9")]);
        let store = open("s3://bucket/p/", &given, LIMITS).unwrap();
        assert_eq!(store.uri(), "s3://bucket/p");
        assert_eq!(open("file:///tmp/", &[], LIMITS).unwrap().uri(), "file:///tmp");
    }
}

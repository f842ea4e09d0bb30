//! Where S3 credentials come from: given keys, a profile of the files that the AWS tools use, or the host's role.
//!
//! Keys of a profile are read when the store is opened; a role's keys are fetched and renewed by object_store.

use crate::failure::Failure;
use forebay_base::ErrorKind;
use object_store::{
    StaticCredentialProvider,
    aws::{AmazonS3Builder, AwsCredential, AwsCredentialProvider},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

pub(crate) enum Source {
    Anonymous,
    Fixed(AwsCredentialProvider),
    /// What the host or container runs as: web identity, ECS, EKS, EC2.
    Role,
}

impl Source {
    pub(super) fn fixed(key_id: String, secret_key: String, token: Option<String>) -> Self {
        Source::Fixed(Arc::new(StaticCredentialProvider::new(AwsCredential { key_id, secret_key, token })))
    }

    pub(super) fn provider(self, bucket: &str, region: &str) -> Result<Option<AwsCredentialProvider>, Failure> {
        match self {
            Source::Anonymous => Ok(None),
            Source::Fixed(provider) => Ok(Some(provider)),
            Source::Role => {
                let built = AmazonS3Builder::from_env().with_bucket_name(bucket).with_region(region).build();
                let store = built.map_err(|error| Failure::new(ErrorKind::Invalid, error.to_string()))?;
                Ok(Some(Arc::clone(store.credentials())))
            }
        }
    }
}

/// The keys of a profile; the error names the profile and the files that were looked at.
pub(super) fn profile(name: &str) -> Result<Source, String> {
    let home = std::env::var("HOME").unwrap_or_default();
    let file = |variable: &str, default: &str| {
        std::env::var(variable).map_or_else(|_| PathBuf::from(&home).join(".aws").join(default), PathBuf::from)
    };
    let files = [file("AWS_SHARED_CREDENTIALS_FILE", "credentials"), file("AWS_CONFIG_FILE", "config")];
    for path in &files {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let section = section(&text, name);
        if let (Some(key_id), Some(secret_key)) =
            (section.get("aws_access_key_id"), section.get("aws_secret_access_key"))
        {
            let token = section.get("aws_session_token").cloned();
            return Ok(Source::fixed(key_id.clone(), secret_key.clone(), token));
        }
    }
    let looked = files.map(|path| path.display().to_string()).join(" and ");
    Err(format!("profile \"{}\" has no aws_access_key_id and aws_secret_access_key in {looked}", name.escape_debug()))
}

/// The settings of `[name]` or `[profile name]` in an INI file.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            let header = header.trim();
            let of_profile = header.strip_prefix("profile ").map(str::trim);
            is_inside = header == name || of_profile == Some(name);
        } else if is_inside
            && !line.starts_with(['#', ';'])
            && let Some((key, value)) = line.split_once('=')
        {
            found.insert(key.trim().to_ascii_lowercase(), value.trim().to_string());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles() {
        let text = "# c\n[default]\naws_access_key_id=A\n[profile two]\n aws_access_key_id = B \n;x=y\n\
                    aws_secret_access_key = s=e\n[three]\naws_access_key_id=C\n";
        assert_eq!(section(text, "default")["aws_access_key_id"], "A");
        let two = section(text, "two");
        assert_eq!((two["aws_access_key_id"].as_str(), two["aws_secret_access_key"].as_str()), ("B", "s=e"));
        assert_eq!(two.len(), 2);
        assert!(section(text, "four").is_empty());
    }
}

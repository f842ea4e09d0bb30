//! The S3 options as read: which bucket where, and whose credentials. Reads the environment and credentials' files.

use super::credentials::{Source, profile};
use crate::options::OptionReader;
use reqwest::Url;

pub(crate) struct S3Config {
    pub(super) bucket: String,
    pub(super) prefix: String,
    pub(super) region: String,
    /// The URL that keys follow: with the bucket in the host or in the path, and a slash at the end.
    pub(super) base: Url,
    pub(super) source: Source,
    /// Whether conditional reads of this server are not to be relied on alone.
    pub(super) recheck: bool,
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads everything; what is wrong goes to the reader, and the result counts only if nothing was.
pub(crate) fn read(reader: &mut OptionReader<'_>, bucket: String, prefix: String) -> S3Config {
    let region = reader
        .text("region")
        .or_else(|| environment("AWS_REGION"))
        .or_else(|| environment("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| "us-east-1".to_string());
    if !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
        let text = format!("option \"region\": got \"{}\", want a name such as eu-west-1", region.escape_debug());
        reader.problem(text);
    }
    let endpoint = reader.parsed("endpoint", "http://host:port or https://host without a path", |value| {
        let url = Url::parse(value).ok()?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let is_anonymous = url.username().is_empty() && url.password().is_none();
        (matches!(url.scheme(), "http" | "https") && url.has_host() && is_bare && is_anonymous).then_some(url)
    });
    let path_style = reader.flag("path_style").unwrap_or(endpoint.is_some());
    let recheck = reader.flag("recheck").unwrap_or(endpoint.is_some());
    let source = source(reader);
    let endpoint = endpoint.or_else(|| Url::parse(&format!("https://s3.{region}.amazonaws.com")).ok());
    let base = endpoint.and_then(|endpoint| base(endpoint, &bucket, path_style));
    let base = base.unwrap_or_else(|| {
        reader.problem(format!("bucket \"{bucket}\" cannot be part of a host name: set option \"path_style\" to true"));
        Url::parse("http://invalid./").expect("a constant URL")
    });
    S3Config { bucket, prefix, region, base, source, recheck }
}

/// A dot in a bucket's name breaks TLS certificates of virtual hosts: such buckets go into the path.
fn base(mut endpoint: Url, bucket: &str, path_style: bool) -> Option<Url> {
    if path_style || (endpoint.scheme() == "https" && bucket.contains('.')) {
        endpoint.set_path(&format!("/{bucket}/"));
    } else {
        let host = format!("{bucket}.{}", endpoint.host_str()?);
        endpoint.set_host(Some(&host)).ok()?;
        endpoint.set_path("/");
    }
    Some(endpoint)
}

fn source(reader: &mut OptionReader<'_>) -> Source {
    let keys = (reader.text("access_key"), reader.text("secret_key"));
    let token = reader.text("session_token");
    let named_profile = reader.text("profile");
    let anonymous = reader.flag("anonymous").unwrap_or(false);
    let given = usize::from(keys.0.is_some() || keys.1.is_some()) + usize::from(named_profile.is_some());
    if given + usize::from(anonymous) > 1 {
        reader.problem("give one of access_key with secret_key, profile, and anonymous, not several");
    }
    if token.is_some() && keys.0.is_none() {
        reader.problem("option \"session_token\" needs access_key and secret_key");
    }
    match keys {
        _ if anonymous => return Source::Anonymous,
        (Some(key_id), Some(secret_key)) => return Source::fixed(key_id, secret_key, token),
        (None, None) => {}
        (Some(_), None) => reader.problem("option \"access_key\" needs secret_key"),
        (None, Some(_)) => reader.problem("option \"secret_key\" needs access_key"),
    }
    if let Some(name) = named_profile {
        return match profile(&name) {
            Ok(source) => source,
            Err(problem) => {
                reader.problem(problem);
                Source::Anonymous
            }
        };
    }
    if let (Some(key_id), Some(secret_key)) = (environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY")) {
        return Source::fixed(key_id, secret_key, environment("AWS_SESSION_TOKEN"));
    }
    let default = environment("AWS_PROFILE").unwrap_or_else(|| "default".to_string());
    profile(&default).unwrap_or(Source::Role)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(pairs: &[(&str, &str)]) -> Result<S3Config, String> {
        let options: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
        let mut reader = OptionReader::new("s3", &options);
        let config = read(&mut reader, "my.bucket".into(), "p".into());
        reader.finish().map(|()| config)
    }

    #[test]
    fn where_the_bucket_goes() {
        let base = |pairs: &[(&str, &str)]| read_all(pairs).unwrap().base.to_string();
        let keys = [("access_key", "a"), ("secret_key", "b")];
        let with = |more: &[(&str, &str)]| base(&[&keys[..], more].concat());
        assert_eq!(with(&[("endpoint", "http://127.0.0.1:9000")]), "http://127.0.0.1:9000/my.bucket/");
        assert_eq!(with(&[("endpoint", "http://store:9000"), ("path_style", "false")]), "http://my.bucket.store:9000/");
        assert_eq!(with(&[("region", "eu-west-1")]), "https://s3.eu-west-1.amazonaws.com/my.bucket/");
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for (pairs, expected) in [
            (&[("access_key", "a")][..], "needs secret_key"),
            (&[("secret_key", "a")], "needs access_key"),
            (&[("anonymous", "true"), ("profile", "x")], "not several"),
            (&[("endpoint", "localhost:9000"), ("anonymous", "true")], "http://host:port"),
            (&[("endpoint", "http://u:p@h"), ("anonymous", "true")], "http://host:port"),
            (&[("endpoint", "http://h/path"), ("anonymous", "true")], "without a path"),
            (&[("region", "a b"), ("anonymous", "true")], "eu-west-1"),
            (&[("profile", "no such profile")], "no such profile"),
        ] {
            let text = read_all(pairs).err().unwrap();
            assert!(text.contains(expected), "{text}");
        }
    }
}

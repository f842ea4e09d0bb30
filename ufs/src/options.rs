//! The options of a mount: which there are, which are secret, and reading them. All problems are told at once.

use forebay_base::Span;
use std::{collections::BTreeMap, time::Duration};

/// What one mount may ask of its store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreLimits {
    /// Requests and open streams at once.
    pub concurrency: usize,
    /// How long a call, or a stream waiting for its next byte, may go without an answer, retries included.
    pub deadline: Duration,
    /// How often a failed request is tried again within the deadline.
    pub retries: u32,
}

/// One option that a mount may set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreOption {
    /// Its name.
    pub name: &'static str,
    /// Whether its value must never be shown or logged.
    pub is_secret: bool,
    /// What it takes and what it does.
    pub about: &'static str,
}

const fn option(name: &'static str, is_secret: bool, about: &'static str) -> StoreOption {
    StoreOption { name, is_secret, about }
}

const COMMON: [StoreOption; 2] = [
    option("concurrency", false, "requests at once, 1 to 4096"),
    option("deadline", false, "how long the store may stay silent, 100ms to 1h"),
];
const FILE: [StoreOption; 2] = COMMON;
const S3: [StoreOption; 11] = [
    COMMON[0],
    COMMON[1],
    option("endpoint", false, "http://host:port or https://host; AWS if absent"),
    option("region", false, "us-east-1 if neither this nor AWS_REGION is set"),
    option("path_style", false, "true or false; true if an endpoint is set"),
    option("access_key", true, "with secret_key"),
    option("secret_key", true, "with access_key"),
    option("session_token", true, "for temporary keys"),
    option("profile", false, "a profile of ~/.aws/credentials and ~/.aws/config"),
    option("anonymous", false, "true or false; requests without a signature"),
    option(
        "recheck",
        false,
        "true or false; ask after each read whether the content is still the same; true if an endpoint is set",
    ),
];

/// The options of a scheme; empty for an unknown one.
#[must_use]
pub fn known_options(scheme: &str) -> &'static [StoreOption] {
    match scheme {
        "s3" => &S3,
        "file" => &FILE,
        _ => &[],
    }
}

/// Whether an option's value must never be shown or logged. Unknown names that sound like secrets are.
#[must_use]
pub fn is_secret_option(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    S3.iter().chain(&FILE).find(|known| known.name == name).map_or_else(
        || ["secret", "token", "password", "key", "credential"].iter().any(|word| name.contains(word)),
        |known| known.is_secret,
    )
}

/// Options as given, checked against what is known; collects every problem.
pub(crate) struct OptionReader<'a> {
    given: BTreeMap<&'a str, &'a str>,
    problems: Vec<String>,
}

impl<'a> OptionReader<'a> {
    pub(crate) fn new(scheme: &str, options: &'a [(String, String)]) -> Self {
        let known = known_options(scheme);
        let mut reader = OptionReader { given: BTreeMap::new(), problems: Vec::new() };
        for (name, value) in options {
            if !known.iter().any(|option| option.name == name) {
                reader.problem(unknown(name, scheme, known));
            } else if reader.given.insert(name, value).is_some() {
                reader.problem(format!("option \"{name}\" is given twice"));
            }
        }
        reader
    }

    pub(crate) fn problem(&mut self, text: impl Into<String>) {
        self.problems.push(text.into());
    }

    /// A value as it is; absent or empty is `None`.
    pub(crate) fn text(&mut self, name: &str) -> Option<String> {
        self.given.get(name).filter(|value| !value.is_empty()).map(|value| (*value).to_string())
    }

    /// A value that `parse` understands; a problem that shows the value (never a secret one) otherwise.
    pub(crate) fn parsed<T>(&mut self, name: &str, want: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = *self.given.get(name)?;
        let parsed = parse(value);
        if parsed.is_none() {
            let shown = if is_secret_option(name) { "***" } else { value };
            self.problem(format!("option \"{name}\": got \"{}\", want {want}", shown.escape_debug()));
        }
        parsed
    }

    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        self.parsed(name, "true or false", |value| value.parse().ok())
    }

    /// The mount's limits with what the options override.
    pub(crate) fn limits(&mut self, mut limits: StoreLimits) -> StoreLimits {
        let concurrency = |value: &str| value.parse().ok().filter(|count| (1..=4096).contains(count));
        if let Some(count) = self.parsed("concurrency", "a number from 1 to 4096", concurrency) {
            limits.concurrency = count;
        }
        let deadline = |value: &str| {
            let span = value.parse::<Span>().ok()?.duration()?;
            (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&span).then_some(span)
        };
        if let Some(deadline) = self.parsed("deadline", "a time from 100ms to 1h, such as 30s", deadline) {
            limits.deadline = deadline;
        }
        limits
    }

    /// All problems as one line.
    pub(crate) fn finish(self) -> Result<(), String> {
        if self.problems.is_empty() { Ok(()) } else { Err(self.problems.join("; ")) }
    }
}

fn unknown(name: &str, scheme: &str, known: &[StoreOption]) -> String {
    let near = known.iter().map(|option| (distance(name, option.name), option.name)).min();
    match near {
        Some((steps, near)) if steps <= 1 + name.len() / 4 => {
            format!("unknown option \"{}\" (did you mean \"{near}\"?)", name.escape_debug())
        }
        _ => {
            let names = known.iter().map(|option| option.name).collect::<Vec<_>>().join(", ");
            format!("unknown option \"{}\"; {scheme} has: {names}", name.escape_debug())
        }
    }
}

/// Edits between two names; names beyond 64 bytes are near nothing.
fn distance(a: &str, b: &str) -> usize {
    if a.len() > 64 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let cost = (diagonal + usize::from(from != *to)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = row[j + 1];
            row[j + 1] = cost;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_told_with_a_hint_and_without_secrets() {
        let options: Vec<(String, String)> =
            [("regoin", "x"), ("concurrency", "0"), ("deadline", "soon"), ("path_style", "si"), ("zzz", "1")]
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .to_vec();
        let mut reader = OptionReader::new("s3", &options);
        let limits = StoreLimits { concurrency: 4, deadline: Duration::from_secs(1), retries: 1 };
        assert_eq!(reader.limits(limits), limits);
        assert_eq!(reader.flag("path_style"), None);
        let text = reader.finish().unwrap_err();
        for part in ["did you mean \"region\"", "\"0\"", "\"soon\"", "\"si\"", "s3 has: concurrency"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn secrets() {
        for name in ["secret_key", "access_key", "session_token", "my_password", "SECRET_KEY"] {
            assert!(is_secret_option(name), "{name}");
        }
        for name in ["endpoint", "region", "deadline", "profile"] {
            assert!(!is_secret_option(name), "{name}");
        }
    }

    #[test]
    fn limits_are_overridden() {
        let options = vec![("concurrency".into(), "7".into()), ("deadline".into(), "250ms".into())];
        let mut reader = OptionReader::new("file", &options);
        let limits = reader.limits(StoreLimits { concurrency: 4, deadline: Duration::from_secs(1), retries: 1 });
        assert_eq!((limits.concurrency, limits.deadline), (7, Duration::from_millis(250)));
        assert!(reader.finish().is_ok());
    }
}

//! Takes secrets out of a text: those that are known by value, and whatever looks like one. Pure but for `new`.

use forebay_base::settings::Settings;

const MASK: &str = "***";
/// A shorter value would mask ordinary words.
const VALUE_BYTES_MIN: usize = 6;
/// Environment variables whose values are secret.
const VARIABLES: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];
/// What stands before `=` or `:` of a secret, in lower case.
const NAMES: [&str; 10] = [
    "secret_key",
    "secret_access_key",
    "access_key",
    "access_key_id",
    "session_token",
    "security-token",
    "password",
    "credential",
    "signature",
    "authorization",
];
/// Length of an S3 secret key.
const S3_SECRET_BYTES: usize = 40;
const S3_ACCESS_BYTES: usize = 20;

/// Knows what must not be seen.
pub(crate) struct Scrub {
    values: Vec<String>,
}

impl Scrub {
    /// With the values of the cluster's secret, its HTTP token, and the keys in this environment.
    pub(crate) fn new(settings: &Settings) -> Self {
        let cluster = &settings.cluster;
        let files = [&cluster.secret_file, &cluster.http_token_file].into_iter().flatten();
        let files = files.filter_map(|path| std::fs::read(path).ok());
        let files = files.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_string());
        Self::of(files.chain(VARIABLES.iter().filter_map(|name| std::env::var(name).ok())).collect())
    }

    fn of(mut values: Vec<String>) -> Self {
        // A secret of several lines is masked line by line too.
        let lines: Vec<String> = values.iter().flat_map(|value| value.lines()).map(|line| line.trim().into()).collect();
        values.extend(lines);
        values.retain(|value| value.len() >= VALUE_BYTES_MIN);
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        Self { values }
    }

    /// The text without secrets, and how many there were.
    pub(crate) fn clean(&self, text: &str) -> (String, usize) {
        let mut hidden = 0;
        let mut text = text.to_string();
        for value in &self.values {
            let times = text.matches(value.as_str()).count();
            if times > 0 {
                hidden += times;
                text = text.replace(value.as_str(), MASK);
            }
        }
        let mut clean = String::with_capacity(text.len());
        for line in text.split_inclusive('\n') {
            let (named, first) = mask_named(line);
            let (urls, second) = mask_user(&named);
            let (keys, third) = mask_keys(&urls);
            hidden += first + second + third;
            clean.push_str(&keys);
        }
        (clean, hidden)
    }
}

/// `secret_key=VALUE`, `"secret_key": "VALUE"`, `Authorization: VALUE to the end`.
fn mask_named(line: &str) -> (String, usize) {
    let lower = line.to_ascii_lowercase();
    let (mut out, mut from, mut hidden) = (String::new(), 0, 0);
    while let Some((start, end)) = next_value(&lower, from) {
        out.push_str(&line[from..start]);
        if line[start..end].trim() != MASK {
            hidden += 1;
        }
        out.push_str(MASK);
        from = end;
    }
    out.push_str(&line[from..]);
    (out, hidden)
}

/// Where the next named value begins and ends.
fn next_value(lower: &str, from: usize) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for name in NAMES {
        let mut at = from;
        while let Some(found) = lower[at..].find(name).map(|found| at + found) {
            let behind = &lower[found + name.len()..];
            let skipped = behind.trim_start_matches(['"', '\\', ' ']);
            at = found + name.len();
            let Some(rest) = skipped.strip_prefix(['=', ':']) else { continue };
            let rest = rest.trim_start_matches(['"', '\\', ' ']);
            let start = lower.len() - rest.len();
            let whole_line = name == "authorization";
            let length = rest
                .find(|c: char| c == '\n' || (!whole_line && (c.is_whitespace() || "\"\\,;&)}".contains(c))))
                .unwrap_or(rest.len());
            if length > 0 && best.is_none_or(|(other, _)| start < other) {
                best = Some((start, start + length));
            }
            break;
        }
    }
    best
}

/// `scheme://user:password@host`.
fn mask_user(line: &str) -> (String, usize) {
    let (mut out, mut rest, mut hidden) = (String::new(), line, 0);
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let host = behind.find(|c: char| c == '/' || c.is_whitespace() || c == '"').unwrap_or(behind.len());
        match behind[..host].rfind('@') {
            Some(user) => {
                hidden += 1;
                out.push_str(MASK);
                rest = &behind[user..];
            }
            None => rest = behind,
        }
    }
    out.push_str(rest);
    (out, hidden)
}

/// Words that have the form of an S3 key.
fn mask_keys(line: &str) -> (String, usize) {
    let in_word = |c: char| c.is_ascii_alphanumeric() || c == '+' || c == '/' || c == '=';
    let (mut out, mut rest, mut hidden) = (String::new(), line, 0);
    while let Some(start) = rest.find(in_word) {
        let length = rest[start..].find(|c| !in_word(c)).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        out.push_str(&rest[..start]);
        if is_s3_key(word) {
            hidden += 1;
            out.push_str(MASK);
        } else {
            out.push_str(word);
        }
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    (out, hidden)
}

fn is_s3_key(word: &str) -> bool {
    let has = |test: fn(&char) -> bool| word.chars().any(|c| test(&c));
    let access = word.len() == S3_ACCESS_BYTES && (word.starts_with("AKIA") || word.starts_with("ASIA"));
    let secret = word.len() == S3_SECRET_BYTES
        && has(char::is_ascii_uppercase)
        && has(char::is_ascii_lowercase)
        && has(char::is_ascii_digit)
        && !word.starts_with('/');
    access || secret
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_are_masked_wherever_they_are() {
        let scrub = Scrub::of(vec!["the-secret\nin-two-lines".into(), "x".into(), "AKIDEXAMPLE".into()]);
        let (text, hidden) = scrub.clean("a the-secret b in-two-lines xxx[AKIDEXAMPLE]\n");
        assert_eq!((text.as_str(), hidden), ("a *** b *** xxx[***]\n", 3));
    }

    #[test]
    fn what_looks_like_a_secret_is_masked() {
        let scrub = Scrub::of(Vec::new());
        let secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
        for (dirty, clean) in [
            ("secret_key=hunter2 region=eu".to_string(), "secret_key=*** region=eu"),
            (
                "{\"access_key\":\"AK\",\"secret_key\": \"s\"}".into(),
                "{\"access_key\":\"***\",\"secret_key\": \"***\"}",
            ),
            ("Authorization: AWS4-HMAC-SHA256 Credential=A/b, Signature=ff".into(), "Authorization: ***"),
            ("GET /?X-Amz-Signature=abcdef&X-Amz-Date=1".into(), "GET /?X-Amz-Signature=***&X-Amz-Date=1"),
            ("to http://user:pw@host/x and https://h/a@b".into(), "to http://***@host/x and https://h/a@b"),
            ("key AKIAIOSFODNN7EXAMPLE.".into(), "key ***."),
            (format!("sent {secret} away"), "sent *** away"),
        ] {
            assert_eq!(scrub.clean(&dirty).0, clean);
        }
    }

    #[test]
    fn ordinary_lines_stay() {
        let scrub = Scrub::of(Vec::new());
        for line in [
            "2026-11-24T06:00:00Z INFO worker ready worker=0f3a address=127.0.0.1:7500\n",
            "secret_file = \"/etc/forebay/secret\" # file: file holding the cluster's shared secret\n",
            "etag 9bb58f26192e4ba00f01e2e7b136bbd8 fingerprint da39a3ee5e6b4b0d3255bfef95601890afd80709\n",
            "/var/lib/Forebay/cache1/0000/aBcdefghijk\n",
            "secret_key=***\n",
        ] {
            assert_eq!(scrub.clean(line), (line.to_string(), 0));
        }
    }
}

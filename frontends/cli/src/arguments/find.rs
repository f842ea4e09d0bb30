//! What `forebay fs find` accepts. Pure.

use clap::{Args, ValueEnum};
use forebay_base::{ByteSize, Span};
use std::ffi::OsString;

pub(crate) const FIND_HELP: &str = "\
A number with + means more than, with - less than, without a sign exactly.

Example:
  forebay fs find /data -name '*.parquet' -size +100MiB -mtime -7 --uncached";

/// What `find` looks for.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    #[value(name = "f")]
    File,
    #[value(name = "d")]
    Directory,
}

/// A number with a sign: more than, less than, or exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Signed {
    pub(crate) order: std::cmp::Ordering,
    pub(crate) value: u64,
}

#[derive(Args, Debug)]
pub(crate) struct Find {
    /// The name matches this pattern: `*`, `?`, `[abc]`, and `\` before a character that is meant itself
    #[arg(long, value_name = "GLOB")]
    pub(crate) name: Option<String>,
    /// Files (f) or directories (d)
    #[arg(long = "type", value_enum)]
    pub(crate) kind: Option<Kind>,
    /// A file of more (+) or less (-) bytes than this, e.g. +100MiB
    #[arg(long, value_name = "[+-]SIZE", value_parser = signed_size, allow_hyphen_values = true)]
    pub(crate) size: Option<Signed>,
    /// Modified more (+) or less (-) than this long ago, in days or e.g. -12h
    #[arg(long, value_name = "[+-]TIME", value_parser = signed_time, allow_hyphen_values = true)]
    pub(crate) mtime: Option<Signed>,
    /// Modified after this path of the namespace was
    #[arg(long, value_name = "PATH")]
    pub(crate) newer: Option<OsString>,
    /// Files that are cached whole
    #[arg(long, conflicts_with = "uncached")]
    pub(crate) cached: bool,
    /// Files that are not cached whole
    #[arg(long)]
    pub(crate) uncached: bool,
    /// A zero byte behind each path instead of a line's end, and the path as it is
    #[arg(long, conflicts_with = "json")]
    pub(crate) print0: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Where to look; wildcards are expanded in the namespace
    #[arg(required = true)]
    pub(crate) paths: Vec<OsString>,
}

fn signed(text: &str) -> (std::cmp::Ordering, &str) {
    match text.as_bytes().first() {
        Some(b'+') => (std::cmp::Ordering::Greater, &text[1..]),
        Some(b'-') => (std::cmp::Ordering::Less, &text[1..]),
        _ => (std::cmp::Ordering::Equal, text),
    }
}

fn signed_size(text: &str) -> Result<Signed, String> {
    let (order, rest) = signed(text);
    let value: ByteSize = rest.parse().map_err(|_| "want a size such as +100MiB, -1KB or 0")?;
    Ok(Signed { order, value: value.0 })
}

/// Milliseconds; a bare number counts days, as in find.
fn signed_time(text: &str) -> Result<Signed, String> {
    let (order, rest) = signed(text);
    let days = if rest.bytes().all(|byte| byte.is_ascii_digit()) { format!("{rest}d") } else { rest.to_string() };
    match days.parse::<Span>() {
        Ok(Span::Micros(us)) => Ok(Signed { order, value: us / 1000 }),
        _ => Err("want days such as +7 or a time such as -12h".into()),
    }
}

/// `find`'s long options with one dash, as everybody types them, made into two.
pub(crate) fn find_style(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const WORDS: [&str; 6] = ["-name", "-type", "-size", "-mtime", "-newer", "-print0"];
    let mut all: Vec<OsString> = arguments.collect();
    let is_find = all.windows(2).position(|pair| pair[0] == "fs" && pair[1] == "find");
    if let Some(start) = is_find {
        for argument in &mut all[start + 2..] {
            if WORDS.iter().any(|word| argument == word) {
                let mut long = OsString::from("-");
                long.push(&argument);
                *argument = long;
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cmp::Ordering::{Equal, Greater, Less};

    #[test]
    fn numbers_with_signs() {
        assert_eq!(signed_size("+1KiB"), Ok(Signed { order: Greater, value: 1024 }));
        assert_eq!(signed_size("0"), Ok(Signed { order: Equal, value: 0 }));
        assert_eq!(signed_time("-2"), Ok(Signed { order: Less, value: 2 * 86_400_000 }));
        assert_eq!(signed_time("+90s"), Ok(Signed { order: Greater, value: 90_000 }));
        assert!(signed_size("big").is_err() && signed_time("never").is_err() && signed_time("").is_err());
    }

    #[test]
    fn words_of_find() {
        let style = |words: &[&str]| find_style(words.iter().map(OsString::from));
        assert_eq!(style(&["forebay", "fs", "find", "/", "-name", "*"])[4], "--name");
        assert_eq!(style(&["forebay", "fs", "ls", "-name"])[3], "-name");
    }
}

//! The kinds a setting can have and how each is read from text or TOML. Pure.

use crate::{ByteSize, Span};
use std::path::PathBuf;

/// What a setting accepts.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Any text.
    Text,
    /// An absolute path; empty means "not set" where the key's text says so.
    Path,
    /// `host:port`.
    Address,
    /// `host:port`, or `off`.
    AddressOrOff,
    /// A list of `host:port`.
    Addresses,
    /// A byte size within [min, max] bytes.
    Size(u64, u64),
    /// A time span.
    Span,
    /// A whole number within [min, max].
    Int(u64, u64),
    /// true or false.
    Bool,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// `auto`, a number of cores, or a list such as `0,2-5`.
    Cores,
    /// A list of `/absolute/path=capacity`.
    TierDirs,
}

/// A checked value.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// Text, a word, a path or an address.
    Text(String),
    /// A list of texts.
    List(Vec<String>),
    /// A byte size.
    Size(ByteSize),
    /// A time span.
    Span(Span),
    /// A whole number.
    Int(u64),
    /// true or false.
    Bool(bool),
}

/// Where a value came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The TOML file.
    File,
    /// An environment variable.
    Environment,
    /// A command-line flag.
    Flag,
}

/// Which cores a process uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// As many as the host has.
    Auto,
    /// This many, not pinned.
    Count(usize),
    /// Exactly these, pinned.
    List(Vec<usize>),
}

impl Cores {
    /// Reads `auto`, `4` or `0,2-5`. A single number is a count; write `2-2` to pin to one core.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text == "auto" {
            return Some(Cores::Auto);
        }
        if let Ok(count) = text.parse::<usize>() {
            return (1..=1024).contains(&count).then_some(Cores::Count(count));
        }
        let mut list = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if last < first || last > 4095 {
                return None;
            }
            list.extend(first..=last);
        }
        list.sort_unstable();
        list.dedup();
        Some(Cores::List(list))
    }

    /// How many cores this means on a host with `available`.
    #[must_use]
    pub fn count(&self, available: usize) -> usize {
        match self {
            Cores::Auto => available.max(1),
            Cores::Count(count) => *count,
            Cores::List(list) => list.len(),
        }
    }
}

/// An address as `host:port` with a numeric port; IPv6 hosts in brackets.
pub(crate) fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

impl Kind {
    /// What is wanted, for messages.
    #[must_use]
    pub fn want(self) -> String {
        match self {
            Kind::Text => "text".into(),
            Kind::Path => "an absolute path".into(),
            Kind::Address => "host:port".into(),
            Kind::AddressOrOff => "host:port or off".into(),
            Kind::Addresses => "a list of host:port".into(),
            Kind::Size(min, max) => format!("a size from {} to {}", ByteSize(min), ByteSize(max)),
            Kind::Span => "a time such as 250ms, 30s, 5m or never".into(),
            Kind::Int(min, max) => format!("a whole number from {min} to {max}"),
            Kind::Bool => "true or false".into(),
            Kind::OneOf(words) => format!("one of {}", words.join(", ")),
            Kind::Cores => "auto, a number of cores, or a list such as 0,2-5".into(),
            Kind::TierDirs => "a list of /absolute/path=capacity".into(),
        }
    }

    /// Reads text (flag, environment, default). Lists are comma-separated.
    pub fn from_text(self, text: &str) -> Option<Value> {
        Some(match self {
            Kind::Text => Value::Text(text.into()),
            Kind::Path => (text.is_empty() || PathBuf::from(text).is_absolute()).then(|| Value::Text(text.into()))?,
            Kind::Address => is_address(text).then(|| Value::Text(text.into()))?,
            Kind::AddressOrOff => (text == "off" || is_address(text)).then(|| Value::Text(text.into()))?,
            Kind::OneOf(words) => words.contains(&text).then(|| Value::Text(text.into()))?,
            Kind::Cores => Cores::parse(text).map(|_| Value::Text(text.into()))?,
            Kind::Size(min, max) => {
                let size: ByteSize = text.parse().ok()?;
                (min..=max).contains(&size.0).then_some(Value::Size(size))?
            }
            Kind::Span => Value::Span(text.parse().ok()?),
            Kind::Int(min, max) => {
                let number: u64 = text.parse().ok()?;
                (min..=max).contains(&number).then_some(Value::Int(number))?
            }
            Kind::Bool => Value::Bool(text.parse().ok()?),
            Kind::Addresses | Kind::TierDirs => {
                let list: Vec<String> =
                    text.split(',').map(str::trim).filter(|s| !s.is_empty()).map(Into::into).collect();
                self.checked_list(list)?
            }
        })
    }

    /// Reads a TOML value.
    pub fn from_toml(self, value: &toml::Value) -> Option<Value> {
        match value {
            toml::Value::String(text) => self.from_text(text),
            toml::Value::Integer(number) => self.from_text(&number.to_string()),
            toml::Value::Boolean(flag) => self.from_text(&flag.to_string()),
            toml::Value::Array(items) => {
                let list = items.iter().map(|item| item.as_str().map(Into::into)).collect::<Option<Vec<String>>>()?;
                matches!(self, Kind::Addresses | Kind::TierDirs).then(|| self.checked_list(list))?
            }
            _ => None,
        }
    }

    fn checked_list(self, list: Vec<String>) -> Option<Value> {
        let good = match self {
            Kind::Addresses => list.iter().all(|item| is_address(item)),
            _ => list.iter().all(|item| tier_dir(item).is_some()),
        };
        good.then_some(Value::List(list))
    }
}

/// Splits `/path=capacity`.
pub(crate) fn tier_dir(text: &str) -> Option<(PathBuf, ByteSize)> {
    let (path, size) = text.rsplit_once('=')?;
    let path = PathBuf::from(path);
    path.is_absolute().then_some((path, size.parse().ok()?))
}

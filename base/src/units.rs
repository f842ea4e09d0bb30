//! Byte sizes and time spans as people write them: `64MiB`, `1.5GB`, `250ms`, `never`. Pure parsing and printing.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// A number of bytes. Text form: a number and one of B, KB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB
/// (powers of 1024; K, M, G, T mean the same).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ByteSize(pub u64);

/// A span of time, or `never` (no bound). Text form: a number and one of us, ms, s, m, h, d; `0` needs no unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Span {
    /// A bounded span, in microseconds.
    Micros(u64),
    /// Longer than every bounded span.
    Never,
}

const SIZE_HINT: &str = "a size such as 512KiB, 64MiB or 1.5GB";
const SPAN_HINT: &str = "a time such as 250ms, 30s, 5m or never";

fn split_number(text: &str) -> Option<(f64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim()))
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("got \"{text}\", want {SIZE_HINT}");
        let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
        let scale: u64 = match unit.to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            "tb" => 1_000_000_000_000,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            _ => return Err(wrong()),
        };
        let bytes = number * scale as f64;
        if bytes > u64::MAX as f64 / 2.0 {
            return Err(wrong());
        }
        Ok(ByteSize(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            if self.0 >= 1 << shift {
                let scaled = self.0 as f64 / (1u64 << shift) as f64;
                return if scaled.fract() == 0.0 {
                    write!(f, "{scaled:.0}{unit}")
                } else {
                    write!(f, "{scaled:.1}{unit}")
                };
            }
        }
        write!(f, "{}B", self.0)
    }
}

impl Span {
    /// The span as a `Duration`; `None` for `never`.
    #[must_use]
    pub fn duration(self) -> Option<Duration> {
        match self {
            Span::Micros(us) => Some(Duration::from_micros(us)),
            Span::Never => None,
        }
    }

    /// Milliseconds, rounded down; `u64::MAX` for `never`.
    #[must_use]
    pub fn as_ms(self) -> u64 {
        match self {
            Span::Micros(us) => us / 1_000,
            Span::Never => u64::MAX,
        }
    }

    /// A span of whole milliseconds; `u64::MAX` is `never`.
    #[must_use]
    pub fn from_ms(ms: u64) -> Self {
        if ms == u64::MAX { Span::Never } else { Span::Micros(ms.saturating_mul(1_000)) }
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("got \"{text}\", want {SPAN_HINT}");
        if text.trim().eq_ignore_ascii_case("never") {
            return Ok(Span::Never);
        }
        let (number, unit) = split_number(text.trim()).ok_or_else(wrong)?;
        let scale: u64 = match unit {
            "us" => 1,
            "ms" => 1_000,
            "s" => 1_000_000,
            "m" | "min" => 60_000_000,
            "h" => 3_600_000_000,
            "d" => 86_400_000_000,
            "" if number == 0.0 => 1,
            _ => return Err(wrong()),
        };
        let us = number * scale as f64;
        if us > u64::MAX as f64 / 2.0 {
            return Err(wrong());
        }
        Ok(Span::Micros(us as u64))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span::Micros(us) = *self else { return f.write_str("never") };
        for (unit, scale) in
            [("d", 86_400_000_000), ("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)]
        {
            if us >= scale && us % scale == 0 {
                return write!(f, "{}{unit}", us / scale);
            }
        }
        if us == 0 { f.write_str("0s") } else { write!(f, "{us}us") }
    }
}

macro_rules! serde_as_text {
    ($name:ident, $hint:expr) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}
serde_as_text!(ByteSize, SIZE_HINT);
serde_as_text!(Span, SPAN_HINT);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("64MiB".parse(), Ok(ByteSize(64 << 20)));
        assert_eq!("1.5 GB".parse(), Ok(ByteSize(1_500_000_000)));
        assert_eq!("4096".parse(), Ok(ByteSize(4096)));
        for bad in ["", "x", "5 parsecs", "-1", "99999999999TB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert_eq!(ByteSize(64 << 20).to_string(), "64MiB");
        assert_eq!(ByteSize(1_500_000_000).to_string(), "1.4GiB");
    }

    #[test]
    fn spans() {
        assert_eq!("30s".parse(), Ok(Span::Micros(30_000_000)));
        assert_eq!("never".parse(), Ok(Span::Never));
        assert_eq!("0".parse(), Ok(Span::Micros(0)));
        for bad in ["30", "fast", "1 fortnight"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
        assert_eq!(Span::Micros(90_000_000).to_string(), "90s");
        assert_eq!(Span::from_ms(u64::MAX), Span::Never);
    }
}

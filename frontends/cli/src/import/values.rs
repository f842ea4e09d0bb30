//! Sizes and times as Alluxio writes them. Pure.

use forebay_base::Span;
use std::time::Duration;

/// `512MB`, `1.5TB`, `1024`: units are powers of 1024.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let shift = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" => 10,
        "m" | "mb" => 20,
        "g" | "gb" => 30,
        "t" | "tb" => 40,
        "p" | "pb" => 50,
        _ => return None,
    };
    let bytes = number * (1u64 << shift) as f64;
    (bytes.is_finite() && (0.0..9e18).contains(&bytes)).then_some(bytes as u64)
}

/// `10min`, `1hr`, `500ms`, `30000` (milliseconds); negative is never.
pub(super) fn span(text: &str) -> Option<Span> {
    let text = text.trim();
    if let Some(number) = text.strip_prefix('-') {
        return number.starts_with(|c: char| c.is_ascii_digit()).then_some(Span::Never);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let ms = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "ms" | "millisecond" => 1,
        "s" | "sec" | "second" => 1_000,
        "m" | "min" | "minute" => 60_000,
        "h" | "hr" | "hour" => 3_600_000,
        "d" | "day" => 86_400_000,
        _ => return None,
    };
    let ms = number.checked_mul(ms).filter(|ms| *ms < u64::MAX / 2)?;
    Some(Span::from_ms(Duration::from_millis(ms).as_millis() as u64))
}

/// A word for a POSIX shell.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/:._-=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_string();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A TOML string.
pub(super) fn toml_string(text: &str) -> String {
    toml::Value::String(text.to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times() {
        assert_eq!(
            [size("512MB"), size("1.5 GB"), size("7"), size("1tb")],
            [Some(512 << 20), Some(3 << 29), Some(7), Some(1 << 40)]
        );
        assert_eq!([size("lots"), size("1XB"), size(""), size("1e9999")], [None; 4]);
        let text = |given: &str| span(given).map(|span| span.to_string());
        assert_eq!(text("10min"), Some("10m".into()));
        assert_eq!(
            [text("-1"), text("0"), text("1500")],
            [Some("never".into()), Some("0s".into()), Some("1500ms".into())]
        );
        assert_eq!([text("soon"), text("-"), text("9999999999999999999day")], [None, None, None]);
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}

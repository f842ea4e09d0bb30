//! Writing to standard output: every write can fail, because the reader may have gone (`forebay fs ls | head`).

use crate::failure::Failure;
use std::io::{BufWriter, StdoutLock, Write};

/// Buffered standard output.
pub(crate) struct Output(BufWriter<StdoutLock<'static>>);

impl Output {
    /// Locks standard output.
    pub(crate) fn open() -> Self {
        Output(BufWriter::with_capacity(64 << 10, std::io::stdout().lock()))
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Hands everything to the reader.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| Failure::output(&error))
    }
}

/// Writes one line to standard output.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut output = Output::open();
    output.line(text)?;
    output.flush()
}

/// Writes rows under a heading, columns aligned; `right` names the columns of numbers.
pub(crate) fn table(
    output: &mut Output,
    heading: &[&str],
    right: &[usize],
    rows: &[Vec<String>],
) -> Result<(), Failure> {
    let mut widths: Vec<usize> = heading.iter().map(|text| text.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let heading: Vec<String> = heading.iter().map(ToString::to_string).collect();
    for row in std::iter::once(&heading).chain(rows) {
        let mut text = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let padded = if right.contains(&column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") };
            text.push_str(&padded);
            text.push_str("  ");
        }
        output.line(text.trim_end())?;
    }
    Ok(())
}

/// A name or path for people: control characters are escaped, so that no name can play with the terminal.
pub(crate) fn printable(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for c in String::from_utf8_lossy(name).chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
    text
}

/// `2026-11-23 19:43` (UTC) of milliseconds since 1970.
pub(crate) fn date(ms: u64) -> String {
    let minutes = ms / 60_000;
    let (days, minute_of_day) = (minutes / 1440, minutes % 1440);
    // Days to a civil date, counted in years that begin in March so that the leap day comes last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minute_of_day / 60, minute_of_day % 60)
}

/// `2026-11-23T19:43:46.000Z` of milliseconds since 1970.
pub(crate) fn timestamp(ms: u64) -> String {
    let to_the_minute = date(ms).replace(' ', "T");
    format!("{to_the_minute}:{:02}.{:03}Z", ms / 1000 % 60, ms % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00");
        assert_eq!(date(1_795_463_026_000), "2026-11-23 19:43");
        assert_eq!(timestamp(1_795_463_026_007), "2026-11-23T19:43:46.007Z");
    }

    #[test]
    fn names_cannot_play_with_the_terminal() {
        assert_eq!(printable(b"a\x1b[31m\nb"), "a\\u{1b}[31m\\nb");
        assert_eq!(printable("gr\u{fc}n".as_bytes()), "gr\u{fc}n");
    }
}

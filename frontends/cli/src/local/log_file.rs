//! The part of a role's log that one start wrote.

use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const SHOWN_LINES: usize = 15;
const READ_BYTES_MAX: u64 = 64 << 10;

/// A place in a log.
pub(crate) struct LogMark {
    path: PathBuf,
    offset: u64,
}

impl LogMark {
    /// The log's end now.
    pub(crate) fn end_of(path: &Path) -> Self {
        Self { path: path.to_path_buf(), offset: path.metadata().map_or(0, |meta| meta.len()) }
    }

    /// The last lines written since.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&self.path).and_then(|mut file| {
            let start = self.offset.max(file.metadata()?.len().saturating_sub(READ_BYTES_MAX));
            file.seek(SeekFrom::Start(start))?;
            file.take(READ_BYTES_MAX).read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN_LINES)..].iter().map(ToString::to_string).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_only_this_start() {
        let temp = tempfile::tempdir().expect("a directory");
        let path = temp.path().join("x.log");
        std::fs::write(&path, "old\n").expect("written");
        let mark = LogMark::end_of(&path);
        assert!(mark.last_lines().is_empty());
        let new: String = (0..40).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, format!("old\n{new}")).expect("written");
        let lines = mark.last_lines();
        assert_eq!((lines.len(), lines[14].as_str()), (SHOWN_LINES, "line 39"));
    }
}

//! The note beside a session's staging file: under which ticket its content goes into the store if its writer is gone.
//! Plain data and small files; the format is in docs/formats/disk.md.
//!
//! Invariant: a note is replaced whole, never changed in place.

use forebay_base::{FileId, Fingerprint, MountId};
use forebay_ufs::WriteMode;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

const FIRST_LINE: &str = "forebay session 1";
/// A key has at most 4 KiB, a fingerprint less.
const NOTE_BYTES_MAX: u64 = 16 << 10;
/// How staging files and notes end.
const CONTENT: &str = "content";
const NOTE: &str = "note";

/// What is noted of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Note {
    pub(crate) file: FileId,
    /// Whose it is.
    pub(crate) client: u64,
    pub(crate) mount: MountId,
    pub(crate) key: String,
    pub(crate) mode: WriteMode,
    /// There is content on the disk that the store does not have, and that was promised to be kept.
    pub(crate) is_synced: bool,
    /// Which start of the machine wrote this: what was not synced is there only until the next one.
    pub(crate) boot: String,
}

/// The staging file of a session.
pub(crate) fn content_path(directory: &Path, file: FileId) -> PathBuf {
    directory.join(format!("{:016x}.{CONTENT}", file.0))
}

fn note_path(directory: &Path, file: FileId) -> PathBuf {
    directory.join(format!("{:016x}.{NOTE}", file.0))
}

/// This start of the machine.
pub(crate) fn this_boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_string()
}

impl Note {
    fn text(&self) -> String {
        let (mode, fingerprint) = match &self.mode {
            WriteMode::Replace => ("replace", ""),
            WriteMode::CreateOnly => ("create", ""),
            WriteMode::ReplaceOnly(fingerprint) => ("only", fingerprint.0.as_str()),
        };
        let synced = if self.is_synced { "synced" } else { "unsynced" };
        let (file, client, mount, boot) = (self.file.0, self.client, self.mount.0, &self.boot);
        format!(
            "{FIRST_LINE}\n{file:016x}\n{client:016x}\n{mount}\n{synced}\n{boot}\n{mode}\n{fingerprint}\n{}",
            self.key
        )
    }

    fn parse(text: &str) -> Option<Note> {
        let mut lines = text.splitn(9, '\n');
        let mut line = || lines.next();
        (line()? == FIRST_LINE).then_some(())?;
        let file = FileId(u64::from_str_radix(line()?, 16).ok()?);
        let client = u64::from_str_radix(line()?, 16).ok()?;
        let mount = MountId(line()?.parse().ok()?);
        let is_synced = match line()? {
            "synced" => true,
            "unsynced" => false,
            _ => return None,
        };
        let boot = line()?.to_string();
        let (mode, fingerprint) = (line()?, line()?);
        let mode = match mode {
            "replace" => WriteMode::Replace,
            "create" => WriteMode::CreateOnly,
            "only" => WriteMode::ReplaceOnly(Fingerprint(fingerprint.to_string())),
            _ => return None,
        };
        Some(Note { file, client, mount, key: line()?.to_string(), mode, is_synced, boot })
    }

    /// Puts it in place; `durable`: it is on the disk, and so is the name of the staging file. Blocking.
    pub(crate) fn write(&self, directory: &Path, durable: bool) -> std::io::Result<()> {
        let path = note_path(directory, self.file);
        let fresh = path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(self.text().as_bytes())?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&fresh, &path)?;
        if durable {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }
}

/// Removes what a session has on the disk; the note first, so that nothing is taken for a session without content. Blocking.
pub(crate) fn remove(directory: &Path, file: FileId) -> std::io::Result<()> {
    for path in [note_path(directory, file), content_path(directory, file)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The sessions that an earlier process left, of those files that `is_ours`; what belongs to none is removed. Blocking.
pub(crate) fn found(directory: &Path, is_ours: impl Fn(FileId) -> bool) -> std::io::Result<Vec<Note>> {
    let mut notes = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let Some(id) = path.file_stem().and_then(|stem| u64::from_str_radix(stem.to_str()?, 16).ok()) else { continue };
        let file = FileId(id);
        if !is_ours(file) || path.extension().is_none_or(|extension| extension != CONTENT) {
            continue;
        }
        let read = fs::metadata(note_path(directory, file)).ok().filter(|meta| meta.len() <= NOTE_BYTES_MAX);
        let text = read.and_then(|_| fs::read_to_string(note_path(directory, file)).ok());
        match text.as_deref().and_then(Note::parse).filter(|note| note.file == file) {
            Some(note) => notes.push(note),
            None => {
                tracing::warn!(%file, "a staging file of a write session without a good note: it was never synced, and is removed");
                remove(directory, file)?;
            }
        }
    }
    Ok(notes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_come_back_and_nothing_else_does() {
        let dir = tempfile::tempdir().expect("a directory");
        let only = WriteMode::ReplaceOnly(Fingerprint("etag:\"x\"".into()));
        for (id, mode) in [(1, WriteMode::Replace), (2, WriteMode::CreateOnly), (u64::MAX, only)] {
            let key = " a/b\nc ".to_string();
            let note = Note {
                file: FileId(id),
                client: 5,
                mount: MountId(7),
                key,
                mode,
                is_synced: id == 1,
                boot: this_boot(),
            };
            note.write(dir.path(), id == 1).expect("written");
            assert_eq!(found(dir.path(), |_| true).expect("read"), [], "a note without content is nothing");
            fs::write(content_path(dir.path(), note.file), "x").expect("written");
            assert_eq!(found(dir.path(), |_| true).expect("read"), std::slice::from_ref(&note));
            assert_eq!(found(dir.path(), |_| false).expect("read"), []);
            remove(dir.path(), note.file).expect("removed");
        }
        for bad in ["", "forebay session 2\n", "forebay session 1\n0000000000000005\n7\nmaybe\n\nreplace\n\nk"] {
            fs::write(note_path(dir.path(), FileId(5)), bad).expect("written");
            fs::write(content_path(dir.path(), FileId(5)), "x").expect("written");
            assert_eq!(found(dir.path(), |_| true).expect("read"), [], "{bad}");
            assert!(!content_path(dir.path(), FileId(5)).exists());
        }
    }
}

//! The journal's segment files: `<first index, 20 digits>.journal`, append-only. Owned by the `journal-sync` thread.
//!
//! Invariants: only the newest segment may end in a torn record, which recovery cuts off: nothing in it was ever
//! acknowledged; a bad record anywhere else refuses to start. A new segment begins with the vote, the committed and the
//! purged log id, so that older segments can go as soon as all their entries are purged.

use super::record::{BODY_BYTES_MAX, RECORD_HEADER_BYTES, Record};
use crate::error::MasterError;
use forebay_base::crc32c;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// First bytes of every segment: name and format version.
const MAGIC: &[u8; 16] = b"forebay-jrnl-01\n";

/// A segment on disk.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// The number in its name.
    pub(super) sequence: u64,
    /// Highest index of an entry in it; 0 for none.
    pub(super) last_index: u64,
    /// Bytes.
    pub(super) length: u64,
}

fn segment_path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:020}.journal"))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates an empty segment, durably.
pub(super) fn create(directory: &Path, sequence: u64) -> io::Result<(File, Segment)> {
    let path = segment_path(directory, sequence);
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path)?;
    file.write_all(MAGIC)?;
    file.sync_all()?;
    sync_directory(directory)?;
    Ok((file, Segment { path, sequence, last_index: 0, length: MAGIC.len() as u64 }))
}

/// Removes a segment.
pub(super) fn remove(directory: &Path, segment: &Segment) -> io::Result<()> {
    std::fs::remove_file(&segment.path)?;
    sync_directory(directory)
}

/// Reads all segments in order, handing each record to `take`; cuts a torn tail. Answers them, oldest first.
pub(super) fn recover(directory: &Path, mut take: impl FnMut(Record)) -> Result<Vec<Segment>, MasterError> {
    std::fs::create_dir_all(directory)?;
    let mut found = Vec::new();
    for item in std::fs::read_dir(directory)? {
        let path = item?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(sequence) = name.strip_suffix(".journal").and_then(|digits| digits.parse::<u64>().ok()) {
            found.push((sequence, path));
        }
    }
    found.sort();
    let mut segments = Vec::new();
    let newest = found.len().saturating_sub(1);
    for (position, (sequence, path)) in found.into_iter().enumerate() {
        let mut segment = Segment { path, sequence, last_index: 0, length: 0 };
        if read_segment(&mut segment, position == newest, &mut take)? {
            segments.push(segment);
        }
    }
    Ok(segments)
}

/// Reads one segment. False if it was so torn that it holds nothing and was removed.
fn read_segment(segment: &mut Segment, newest: bool, take: &mut impl FnMut(Record)) -> Result<bool, MasterError> {
    let shown = segment.path.display().to_string();
    let corrupt = |at: u64, reason: &str| {
        MasterError::Journal(format!("{shown}: damaged at byte {at} ({reason}) and not at the journal's end"))
    };
    let mut file = OpenOptions::new().read(true).write(true).open(&segment.path)?;
    let length = file.metadata()?.len();
    let mut magic = [0u8; MAGIC.len()];
    let whole = length >= MAGIC.len() as u64;
    if whole {
        file.read_exact(&mut magic)?;
    }
    if !whole && newest {
        drop(file);
        std::fs::remove_file(&segment.path)?;
        return Ok(false);
    }
    if &magic != MAGIC {
        return Err(MasterError::Journal(format!("{shown}: not a journal of this format")));
    }
    let mut reader = io::BufReader::with_capacity(1 << 20, &mut file);
    let mut at = MAGIC.len() as u64;
    let torn = loop {
        let left = length - at;
        if left == 0 {
            break None;
        }
        let mut header = [0u8; RECORD_HEADER_BYTES];
        if left < header.len() as u64 {
            break Some("header cut off");
        }
        reader.read_exact(&mut header)?;
        let body_length = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
        let crc = u32::from_le_bytes(header[4..].try_into().expect("four bytes"));
        if body_length > BODY_BYTES_MAX || (left - header.len() as u64) < body_length as u64 {
            break Some("record cut off");
        }
        let mut body = vec![0u8; body_length];
        reader.read_exact(&mut body)?;
        if body_length == 0 || crc32c(&body) != crc {
            break Some("wrong checksum");
        }
        let record = Record::decode(&body).map_err(|reason| MasterError::Journal(format!("{shown}: {reason}")))?;
        if let Record::Entry(entry) = &record {
            segment.last_index = segment.last_index.max(entry.log_id.index);
        }
        take(record);
        at += (header.len() + body_length) as u64;
    };
    drop(reader);
    if let Some(reason) = torn {
        if !newest {
            return Err(corrupt(at, reason));
        }
        tracing::warn!("{shown}: cut {} bytes of an unfinished write at byte {at} ({reason})", length - at);
        file.set_len(at)?;
        file.seek(SeekFrom::Start(at))?;
        file.sync_all()?;
    }
    segment.length = at;
    Ok(true)
}

//! Reading a file as long as it is the content that a fingerprint stands for.
//!
//! Files cannot be read conditionally, so the open handle is compared before the first byte and after each piece, and
//! a piece is handed on only when it was still the same. Time stamps move in ticks: a change within the tick of the
//! last one leaves no trace. So nothing is read from a file until its ctime is older than a tick, by waiting.

use super::beneath::{Root, ctime_ns, failure_of, fingerprint_of};
use crate::{
    failure::Failure,
    gate::{Gate, Permit},
    under_store::{ReadStream, StoreError},
};
use bytes::{Bytes, BytesMut};
use forebay_base::{ErrorKind, Fingerprint, unix_now_ms};
use futures::{StreamExt, stream};
use rustix::{
    fd::OwnedFd,
    fs::{FileType, OFlags, Stat, fstat},
    io::Errno,
};
use std::{ops::Range, sync::Arc, time::Duration};

/// Longer than a tick of any kernel's coarse clock (10 ms at 100 Hz).
const TICK: Duration = Duration::from_millis(20);
/// Copies through larger buffers leave the CPU's caches.
const PIECE_BYTES: u64 = 256 << 10;

pub(super) struct Reading {
    gate: Arc<Gate>,
    permit: Permit,
    file: Arc<OwnedFd>,
    rest: Range<u64>,
    fingerprint: Fingerprint,
}

pub(super) async fn open(
    gate: Arc<Gate>,
    root: Arc<Root>,
    key: String,
    range: Range<u64>,
    fingerprint: Fingerprint,
) -> Result<Reading, Failure> {
    if range.start > range.end {
        return Err(Failure::new(ErrorKind::Invalid, format!("the range {range:?} ends before it starts")));
    }
    let deadline = gate.deadline();
    let permit = gate.enter(deadline).await?;
    let (wanted, end) = (fingerprint.clone(), range.end);
    let opened = gate.blocking(deadline, Arc::clone(&permit), move || {
        let file = root.open_key(&key, OFlags::RDONLY).map_err(gone_is_stale)?;
        let stat = compare(&file, &wanted)?;
        if u64::try_from(stat.st_size).unwrap_or(0) < end {
            let text = format!("the range ends at {end}, the file has {} bytes", stat.st_size);
            return Err(Failure::new(ErrorKind::Invalid, text));
        }
        Ok((Arc::new(file), ctime_ns(&stat)))
    });
    let (file, ctime_ns) = opened.await?;
    let age_ms = i128::from(unix_now_ms()) - ctime_ns / 1_000_000;
    if age_ms < TICK.as_millis() as i128 + 1 {
        // From here on the clock that stamps the file moves on by a tick, whatever its difference from ours.
        tokio::time::sleep(TICK).await;
        let (same, wanted) = (Arc::clone(&file), fingerprint.clone());
        gate.blocking(deadline, Arc::clone(&permit), move || compare(&same, &wanted).map(drop)).await?;
    }
    Ok(Reading { gate, permit, file, rest: range, fingerprint })
}

pub(super) fn stream(reading: Reading, store: String, key: String) -> ReadStream {
    stream::try_unfold(reading, |mut reading| async move {
        if reading.rest.is_empty() {
            return Ok(None);
        }
        let length = (reading.rest.end - reading.rest.start).min(PIECE_BYTES);
        let (file, wanted, offset) = (Arc::clone(&reading.file), reading.fingerprint.clone(), reading.rest.start);
        let work = move || {
            let piece = read_exactly(&file, offset, length as usize);
            // Compared also when the read fell short: then the file has been cut, and that is the better answer.
            compare(&file, &wanted)?;
            piece
        };
        let piece = reading.gate.blocking(reading.gate.deadline(), Arc::clone(&reading.permit), work).await?;
        reading.rest.start += length;
        Ok(Some((piece, reading)))
    })
    .map(move |piece: Result<Bytes, Failure>| -> Result<Bytes, StoreError> {
        piece.map_err(|failure| failure.at(&store, "read", &key))
    })
    .boxed()
}

fn read_exactly(file: &OwnedFd, mut offset: u64, length: usize) -> Result<Bytes, Failure> {
    let mut buffer = BytesMut::zeroed(length);
    let mut filled = 0;
    while filled < length {
        match rustix::io::pread(file, &mut buffer[filled..], offset) {
            Ok(0) => {
                let text = format!("the file ended {} bytes early", length - filled);
                return Err(Failure::new(ErrorKind::Corrupt, text));
            }
            Ok(count) => {
                filled += count;
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(gone_is_stale(failure_of(errno, "reading"))),
        }
    }
    Ok(buffer.freeze())
}

fn compare(file: &OwnedFd, wanted: &Fingerprint) -> Result<Stat, Failure> {
    let stat = fstat(file).map_err(|errno| gone_is_stale(failure_of(errno, "asking for its attributes")))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Failure::new(ErrorKind::Stale, "it is no file any more"));
    }
    let found = fingerprint_of(&stat);
    if found == *wanted {
        return Ok(stat);
    }
    Err(Failure::new(ErrorKind::Stale, format!("the content is {found} now, not {wanted}")))
}

/// Whoever has a fingerprint saw the file: where there is none now, the content is another one.
fn gone_is_stale(failure: Failure) -> Failure {
    match failure.kind {
        ErrorKind::NotFound => Failure::new(ErrorKind::Stale, "it does not exist any more"),
        _ => failure,
    }
}

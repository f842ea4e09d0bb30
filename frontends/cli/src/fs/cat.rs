//! `fs cat`, and the bytes of a file's part for everyone else: a few reads ahead of the writer.

use super::paths::{Named, files};
use crate::failure::Failure;
use crate::output::Output;
use forebay_base::{FileId, Version};
use forebay_client::{Client, OpenFile, ReadBytes};
use futures::StreamExt;
use std::ffi::OsString;
use std::ops::Range;

/// One read.
pub(crate) const PIECE_BYTES: u64 = 1 << 20;
const READS_IN_FLIGHT: usize = 4;

/// Opens exactly the version that was looked up: a file that changes meanwhile is an error, never a mixture.
pub(crate) async fn open(client: &Client, what: &str, named: &Named) -> Result<OpenFile, Failure> {
    let version = Version(named.attr.version);
    client.open(FileId(named.attr.file_id), version).await.map_err(|error| Failure::of(what, &named.shown(), &error))
}

/// Gives the bytes of `range` to `take`, in order; `take` says whether it wants more.
pub(crate) async fn each_piece(
    what: &str,
    named: &Named,
    file: &OpenFile,
    range: Range<u64>,
    mut take: impl FnMut(ReadBytes) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let end = range.end.min(file.attr().size);
    let starts = (range.start..end).step_by(PIECE_BYTES as usize);
    let mut pieces = futures::stream::iter(starts)
        .map(|offset| async move {
            let want = PIECE_BYTES.min(end - offset);
            (want, file.read(offset, want as u32).await)
        })
        .buffered(READS_IN_FLIGHT);
    while let Some((want, piece)) = pieces.next().await {
        let piece = piece.map_err(|error| Failure::of(what, &named.shown(), &error))?;
        if piece.len() as u64 != want {
            let message = format!("{what}: {}: got {} bytes, want {want}", named.shown(), piece.len());
            return Err(Failure::failed(message));
        }
        if !take(piece)? {
            break;
        }
    }
    Ok(())
}

/// Writes files to standard output, in order.
pub(crate) async fn cat(client: &Client, paths: &[OsString]) -> Result<(), Failure> {
    let mut output = Output::open();
    for named in files(client, "fs cat", paths).await? {
        let file = open(client, "fs cat", &named).await?;
        let size = file.attr().size;
        each_piece("fs cat", &named, &file, 0..size, |piece| output.bytes(&piece).map(|()| true)).await?;
        output.flush()?;
    }
    Ok(())
}

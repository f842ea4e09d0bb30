//! `fs cat`: the bytes of files, a few reads ahead of the writer.

use super::walk::resolve;
use crate::failure::Failure;
use crate::output::Output;
use forebay_base::{FileId, Version};
use forebay_client::Client;
use futures::StreamExt;

const PIECE_BYTES: u64 = 1 << 20;
const READS_IN_FLIGHT: usize = 4;

/// Writes files to standard output, in order.
pub(crate) async fn cat(client: &Client, paths: &[String]) -> Result<(), Failure> {
    let mut output = Output::open();
    for path in paths {
        let attr = resolve(client, "fs cat", path).await?;
        let wrong = |error| Failure::of("fs cat", path, &error);
        // Exactly the version that was looked up: a file that changes meanwhile is an error, never a mixture.
        let file = client.open(FileId(attr.file_id), Version(attr.version)).await.map_err(wrong)?;
        let size = file.attr().size;
        let mut pieces = futures::stream::iter((0..size).step_by(PIECE_BYTES as usize))
            .map(|offset| file.read(offset, PIECE_BYTES.min(size - offset) as u32))
            .buffered(READS_IN_FLIGHT);
        let mut written = 0u64;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(wrong)?;
            written += piece.len() as u64;
            output.bytes(&piece)?;
        }
        if written != size {
            return Err(Failure::failed(format!("fs cat: {path}: got {written} bytes, want {size}")));
        }
        output.flush()?;
    }
    Ok(())
}

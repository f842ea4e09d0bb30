//! `fs head` and `fs tail`: the beginning and the end of files, by bytes or by lines. Only what is shown is read, but for
//! the search of `tail -n` for the first line.

use super::cat::{PIECE_BYTES, each_piece, open};
use super::paths::{Named, files};
use crate::arguments::Ends;
use crate::failure::Failure;
use crate::output::Output;
use forebay_client::{Client, OpenFile};

const LINES: u64 = 10;

/// Which end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    Head,
    Tail,
}

/// Writes one end of each file.
pub(crate) async fn show(client: &Client, end: End, arguments: Ends) -> Result<(), Failure> {
    let what = if end == End::Head { "fs head" } else { "fs tail" };
    let all = files(client, what, &arguments.paths).await?;
    let mut output = Output::open();
    for (index, named) in all.iter().enumerate() {
        if all.len() > 1 {
            output.line(&format!("{}==> {} <==", if index > 0 { "\n" } else { "" }, named.shown()))?;
        }
        let file = open(client, what, named).await?;
        let size = file.attr().size;
        let lines = arguments.lines.unwrap_or(LINES);
        match (end, arguments.bytes) {
            (End::Head, Some(bytes)) => {
                let range = 0..bytes.0.min(size);
                each_piece(what, named, &file, range, |piece| output.bytes(&piece).map(|()| true)).await?;
            }
            (End::Tail, Some(bytes)) => {
                let range = size.saturating_sub(bytes.0)..size;
                each_piece(what, named, &file, range, |piece| output.bytes(&piece).map(|()| true)).await?;
            }
            (End::Head, None) if lines > 0 => {
                let mut left = lines;
                each_piece(what, named, &file, 0..size, |piece| {
                    let length = first_lines(&piece, &mut left);
                    output.bytes(&piece[..length]).map(|()| left > 0)
                })
                .await?;
            }
            (End::Head, None) => {}
            (End::Tail, None) => {
                let start = start_of_last(what, named, &file, lines).await?;
                each_piece(what, named, &file, start..size, |piece| output.bytes(&piece).map(|()| true)).await?;
            }
        }
        output.flush()?;
    }
    Ok(())
}

/// How many bytes of `piece` belong to the first `left` lines; `left` counts down.
fn first_lines(piece: &[u8], left: &mut u64) -> usize {
    for (at, _) in piece.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
        *left -= 1;
        if *left == 0 {
            return at + 1;
        }
    }
    piece.len()
}

/// Where the last `lines` lines begin. A newline at the very end closes the last line.
async fn start_of_last(what: &str, named: &Named, file: &OpenFile, lines: u64) -> Result<u64, Failure> {
    let size = file.attr().size;
    let mut left = lines;
    let mut end = size;
    if lines == 0 {
        return Ok(size);
    }
    while end > 0 {
        let start = end.saturating_sub(PIECE_BYTES);
        let piece = file.read(start, (end - start) as u32).await;
        let piece = piece.map_err(|error| Failure::of(what, &named.shown(), &error))?;
        for (at, _) in piece.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let behind = start + at as u64 + 1;
            if behind == size {
                continue;
            }
            left -= 1;
            if left == 0 {
                return Ok(behind);
            }
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_over_pieces() {
        let mut left = 3;
        assert_eq!(first_lines(b"a\nb\nc", &mut left), 5);
        assert_eq!(left, 1);
        assert_eq!(first_lines(b"c\nd\n", &mut left), 2);
        assert_eq!(left, 0);
    }
}

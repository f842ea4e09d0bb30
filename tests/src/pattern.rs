//! Content that follows from a seed: written to a store, and later compared with what a reader gets, byte for byte,
//! without a copy of it. Pure but for the file calls.
//!
//! Every 8 bytes differ from all others of the same and of any other seed (but for chance), so that bytes from a wrong
//! place, version or file are noticed.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

const CHUNK: usize = 256 << 10;

/// A seed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pattern(pub u64);

impl Pattern {
    fn word(self, index: u64) -> u64 {
        let mut x = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03);
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// Fills `buffer` with the bytes at `offset`, which must be a multiple of 8.
    pub fn fill(self, offset: u64, buffer: &mut [u8]) {
        assert!(offset.is_multiple_of(8), "offset {offset} is no multiple of 8");
        for (index, piece) in buffer.chunks_mut(8).enumerate() {
            let word = self.word(offset / 8 + index as u64).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
    }

    /// The first `size` bytes.
    #[must_use]
    pub fn bytes(self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.fill(0, &mut bytes);
        bytes
    }

    /// The first place where `got`, read at `offset`, differs.
    #[must_use]
    pub fn difference(self, offset: u64, got: &[u8]) -> Option<u64> {
        let mut expected = [0; 4096];
        for (index, piece) in got.chunks(4096).enumerate() {
            let at = offset + index as u64 * 4096;
            self.fill(at, &mut expected[..piece.len()]);
            if *piece != expected[..piece.len()] {
                let inside = piece.iter().zip(&expected).position(|(a, b)| a != b).expect("they differ");
                return Some(at + inside as u64);
            }
        }
        None
    }

    /// Writes a file of `size` bytes.
    pub fn write(self, path: &Path, size: u64) -> io::Result<()> {
        let mut file = File::create(path)?;
        self.pieces(size, |piece| file.write_all(piece))
    }

    /// Gives `take` the first `size` bytes, piece by piece.
    pub fn pieces(self, size: u64, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut offset = 0;
        while offset < size {
            let length = CHUNK.min((size - offset) as usize);
            self.fill(offset, &mut chunk[..length]);
            take(&chunk[..length])?;
            offset += length as u64;
        }
        Ok(())
    }

    /// Reads the whole file and compares it; the error says what and where.
    pub fn check(self, path: &Path, size: u64) -> Result<(), String> {
        let told = |what: String| format!("{}: {what}", path.display());
        let file = File::open(path).map_err(|error| told(format!("open: {error}")))?;
        let shown = file.metadata().map_err(|error| told(format!("stat: {error}")))?.len();
        if shown != size {
            return Err(told(format!("{shown} bytes long, want {size}")));
        }
        let mut chunk = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            let got = file.read_at(&mut chunk, offset).map_err(|error| told(format!("read at {offset}: {error}")))?;
            if got == 0 {
                break;
            }
            if !offset.is_multiple_of(8) {
                return Err(told(format!("a short read ended at {offset}")));
            }
            if let Some(at) = self.difference(offset, &chunk[..got]) {
                return Err(told(format!("wrong byte at {at}")));
            }
            offset += got as u64;
        }
        if offset == size { Ok(()) } else { Err(told(format!("ended at {offset}, want {size}"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_found() {
        let mut bytes = Pattern(7).bytes(10_001);
        assert_eq!(Pattern(7).difference(0, &bytes), None);
        assert_eq!(Pattern(8).difference(0, &bytes), Some(0));
        assert_eq!(Pattern(7).difference(4096, &bytes[4096..]), None);
        bytes[9_999] ^= 1;
        assert_eq!(Pattern(7).difference(0, &bytes), Some(9_999));
    }
}

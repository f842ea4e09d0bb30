//! What is read: one large file, eight of middle size, many small ones; made once, put into the S3 server of the run.
//! Content is a cheap function of the name, so that a reader can tell whether it got the right bytes.

use anyhow::{Context, Result, bail};
use forebay_tests::{Bucket, each_file, spread};
use std::path::{Path, PathBuf};

/// Middle-sized files, for several connections at once.
pub(crate) const MIDDLE_FILES: usize = 8;
pub(crate) const MIDDLE_BYTES: usize = 4 << 20;
/// As the many files of the jobs.
pub(crate) const SMALL_BYTES: usize = 100 << 10;
pub(crate) const LARGE: &str = "large.bin";
const PUT_THREADS: usize = 4;

/// How much there is.
#[derive(Clone, Debug)]
pub(crate) struct DataSet {
    pub(crate) large_mib: usize,
    pub(crate) small_files: usize,
}

fn seed(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The content of a file.
pub(crate) fn content(name: &str, bytes: usize) -> Vec<u8> {
    let mut word = seed(name);
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        out.extend_from_slice(&(word ^ word >> 29).to_le_bytes());
    }
    out.truncate(bytes);
    out
}

impl DataSet {
    pub(crate) fn small_name(index: usize) -> String {
        format!("small/{}", spread(index))
    }

    pub(crate) fn middle_name(index: usize) -> String {
        format!("middle/m{index}.bin")
    }

    /// Files of all sizes.
    pub(crate) fn files(&self) -> u64 {
        (1 + MIDDLE_FILES + self.small_files) as u64
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.large_bytes() + (MIDDLE_FILES * MIDDLE_BYTES + self.small_files * SMALL_BYTES) as u64
    }

    pub(crate) fn large_bytes(&self) -> u64 {
        (self.large_mib as u64) << 20
    }

    /// Every small file's name, as they follow in their directories or shuffled by a fixed seed.
    pub(crate) fn small_names(&self, files: usize, shuffled: bool) -> Vec<String> {
        let mut names: Vec<String> = (0..files.min(self.small_files)).map(Self::small_name).collect();
        names.sort();
        if shuffled {
            let mut word = 0x5EED_u64;
            for last in (1..names.len()).rev() {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                names.swap(last, (word >> 33) as usize % (last + 1));
            }
        }
        names
    }

    /// Every name.
    pub(crate) fn all_names(&self) -> Vec<String> {
        let mut names = vec![LARGE.to_string()];
        names.extend((0..MIDDLE_FILES).map(Self::middle_name));
        names.extend(self.small_names(self.small_files, false));
        names
    }

    /// Puts everything into a bucket.
    pub(crate) fn put(&self, bucket: &Bucket) -> Result<()> {
        bucket.put(LARGE, &content(LARGE, self.large_mib << 20)).map_err(anyhow::Error::msg)?;
        for index in 0..MIDDLE_FILES {
            let name = Self::middle_name(index);
            bucket.put(&name, &content(&name, MIDDLE_BYTES)).map_err(anyhow::Error::msg)?;
        }
        let errors = each_file(self.small_files, PUT_THREADS, |index| {
            let name = Self::small_name(index);
            bucket.put(&name, &content(&name, SMALL_BYTES))
        });
        match errors.first() {
            None => Ok(()),
            Some(error) => bail!("{} of {} objects were not put: {error}", errors.len(), self.small_files),
        }
    }

    /// Holds what a folder shows to what was put: a harness that measures wrong bytes measures nothing.
    pub(crate) fn check(&self, folder: &Path) -> Result<()> {
        let middle = Self::middle_name(0);
        let small = Self::small_name(self.small_files / 2);
        for (name, bytes) in [(&middle, MIDDLE_BYTES), (&small, SMALL_BYTES)] {
            let path = folder.join(name);
            let got = std::fs::read(&path).with_context(|| path.display().to_string())?;
            if got != content(name, bytes) {
                bail!("{}: {} bytes that are not what was put", path.display(), got.len());
            }
        }
        let path = folder.join(LARGE);
        let size = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        if size != self.large_bytes() {
            bail!("{}: {size} bytes, want {}", path.display(), self.large_bytes());
        }
        Ok(())
    }

    /// The paths of all files below a folder.
    pub(crate) fn paths(&self, folder: &Path) -> Vec<PathBuf> {
        self.all_names().iter().map(|name| folder.join(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_each_once_and_contents_differ() {
        let data = DataSet { large_mib: 1, small_files: 500 };
        let (ordered, mut shuffled) = (data.small_names(500, false), data.small_names(500, true));
        assert_ne!(ordered, shuffled);
        shuffled.sort();
        assert_eq!(ordered, shuffled);
        assert_eq!(data.all_names().len(), 509);
        assert_eq!(content("a", 13).len(), 13);
        assert_ne!(content("a", 64), content("b", 64));
    }
}

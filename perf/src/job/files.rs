//! Work on files and names by the harness's own threads: what programs do, with nothing in between.

use super::Kind;
use crate::data_set::{DataSet, LARGE, SMALL_BYTES};
use crate::results::Sample;
use anyhow::{Context, Result, bail};
use forebay_ufs::{ObjectMeta, UnderStore};
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const BUFFER_BYTES: usize = 128 << 10;
const LARGE_BUFFER_BYTES: usize = 1 << 20;

/// Runs `work` for 0..count, in that order over all threads. The first error ends it.
fn threads(count: usize, threads: usize, work: impl Fn(usize, &mut [u8]) -> Result<u64> + Sync) -> Result<Sample> {
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let run = || -> Result<u64> {
        let mut buffer = vec![0u8; BUFFER_BYTES];
        let mut bytes = 0;
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(bytes);
            }
            bytes += work(index, &mut buffer)?;
        }
    };
    let read: Result<Vec<u64>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?).collect()
    });
    let bytes = read?.into_iter().sum();
    Ok(Sample { seconds: started.elapsed().as_secs_f64(), operations: count as u64, bytes, ..Sample::default() })
}

fn read_whole(path: &Path, buffer: &mut [u8]) -> Result<u64> {
    let shown = || path.display().to_string();
    let mut file = std::fs::File::open(path).with_context(shown)?;
    let mut total = 0;
    loop {
        let got = file.read(buffer).with_context(shown)?;
        if got == 0 {
            return Ok(total);
        }
        total += got as u64;
    }
}

pub(crate) fn small(folder: &Path, names: &[String], count: usize) -> Result<Sample> {
    threads(names.len(), count, |index, buffer| {
        let path = folder.join(&names[index]);
        let got = read_whole(&path, buffer)?;
        if got != SMALL_BYTES as u64 {
            bail!("{}: {got} bytes, want {SMALL_BYTES}", path.display());
        }
        Ok(got)
    })
}

pub(crate) fn large(folder: &Path, want: u64) -> Result<Sample> {
    let started = Instant::now();
    let bytes = read_whole(&folder.join(LARGE), &mut vec![0u8; LARGE_BUFFER_BYTES])?;
    if bytes != want {
        bail!("{LARGE}: {bytes} bytes, want {want}");
    }
    let operations = bytes.div_ceil(LARGE_BUFFER_BYTES as u64);
    Ok(Sample { seconds: started.elapsed().as_secs_f64(), operations, bytes, ..Sample::default() })
}

pub(crate) fn stat(folder: &Path, names: &[String], count: usize) -> Result<Sample> {
    threads(names.len(), count, |index, _| {
        let path = folder.join(&names[index]);
        let size = std::fs::metadata(&path).with_context(|| path.display().to_string())?.len();
        if size != SMALL_BYTES as u64 {
            bail!("{}: size {size}, want {SMALL_BYTES}", path.display());
        }
        Ok(0)
    })
}

pub(crate) fn list(folder: &Path) -> Result<Sample> {
    let started = Instant::now();
    let output = Command::new("ls").arg("-lR").arg(folder.join("small")).stderr(Stdio::piped()).output()?;
    let seconds = started.elapsed().as_secs_f64();
    if !output.status.success() {
        bail!("ls -lR: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let modes = [b'-', b'd'];
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let operations = lines.filter(|line| line.first().is_some_and(|first| modes.contains(first))).count() as u64;
    Ok(Sample { seconds, operations, command: "ls -lR MNT/small".into(), ..Sample::default() })
}

pub(crate) fn mix(folder: &Path, data: &DataSet, operations: usize, count: usize) -> Result<Sample> {
    let names = data.small_names(data.small_files, true);
    let parents: BTreeSet<&str> =
        names.iter().filter_map(|name| name.rsplit_once('/')).map(|(parent, _)| parent).collect();
    let parents: Vec<&str> = parents.into_iter().collect();
    threads(operations, count, |index, _| {
        let path = folder.join(&names[index % names.len()]);
        match index % 10 {
            0..6 => {
                std::fs::metadata(&path).with_context(|| path.display().to_string())?;
            }
            6 | 7 => drop(std::fs::File::open(&path).with_context(|| path.display().to_string())?),
            8 => {
                let parent = folder.join(parents[index / 10 % parents.len()]);
                for entry in std::fs::read_dir(&parent).with_context(|| parent.display().to_string())? {
                    entry?;
                }
            }
            _ => {
                let absent = path.with_extension(format!("absent{index}"));
                if std::fs::metadata(&absent).is_ok() {
                    bail!("{} exists", absent.display());
                }
            }
        }
        Ok(0)
    })
}

/// The same work on a store that has no file system in front. The fingerprints are asked for before the clock runs.
pub(crate) async fn read_objects(store: Arc<dyn UnderStore>, kind: &Kind, data: &DataSet) -> Result<Sample> {
    let (names, at_once) = match kind {
        Kind::Small { files, threads, shuffled } => (data.small_names(*files, *shuffled), *threads),
        _ => (vec![LARGE.to_string()], 1),
    };
    let metas: Vec<ObjectMeta> = futures::stream::iter(&names)
        .map(|name| {
            let store = Arc::clone(&store);
            async move { store.stat(name).await }
        })
        .buffered(8)
        .try_collect()
        .await?;
    let started = Instant::now();
    let reads = futures::stream::iter(names.iter().zip(&metas)).map(|(name, meta)| {
        let store = Arc::clone(&store);
        async move {
            let mut stream = store.read(name, 0..meta.size, &meta.fingerprint).await?;
            let mut bytes = 0u64;
            while let Some(part) = stream.try_next().await? {
                bytes += part.len() as u64;
            }
            Ok::<u64, forebay_ufs::StoreError>(bytes)
        }
    });
    let read: Vec<u64> = reads.buffer_unordered(at_once).try_collect().await?;
    let (operations, bytes) = (read.len() as u64, read.iter().sum());
    Ok(Sample { seconds: started.elapsed().as_secs_f64(), operations, bytes, ..Sample::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_set::content;

    #[test]
    fn files_are_read_counted_and_held_to_their_length() {
        let folder = tempfile::tempdir().expect("a directory");
        let data = DataSet { large_mib: 1, small_files: 60 };
        for name in data.small_names(60, false) {
            let path = folder.path().join(&name);
            std::fs::create_dir_all(path.parent().expect("it has one")).expect("made");
            std::fs::write(path, content(&name, SMALL_BYTES)).expect("written");
        }
        let names = data.small_names(60, true);
        assert_eq!(small(folder.path(), &names, 4).expect("read").bytes, 60 * SMALL_BYTES as u64);
        assert_eq!(stat(folder.path(), &names, 2).expect("seen").operations, 60);
        assert_eq!(mix(folder.path(), &data, 100, 2).expect("done").operations, 100);
        // 60 files in 60 directories of 20, and the 20.
        assert_eq!(list(folder.path()).expect("listed").operations, 140);
        std::fs::write(folder.path().join(&names[7]), b"short").expect("written");
        let error = small(folder.path(), &names, 4).expect_err("a short file").to_string();
        assert!(error.contains("5 bytes, want 102400"), "{error}");
    }
}

//! `fs copy-from`: local files into the stores behind the namespace, several at once.
//!
//! Invariants: a file appears whole or not at all, and counts as copied when its store has all of it; a local file that
//! changes while it is read is not copied.

use super::copy::{Tally, report};
use super::local_tree::{LocalTree, Seen};
use super::paths::absolute;
use super::progress::Progress;
use super::walk::join;
use crate::arguments::CopyFrom;
use crate::failure::{Failure, NOT_FOUND};
use crate::output::printable;
use forebay_base::{ErrorKind, KindError};
use forebay_client::message::namespace::KIND_DIRECTORY;
use forebay_client::{Client, WriteSource};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

const WHAT: &str = "fs copy-from";

/// A source that exists, and where it goes.
struct Root {
    from: PathBuf,
    is_directory: bool,
    to: Vec<u8>,
}

fn local_error(path: &Path, error: &std::io::Error) -> Failure {
    let message = format!("{WHAT}: {}: {error}", path.display());
    match error.kind() {
        std::io::ErrorKind::NotFound => Failure::coded(NOT_FOUND, message),
        _ => Failure::failed(message),
    }
}

/// Copies files and, with `recursive`, trees.
pub(crate) async fn copy_from(client: &Client, arguments: CopyFrom) -> Result<(), Failure> {
    let roots = roots(client, &arguments).await?;
    // One file is one line, with the exit code of what was wrong with it.
    let is_one_file = matches!(&roots[..], [root] if !root.is_directory);
    let progress = Progress::new();
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut last = None;
    let mut running = FuturesUnordered::new();
    let mut end = |tally: &mut Tally, done: Result<u64, Failure>| match done {
        Ok(bytes) => {
            tally.files += 1;
            tally.bytes += bytes;
        }
        Err(failure) => {
            tally.failed += 1;
            if !is_one_file {
                failure.lines().for_each(|line| progress.complain_whole(&line));
            }
            last = Some(failure);
        }
    };
    for root in roots {
        for seen in LocalTree::at(root.from.clone()) {
            let file = match seen {
                Seen::File { path, below } => (path, place(&root.to, &below)),
                Seen::Failed { path, why } => {
                    end(&mut tally, Err(Failure::failed(format!("{WHAT}: {}: {why}", path.display()))));
                    continue;
                }
            };
            running.push(copy(client, file.0, file.1, arguments.overwrite, &progress));
            while running.len() >= usize::from(arguments.threads) {
                if let Some(done) = running.next().await {
                    end(&mut tally, done);
                }
            }
        }
    }
    while let Some(done) = running.next().await {
        end(&mut tally, done);
    }
    progress.finish();
    if let (true, Some(failure)) = (is_one_file, last) {
        return Err(failure);
    }
    report(&tally, began.elapsed(), arguments.json)?;
    match tally.failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{WHAT}: {failed} failed: each is named above"))),
    }
}

/// Looks at all sources and at the destination before anything is copied.
async fn roots(client: &Client, arguments: &CopyFrom) -> Result<Vec<Root>, Failure> {
    let Some((destination, sources)) = arguments.paths.split_last() else {
        return Err(Failure::usage(format!("{WHAT}: want a local source and a destination")));
    };
    let path = absolute(WHAT, destination)?;
    let mut found = Vec::with_capacity(sources.len());
    for source in sources {
        let from = PathBuf::from(source);
        let meta = std::fs::metadata(&from).map_err(|error| local_error(&from, &error))?;
        let shown = from.display();
        if meta.is_dir() && !arguments.recursive {
            return Err(Failure::usage(format!("{WHAT}: {shown}: is a directory: give -R for all below it")));
        }
        if !meta.is_dir() && !meta.is_file() {
            return Err(Failure::usage(format!("{WHAT}: {shown}: is neither a file nor a directory")));
        }
        found.push((from, meta.is_dir()));
    }
    let shown = printable(path);
    let there = match client.resolve(path).await {
        Ok(attr) => Some(attr.kind == KIND_DIRECTORY),
        Err(error) if error.kind == ErrorKind::NotFound => None,
        Err(error) => return Err(Failure::of(WHAT, &shown, &error)),
    };
    let meant = destination.as_bytes().ends_with(b"/") && path != b"/";
    if there == Some(false) && (meant || found.len() > 1 || found.iter().any(|(_, is_directory)| *is_directory)) {
        return Err(Failure::failed(format!("{WHAT}: {shown}: is a file, want a directory")));
    }
    let into = there == Some(true) || meant;
    if !into && found.len() > 1 {
        let count = found.len();
        let message =
            format!("{WHAT}: {shown}: is no directory, want one for {count} paths: put a / behind it to make it");
        return Err(Failure::usage(message));
    }
    let root = |(from, is_directory): (PathBuf, bool)| {
        let to = if into { join(path, own_name(&from)?.as_bytes()) } else { path.to_vec() };
        Ok(Root { from, is_directory, to })
    };
    found.into_iter().map(root).collect()
}

/// The name of a source, also when it is given as `.` or `dir/..`.
fn own_name(path: &Path) -> Result<std::ffi::OsString, Failure> {
    if let Some(name) = path.file_name() {
        return Ok(name.to_os_string());
    }
    let real = path.canonicalize().map_err(|error| local_error(path, &error))?;
    let nameless = || Failure::usage(format!("{WHAT}: {}: has no name of its own", path.display()));
    real.file_name().map(OsStr::to_os_string).ok_or_else(nameless)
}

/// Where a file `below` a source goes.
fn place(to: &[u8], below: &Path) -> Vec<u8> {
    below.iter().fold(to.to_vec(), |path, name| join(&path, name.as_bytes()))
}

async fn copy(
    client: &Client,
    from: PathBuf,
    to: Vec<u8>,
    overwrite: bool,
    progress: &Progress,
) -> Result<u64, Failure> {
    let shown = printable(&to);
    let source = LocalSource::open(from)?;
    let size = source.size();
    progress.add_file(size);
    let mut told = 0;
    let written = client
        .write_file(&to, overwrite, &source, |done| {
            progress.move_bytes(told, done);
            told = done;
        })
        .await;
    progress.end_file();
    written.map(|_| size).map_err(|error| match error.kind {
        ErrorKind::Exists if !overwrite => {
            let hint = format!("{}: give --overwrite to replace it", error.message);
            Failure::of(WHAT, &shown, &KindError::new(error.kind, hint))
        }
        _ => Failure::of(WHAT, &shown, &error),
    })
}

/// A local file, read where it is asked for.
struct LocalSource {
    path: PathBuf,
    file: Arc<File>,
    before: Metadata,
}

impl LocalSource {
    fn open(path: PathBuf) -> Result<Self, Failure> {
        let opened = File::open(&path).and_then(|file| file.metadata().map(|meta| (file, meta)));
        let (file, before) = opened.map_err(|error| local_error(&path, &error))?;
        if !before.is_file() {
            return Err(Failure::failed(format!("{WHAT}: {}: is not a file any more", path.display())));
        }
        Ok(Self { path, file: Arc::new(file), before })
    }

    fn wrong(&self, error: &std::io::Error) -> KindError {
        let why = match error.kind() {
            std::io::ErrorKind::UnexpectedEof => "it became shorter while it was copied".to_string(),
            _ => error.to_string(),
        };
        KindError::new(ErrorKind::Internal, format!("{}: {why}", self.path.display()))
    }
}

impl WriteSource for LocalSource {
    fn size(&self) -> u64 {
        self.before.len()
    }

    async fn read_at(&self, offset: u64, length: usize) -> Result<Vec<u8>, KindError> {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, offset).map(|()| bytes)
        });
        let read = read.await.map_err(|error| KindError::new(ErrorKind::Internal, error.to_string()))?;
        read.map_err(|error| self.wrong(&error))
    }

    fn check(&self) -> Result<(), KindError> {
        let now = self.file.metadata().map_err(|error| self.wrong(&error))?;
        let mark = |meta: &Metadata| (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
        if mark(&now) == mark(&self.before) {
            return Ok(());
        }
        let message = format!("{}: it changed while it was copied: copy it again", self.path.display());
        Err(KindError::new(ErrorKind::Internal, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(place(b"/data/x", Path::new("")), b"/data/x");
        assert_eq!(place(b"/data/x", Path::new("a/b")), b"/data/x/a/b");
        assert_eq!(own_name(Path::new("/tmp/x/")).expect("a name"), "x");
        assert!(own_name(Path::new("/")).is_err());
    }

    #[tokio::test]
    async fn a_file_that_changes_is_noticed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("f");
        std::fs::write(&path, b"12345678").expect("written");
        let source = LocalSource::open(path.clone()).expect("opened");
        assert_eq!(source.read_at(2, 3).await.expect("read"), b"345");
        source.check().expect("the same");
        std::fs::write(&path, b"1234").expect("written");
        let error = source.read_at(2, 6).await.expect_err("it is shorter");
        assert!(error.message.contains("shorter"), "{error}");
        assert!(source.check().expect_err("it changed").message.contains("changed"));
    }
}

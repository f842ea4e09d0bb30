//! `fs copy-to`: files out of the namespace into local ones, several at once.
//!
//! Invariant: a local file appears whole or not at all: bytes go to a temporary name beside it, which is renamed when all
//! are there. The report counts a file as copied only then.

use super::cat::{each_piece, open};
use super::list::last_name;
use super::paths::{Named, named};
use super::progress::Progress;
use super::walk::{Met, Walk};
use crate::arguments::CopyTo;
use crate::failure::Failure;
use crate::output::{self, printable};
use forebay_base::ByteSize;
use forebay_client::Client;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde_json::json;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

const WHAT: &str = "fs copy-to";

#[derive(Default)]
pub(super) struct Tally {
    pub(super) files: u64,
    pub(super) failed: u64,
    pub(super) bytes: u64,
}

/// One thing to copy and where to.
struct Job {
    from: Named,
    to: PathBuf,
}

/// Copies files and, with `recursive`, trees.
pub(crate) async fn copy_to(client: &Client, arguments: CopyTo) -> Result<(), Failure> {
    let Some((destination, sources)) = arguments.paths.split_last() else {
        return Err(Failure::usage(format!("{WHAT}: want a source and a destination")));
    };
    let roots = named(client, WHAT, sources).await?;
    if let Some(directory) = roots.iter().find(|root| root.is_directory() && !arguments.recursive) {
        let message = format!("{WHAT}: {}: is a directory: give -R for all below it", directory.shown());
        return Err(Failure::usage(message));
    }
    let destination = Path::new(destination);
    let into = destination.is_dir();
    if !into && (roots.len() > 1 || destination.as_os_str().as_bytes().ends_with(b"/")) {
        let shown = destination.display();
        return Err(Failure::usage(format!("{WHAT}: {shown}: is no directory, want one for {} paths", roots.len())));
    }
    let progress = Progress::new();
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut running = FuturesUnordered::new();
    for root in roots {
        let to =
            if into { destination.join(OsStr::from_bytes(last_name(&root.path))) } else { destination.to_path_buf() };
        let mut walk = root.is_directory().then(|| Walk::below(client, &root.path, &root.attr, true));
        let above = root.path.clone();
        let mut next = Some(Job { from: root, to: to.clone() });
        loop {
            match next.take() {
                Some(job) if job.from.is_directory() => {
                    if let Err(error) = std::fs::create_dir_all(&job.to) {
                        end(&mut tally, &progress, Err(format!("{WHAT}: {}: {error}\n", job.to.display())));
                    }
                }
                Some(job) => {
                    progress.add_file(job.from.attr.size);
                    running.push(copy(client, job, &progress));
                }
                None => {}
            }
            while running.len() >= usize::from(arguments.threads) {
                if let Some(done) = running.next().await {
                    end(&mut tally, &progress, done);
                }
            }
            let Some(walk) = &mut walk else { break };
            match walk.next().await {
                None => break,
                Some(Met::Entry(path, attr)) => match below(&above, &path, &to) {
                    Some(to) => next = Some(Job { from: Named { path, attr }, to }),
                    None => {
                        let message = format!("{WHAT}: {}: cannot be a local name\n", printable(&path));
                        end(&mut tally, &progress, Err(message));
                    }
                },
                Some(Met::Failed(path, error)) => {
                    let message = format!("{WHAT}: {}: {}\n", printable(&path), error.message);
                    end(&mut tally, &progress, Err(message));
                }
            }
        }
    }
    while let Some(done) = running.next().await {
        end(&mut tally, &progress, done);
    }
    progress.finish();
    report(&tally, began.elapsed(), arguments.json)?;
    match tally.failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{WHAT}: {failed} failed: each is named above"))),
    }
}

/// Says what was copied, either way.
pub(super) fn report(tally: &Tally, took: Duration, as_json: bool) -> Result<(), Failure> {
    let Tally { files, failed, bytes } = tally;
    let seconds = took.as_secs_f64();
    if as_json {
        let value = json!({ "files": files, "failed": failed, "bytes": bytes, "seconds": seconds });
        return output::line(&value.to_string());
    }
    let speed = ByteSize((*bytes as f64 / seconds.max(0.001)) as u64);
    let size = ByteSize(*bytes);
    output::line(&format!("{files} files copied, {failed} failed; {bytes} bytes ({size}); {seconds:.1} s, {speed}/s"))
}

fn end(tally: &mut Tally, progress: &Progress, done: Result<u64, String>) {
    match done {
        Ok(bytes) => {
            tally.files += 1;
            tally.bytes += bytes;
        }
        Err(message) => {
            tally.failed += 1;
            message.lines().for_each(|line| progress.complain(line));
        }
    }
}

/// Where a path below `above` goes below `to`. `None` for a name that would lead elsewhere.
fn below(above: &[u8], path: &[u8], to: &Path) -> Option<PathBuf> {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    let rest = path.strip_prefix(above)?.strip_prefix(b"/")?;
    let mut local = to.to_path_buf();
    for name in rest.split(|byte| *byte == b'/') {
        if matches!(name, b"" | b"." | b"..") || name.contains(&0) {
            return None;
        }
        local.push(OsStr::from_bytes(name));
    }
    Some(local)
}

async fn copy(client: &Client, job: Job, progress: &Progress) -> Result<u64, String> {
    let result = copy_whole(client, &job, progress).await;
    progress.end_file();
    result.map_err(|failure| failure.lines().map(|line| line.replacen("forebay: ", "", 1) + "\n").collect())
}

async fn copy_whole(client: &Client, job: &Job, progress: &Progress) -> Result<u64, Failure> {
    let wrong = |path: &Path, error: std::io::Error| Failure::failed(format!("{WHAT}: {}: {error}", path.display()));
    let source = open(client, WHAT, &job.from).await?;
    let size = source.attr().size;
    let partial = Partial::create(&job.to).map_err(|error| wrong(&job.to, error))?;
    each_piece(WHAT, &job.from, &source, 0..size, |piece| {
        (&partial.file).write_all(&piece).map_err(|error| wrong(&partial.path, error))?;
        progress.add_bytes(piece.len() as u64);
        Ok(true)
    })
    .await?;
    let mtime = SystemTime::UNIX_EPOCH + Duration::from_millis(source.attr().mtime_ms);
    partial.file.set_modified(mtime).map_err(|error| wrong(&partial.path, error))?;
    partial.keep(&job.to).map_err(|error| wrong(&job.to, error))?;
    Ok(size)
}

/// A file under a temporary name; gone unless it is kept.
struct Partial {
    path: PathBuf,
    file: File,
    kept: bool,
}

impl Partial {
    fn create(target: &Path) -> std::io::Result<Self> {
        if target.is_dir() {
            return Err(std::io::Error::other("is a directory, want a file's path"));
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| std::io::Error::other(error.to_string()))?;
        // Not made of the target's name, which may be as long as a name can be.
        let name = OsString::from(format!(".forebay-partial-{:016x}", u64::from_le_bytes(random)));
        let path = target.with_file_name(name);
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, kept: false })
    }

    fn keep(mut self, target: &Path) -> std::io::Result<()> {
        std::fs::rename(&self.path, target)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_destination() {
        assert_eq!(below(b"/a", b"/a/b/c", Path::new("/t")), Some("/t/b/c".into()));
        assert_eq!(below(b"/", b"/b", Path::new("/t")), Some("/t/b".into()));
        assert_eq!(below(b"/a", b"/a/../c", Path::new("/t")), None);
        assert_eq!(below(b"/a", b"/b/c", Path::new("/t")), None);
    }

    #[test]
    fn what_is_not_kept_is_gone() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("x");
        drop(Partial::create(&target).expect("created"));
        assert_eq!(std::fs::read_dir(directory.path()).expect("listed").count(), 0);
        Partial::create(&target).expect("created").keep(&target).expect("renamed");
        assert!(target.exists() && Partial::create(directory.path()).is_err());
    }
}

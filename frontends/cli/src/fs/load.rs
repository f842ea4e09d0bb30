//! `fs load`: fetches files into the cache, several at once, and says exactly what became of each.
//!
//! Invariant: a file counts as loaded only when its `load` answered without an error; the exit code is 1 if any did not.

use super::progress::Progress;
use super::walk::{Met, Walk, resolve};
use crate::failure::Failure;
use crate::output::{self, printable};
use forebay_base::{ByteSize, FileId, KindError, Version};
use forebay_client::Client;
use forebay_client::message::namespace::{Attr, KIND_DIRECTORY};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::time::Instant;

const FILES_IN_FLIGHT: usize = 16;

/// What became of all files.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tally {
    files: u64,
    failed: u64,
    fetched_bytes: u64,
    cached_bytes: u64,
}

impl Tally {
    fn text(&self, seconds: f64) -> String {
        let speed = if seconds > 0.0 { self.fetched_bytes as f64 / seconds } else { 0.0 };
        format!(
            "{} files loaded, {} failed; {} bytes ({}) fetched, {} bytes ({}) cached already; {seconds:.1} s, {}/s fetched",
            self.files,
            self.failed,
            self.fetched_bytes,
            ByteSize(self.fetched_bytes),
            self.cached_bytes,
            ByteSize(self.cached_bytes),
            ByteSize(speed as u64)
        )
    }
}

/// Loads files and, with `recursive`, trees.
pub(crate) async fn load(client: &Client, paths: &[String], recursive: bool) -> Result<(), Failure> {
    let mut roots = Vec::with_capacity(paths.len());
    for path in paths {
        let attr = resolve(client, "fs load", path).await?;
        if attr.kind == KIND_DIRECTORY && !recursive {
            return Err(Failure::usage(format!("fs load: {path}: is a directory: give -R for all below it")));
        }
        roots.push((path.as_bytes().to_vec(), attr));
    }
    let progress = Progress::new();
    let began = Instant::now();
    // The total that the bar shows comes from a walk of its own, ahead of the one that loads: it keeps nothing.
    let counting = async {
        if progress.is_shown() {
            count(client, &roots, &progress).await;
        }
    };
    let (tally, ()) = tokio::join!(load_all(client, &roots, &progress), counting);
    progress.finish();
    output::line(&tally.text(began.elapsed().as_secs_f64()))?;
    match tally.failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("fs load: {failed} failed: each is named above"))),
    }
}

async fn count(client: &Client, roots: &[(Vec<u8>, Attr)], progress: &Progress) {
    for (path, attr) in roots {
        if attr.kind != KIND_DIRECTORY {
            progress.add_file(attr.size);
            continue;
        }
        let mut walk = Walk::below(client, path, attr, true);
        while let Some(met) = walk.next().await {
            if let Met::Entry(_, attr) = met
                && attr.kind != KIND_DIRECTORY
            {
                progress.add_file(attr.size);
            }
        }
    }
}

async fn load_all(client: &Client, roots: &[(Vec<u8>, Attr)], progress: &Progress) -> Tally {
    let mut tally = Tally::default();
    let mut in_flight = FuturesUnordered::new();
    for (path, attr) in roots {
        if attr.kind != KIND_DIRECTORY {
            in_flight.push(load_one(client, path.clone(), attr.clone(), progress));
        } else {
            let mut walk = Walk::below(client, path, attr, true);
            while let Some(met) = walk.next().await {
                match met {
                    Met::Entry(path, attr) if attr.kind != KIND_DIRECTORY => {
                        in_flight.push(load_one(client, path, attr, progress));
                    }
                    Met::Entry(..) => {}
                    Met::Failed(path, error) => end(&mut tally, (path, Err(error)), progress),
                }
                while in_flight.len() >= FILES_IN_FLIGHT {
                    if let Some(ended) = in_flight.next().await {
                        end(&mut tally, ended, progress);
                    }
                }
            }
        }
    }
    while let Some(ended) = in_flight.next().await {
        end(&mut tally, ended, progress);
    }
    tally
}

type Ended = (Vec<u8>, Result<(u64, u64), KindError>);

async fn load_one(client: &Client, path: Vec<u8>, attr: Attr, progress: &Progress) -> Ended {
    let work = async {
        let file = client.open(FileId(attr.file_id), Version(attr.version)).await?;
        let reply = client.load(&file, |fetched, cached| progress.add_bytes(fetched + cached)).await?;
        Ok((reply.fetched_bytes, reply.cached_bytes))
    };
    let outcome = work.await;
    progress.end_file();
    (path, outcome)
}

fn end(tally: &mut Tally, (path, outcome): Ended, progress: &Progress) {
    match outcome {
        Ok((fetched, cached)) => {
            tally.files += 1;
            tally.fetched_bytes += fetched;
            tally.cached_bytes += cached;
        }
        Err(error) => {
            tally.failed += 1;
            progress.complain(&format!("fs load: {}: {}", printable(&path), error.message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_counted_once() {
        let progress = Progress::new();
        let mut tally = Tally::default();
        end(&mut tally, (b"/a".to_vec(), Ok((10, 5))), &progress);
        let failed = KindError::new(forebay_base::ErrorKind::Unavailable, "the store is away");
        end(&mut tally, (b"/b".to_vec(), Err(failed)), &progress);
        assert_eq!(tally, Tally { files: 1, failed: 1, fetched_bytes: 10, cached_bytes: 5 });
        assert!(tally.text(1.0).starts_with("1 files loaded, 1 failed; 10 bytes (10B) fetched"));
    }
}

//! `fs checksum`: MD5 and CRC32C of files, several at once, shown in order.

use super::cat::{each_piece, open};
use super::paths::{Named, named};
use super::progress::Progress;
use super::walk::{Met, Walk};
use crate::arguments::Checksum;
use crate::failure::Failure;
use crate::output::{Output, printable};
use forebay_base::crc32c_append;
use forebay_client::Client;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use md5::{Digest, Md5};
use serde_json::json;

const WHAT: &str = "fs checksum";
const FILES_AT_ONCE: usize = 4;

type Summed = (Named, Result<(String, u32), Failure>);

/// Sums up files and, with `recursive`, trees.
pub(crate) async fn checksum(client: &Client, arguments: Checksum) -> Result<(), Failure> {
    let roots = named(client, WHAT, &arguments.paths).await?;
    if let Some(directory) = roots.iter().find(|root| root.is_directory() && !arguments.recursive) {
        let message = format!("{WHAT}: {}: is a directory: give -R for all below it", directory.shown());
        return Err(Failure::usage(message));
    }
    let progress = Progress::new();
    let mut output = Output::open();
    let (mut failed, mut unlisted) = (0u64, 0u64);
    let mut end = |(named, result): Summed| {
        progress.end_file();
        match result {
            Ok((md5, crc32c)) => {
                let line = if arguments.json {
                    let path = String::from_utf8_lossy(&named.path);
                    let crc32c = format!("{crc32c:08x}");
                    json!({ "path": path, "size": named.attr.size, "md5": md5, "crc32c": crc32c }).to_string()
                } else {
                    format!("{md5}  {crc32c:08x}  {}", named.shown())
                };
                output.line(&line)?;
                output.flush()
            }
            Err(failure) => {
                failed += 1;
                failure.lines().for_each(|line| progress.complain_whole(&line));
                Ok(())
            }
        }
    };
    let mut running = FuturesOrdered::new();
    for root in roots {
        let mut walk = root.is_directory().then(|| Walk::below(client, &root.path, &root.attr, true));
        let mut next = (!root.is_directory()).then_some(root);
        loop {
            if let Some(file) = next.take() {
                progress.add_file(file.attr.size);
                running.push_back(sum(client, file, &progress));
            }
            while running.len() >= FILES_AT_ONCE {
                if let Some(done) = running.next().await {
                    end(done)?;
                }
            }
            let Some(walk) = &mut walk else { break };
            match walk.next().await {
                None => break,
                Some(Met::Entry(path, attr)) => next = Some(Named { path, attr }).filter(|named| !named.is_directory()),
                Some(Met::Failed(path, error)) => {
                    progress.complain(&format!("{WHAT}: {}: {}", printable(&path), error.message));
                    unlisted += 1;
                }
            }
        }
    }
    while let Some(done) = running.next().await {
        end(done)?;
    }
    progress.finish();
    match failed + unlisted {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{WHAT}: {failed} failed: each is named above"))),
    }
}

async fn sum(client: &Client, named: Named, progress: &Progress) -> Summed {
    let work = async {
        let file = open(client, WHAT, &named).await?;
        let (mut md5, mut crc32c) = (Md5::new(), 0);
        each_piece(WHAT, &named, &file, 0..file.attr().size, |piece| {
            md5.update(&piece[..]);
            crc32c = crc32c_append(crc32c, &piece);
            progress.add_bytes(piece.len() as u64);
            Ok(true)
        })
        .await?;
        Ok((md5.finalize().iter().map(|byte| format!("{byte:02x}")).collect(), crc32c))
    };
    let result = work.await;
    (named, result)
}

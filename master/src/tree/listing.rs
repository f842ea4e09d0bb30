//! Listings in parts, ordered by name, with the attributes of every entry. Runs on the serving runtime.

use super::check::Checked;
use super::{Found, LOOKS, SHORT_MS, Tree, live};
use crate::namespace::Partition;
use forebay_base::{FileId, KindError, limits};
use forebay_net::message::namespace::{Entry, ReadDir, ReadDirReply};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A listing that was fresh when it began goes on in parts for this long.
const LISTING_SESSION: Duration = Duration::from_secs(60);

impl Tree {
    /// A part of a directory.
    pub(crate) async fn read_dir(self: &Arc<Self>, request: &ReadDir) -> Result<ReadDirReply, KindError> {
        let (directory, after) = (FileId(request.directory), &request.after);
        let entries_max = request.entries_max.clamp(1, limits::LISTING_ENTRIES_MAX) as usize;
        let now = Instant::now();
        // What was listed since the caller asked first is as fresh as it may expect. A master that was started since has
        // listed nothing before it.
        let asked = match request.since_us {
            0 => now,
            since_us => self.started.checked_add(Duration::from_micros(since_us)).map_or(now, |asked| asked.min(now)),
        };
        let since_us = asked.duration_since(self.started).as_micros() as u64;
        let mut short = false;
        for look in 0..=LOOKS {
            let found = self.directory(directory).await?;
            if found.inode.mount_id == 0 {
                short = true;
                break;
            }
            let mount = self.mount_of(&found)?;
            let listed = self.freshness.listed(directory);
            let bound = self.policies.bound(&mount, &found.inode.store_key);
            let goes_on =
                !after.is_empty() && !request.known_only && listed.is_some_and(|at| at.elapsed() < LISTING_SESSION);
            if goes_on || bound.valid_ms(listed, found.inode.listed, asked).is_some() || look == LOOKS {
                break;
            }
            if request.known_only {
                return Ok(ReadDirReply { entries: Vec::new(), end: false, names_seen: 0, since_us: 0 });
            }
            match self.check_listing(&mount, &found).await? {
                Checked::At(_) => {}
                Checked::Away => {
                    short = true;
                    break;
                }
                Checked::UnderWay(names_seen) => {
                    let names_seen = names_seen.max(1);
                    return Ok(ReadDirReply { entries: Vec::new(), end: false, names_seen, since_us: since_us.max(1) });
                }
            }
        }
        self.page(directory, after.clone(), entries_max, short, asked).await
    }

    async fn page(
        &self,
        directory: FileId,
        after: Vec<u8>,
        entries_max: usize,
        short: bool,
        asked: Instant,
    ) -> Result<ReadDirReply, KindError> {
        let look = move |partition: &Partition| {
            let mut names: Vec<_> = partition
                .entries_after(directory, &after)
                .take(entries_max + 1)
                .map(|(name, entry)| (name.to_vec(), entry.file_id, live(partition, entry.file_id)))
                .collect();
            let end = names.len() <= entries_max;
            names.truncate(entries_max);
            (names, end)
        };
        let (names, end) = self.cores.read(directory.partition(), look).await?;
        let far: Vec<FileId> = names
            .iter()
            .filter(|(_, id, near)| near.is_none() && id.partition() != directory.partition())
            .map(|name| name.1)
            .collect();
        let mut far = self.inodes(&far).await?.into_iter();
        let mut entries = Vec::with_capacity(names.len());
        for (name, id, near) in names {
            let found = match near {
                Some(inode) => Some(Found { id, inode }),
                None if id.partition() != directory.partition() => far.next().flatten(),
                None => None,
            };
            let Some(found) = found else { continue };
            let valid = match self.mounts.get(found.inode.mount_id) {
                Some(mount) if !short => {
                    let checked = self.freshness.checked(id, directory);
                    self.policies.bound(&mount, &found.inode.store_key).valid_ms(checked, true, asked).unwrap_or(0)
                }
                _ => SHORT_MS,
            };
            entries.push(Entry { name, attr: found.attr(valid) });
        }
        Ok(ReadDirReply { entries, end, names_seen: 0, since_us: 0 })
    }
}

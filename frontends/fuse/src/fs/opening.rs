//! What is asked for ahead of its time: listings, rights to read, contents of small files. Runs on the session's threads.
//!
//! Invariant: it is only ever a guess; a reader whose file was not guessed asks for it alone.

use super::ahead::BATCH_FILES_MAX;
use super::forebay::Forebay;
use super::names::Content;
use super::node_table::Node;
use crate::handler::Errno;
use bytes::Bytes;
use forebay_base::{ErrorKind, FileId, KindError};
use forebay_client::Grant;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// How often the master is asked whether something changed, while anything is remembered.
const FOLLOWED_EACH: Duration = Duration::from_secs(1);
/// Entries of a listing asked for at once.
const PART_ENTRIES: u32 = 1024;

impl Forebay {
    /// Asks behind the caller's back for a part of a directory, if the master has it.
    pub(super) fn list_ahead(&self, directory: FileId, after: Vec<u8>) {
        let (client, names) = (self.client.clone(), self.names.clone());
        tokio::spawn(async move {
            let asked = Instant::now();
            match client.read_known_dir(directory, &after, PART_ENTRIES).await {
                Ok(Some(part)) => names.put(directory, &after, Arc::new(part.entries), part.end, asked),
                Ok(None) => names.in_vain(directory),
                Err(error) => {
                    tracing::debug!(%directory, %error, "not listed ahead");
                    names.in_vain(directory);
                }
            }
        });
    }

    fn parent(&self, node: &Node) -> Option<FileId> {
        self.nodes.with(node.parent, |parent| parent.file_id)
    }

    /// Files behind this one in its directory's order, as far as they are known.
    pub(super) fn following(&self, node: &Node, count: usize) -> Vec<Content> {
        let Some(parent) = self.parent(node) else { return Vec::new() };
        self.names.following(parent, &node.name, (node.file_id, node.version), count)
    }

    /// The right to read a node: held, or asked for together with those of files that may follow: the next ones of a
    /// walk of `batch` files, or siblings.
    pub(super) async fn grant(&self, id: u64, node: &Node, batch: usize) -> Result<Arc<Grant>, Errno> {
        let own = (node.file_id, node.version);
        let believed = node.valid_until.is_none_or(|until| Instant::now() < until);
        if believed && let Some(grant) = self.grants.get(own) {
            return Ok(grant);
        }
        let more = if batch > 1 { batch - 1 } else { self.grants.siblings() };
        let mut wanted = vec![own];
        wanted.extend(self.following(node, more).into_iter().filter(|other| self.grants.look(*other).is_none()));
        let asked = Instant::now();
        let granted = self.client.grants(&wanted).await.map_err(|error| self.failed("open", id, &error))?;
        let mut answer = Err(KindError::new(ErrorKind::Corrupt, "OpenRead: no answer for the file"));
        for (content, result) in wanted.into_iter().zip(granted) {
            match result {
                Ok(grant) if content != own => self.grants.put(content, Arc::new(grant), true, asked),
                Ok(grant) if self.nodes.refresh(id, grant.attr(), asked) => {
                    let grant = Arc::new(grant);
                    self.grants.put(own, grant.clone(), false, asked);
                    answer = Ok(grant);
                }
                Ok(grant) => {
                    let message = format!("file {} has version {} now", grant.attr().file_id, grant.attr().version);
                    answer = Err(KindError::new(ErrorKind::Stale, message));
                }
                Err(error) => {
                    if matches!(error.kind, ErrorKind::Stale | ErrorKind::NotFound) {
                        self.not_live(content, node);
                    }
                    if content == own {
                        answer = Err(error);
                    }
                }
            }
        }
        answer.map_err(|error| self.failed("open", id, &error))
    }

    /// The master has another version of a file in the directory of `sibling`.
    fn not_live(&self, content: Content, sibling: &Node) {
        if let Some(id) = self.nodes.live(content.0, content.1) {
            self.nodes.supersede(id);
        }
        self.grants.remove(content);
        if let Some(parent) = self.parent(sibling) {
            self.names.forget(parent);
        }
    }

    /// A node's version is not live any more: the kernel has to look its name up again.
    pub(super) fn supersede(&self, id: u64, node: &Node) {
        self.nodes.supersede(id);
        if !node.superseded {
            self.not_live((node.file_id, node.version), node);
        }
    }

    /// Asks each second whether a file changed or went, and forgets what was asked for ahead if so: what is opened later
    /// is then at most as old as that. Ends with the file system.
    pub async fn follow_changes(forebay: Weak<Forebay>) {
        let mut seen = None;
        loop {
            tokio::time::sleep(FOLLOWED_EACH).await;
            let Some(forebay) = forebay.upgrade() else { return };
            if forebay.names.is_empty() && forebay.grants.is_empty() {
                seen = None;
                continue;
            }
            match forebay.client.feed_position().await {
                Ok(position) if seen == Some(position) => {}
                Ok(position) => {
                    seen = Some(position);
                    forebay.forget_ahead();
                }
                // A master that is away changes nothing; one that is away for long may come back changed.
                Err(error) => {
                    tracing::debug!(%error, "the master does not say whether files changed");
                    seen = None;
                }
            }
        }
    }

    fn forget_ahead(&self) {
        self.names.forget_all();
        self.grants.forget_all();
    }

    /// Starts on the contents of the small files that follow in a walk.
    pub(super) fn fetch_ahead(&self, node: &Node) {
        let followers = self.following(node, BATCH_FILES_MAX).into_iter();
        self.ahead.fetch(&self.client, followers.map(|content| (content, self.grants.look(content))).collect());
    }

    /// A range of what was fetched ahead.
    pub(super) async fn taken_ahead(&self, content: Content, offset: u64, size: u32) -> Option<Bytes> {
        let whole = self.ahead.get(content).await?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(whole.len());
        let end = start.saturating_add(size as usize).min(whole.len());
        if end == whole.len() {
            self.ahead.read(content);
        }
        Some(whole.slice(start..end))
    }
}

//! Other names for objects and directories: copies, then deletes.
//!
//! Invariants: nothing under the old name is deleted before all of it has the new one, in the content that it has then. A
//! directory's marker under the new name says where it comes from until the rename is over, so the same call again
//! goes on, and no other one takes the half of it for something that was there.

use super::{
    S3Inner,
    client::{Call, Trouble},
    copy::Copy,
    object::{Facts, directory_meta},
};
use crate::{
    failure::Failure,
    key::{is_below, last_name},
    under_store::ObjectMeta,
    upload::WriteMode,
};
use forebay_base::{ErrorKind, Fingerprint};
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::collections::BTreeMap;

/// Requests of one rename at once.
const UNDER_WAY: usize = 16;
/// How often what changed meanwhile is copied again.
const ROUNDS: usize = 5;
/// Objects below a directory that is renamed: their names are in memory.
const OBJECTS_MAX: usize = 1_000_000;
/// On the marker of a directory that is on its way: the hash of the old key.
const COMES_FROM: HeaderName = HeaderName::from_static("x-amz-meta-forebay-rename-from");
/// There once the rename is over.
const OVER: &str = "none";

/// What lies below a directory, by the rest of the key.
type Below = BTreeMap<String, Facts>;

impl S3Inner {
    pub(super) async fn rename(&self, from: &str, to: &str, replace: bool) -> Result<ObjectMeta, Failure> {
        if is_below(to, from) {
            return Err(Failure::new(ErrorKind::Invalid, "a directory cannot be moved into itself"));
        }
        let found = self.looked_up(&self.full_key(from)).await?;
        match found {
            Some(facts) => self.rename_object(from, to, replace, facts).await,
            None => self.rename_directory(from, to, replace).await,
        }
    }

    async fn rename_object(&self, from: &str, to: &str, replace: bool, facts: Facts) -> Result<ObjectMeta, Failure> {
        if from == to && replace {
            return Ok(facts.meta(last_name(to)));
        }
        let (old, new) = (self.full_key(from), self.full_key(to));
        let there = self.looked_up(&new).await?;
        if there.is_none() && self.is_inhabited(to).await? {
            return Err(match replace {
                true => Failure::new(ErrorKind::IsADirectory, "a file does not replace a directory"),
                false => Failure::new(ErrorKind::Exists, "it exists already"),
            });
        }
        if there.is_some() && !replace {
            return Err(Failure::new(ErrorKind::Exists, "it exists already"));
        }
        let mode = if replace { WriteMode::Replace } else { WriteMode::CreateOnly };
        self.copy(&Copy { from: &old, to: &new, facts: &facts, mode: &mode }).await?;
        // Written meanwhile it stays under both names.
        if self.looked_up(&old).await?.is_some_and(|now| now.fingerprint() != facts.fingerprint()) {
            return Err(Failure::new(ErrorKind::Stale, "it was written while it was renamed"));
        }
        self.deleted(&old).await?;
        let deadline = self.gate.deadline();
        self.gate.within(deadline, self.stat(to, deadline)).await
    }

    async fn rename_directory(&self, from: &str, to: &str, replace: bool) -> Result<ObjectMeta, Failure> {
        let (old, new) = (self.directory_prefix(from), self.directory_prefix(to));
        let is_resumed = self.comes_from(&new).await? == Some(mark(&old));
        let mut source = self.below(&old).await?;
        if source.is_empty() && !is_resumed {
            return Err(Failure::new(ErrorKind::NotFound, "neither an object nor a prefix of any"));
        }
        if from == to && replace {
            return Ok(directory_meta(last_name(to)));
        }
        if !is_resumed {
            self.is_free(to, &new, replace).await?;
            self.marked(&new, Some(&mark(&old))).await?;
        }
        let mut round = 0;
        loop {
            let is_whole = self.copy_all(&old, &new, &source).await?;
            let now = self.below(&old).await?;
            if is_whole && now == source {
                break;
            }
            round += 1;
            if round == ROUNDS {
                return Err(Failure::new(ErrorKind::Stale, "what is below it kept changing while it was renamed"));
            }
            source = now;
        }
        // Markers last, the deepest first: a store may refuse to delete one with keys below it.
        let named = source.iter().map(|(rest, facts)| (format!("{old}{rest}"), facts.clone()));
        let (markers, objects): (Vec<_>, Vec<_>) = named.partition(|(key, _)| key.ends_with('/'));
        let kept: Vec<bool> = stream::iter(objects)
            .map(|(key, facts)| async move { self.deleted_if_copied(&key, &facts).await })
            .buffer_unordered(UNDER_WAY)
            .try_collect()
            .await?;
        if kept.contains(&true) {
            return Err(Failure::new(ErrorKind::Stale, "something below it was written while it was renamed"));
        }
        for (key, _) in markers.iter().rev() {
            self.deleted(key).await?;
        }
        // Not merely without it: there are servers that keep metadata which is not given anew.
        self.marked(&new, Some(OVER)).await?;
        Ok(directory_meta(last_name(to)))
    }

    /// Whether a directory may get this name.
    async fn is_free(&self, to: &str, new: &str, replace: bool) -> Result<(), Failure> {
        let exists = || Failure::new(ErrorKind::Exists, "it exists already");
        if self.looked_up(&self.full_key(to)).await?.is_some() {
            return Err(match replace {
                true => Failure::new(ErrorKind::NotADirectory, "a directory replaces only a directory"),
                false => exists(),
            });
        }
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        let page = self.gate.within(deadline, self.page(new, "2", None, deadline)).await?;
        match (page.is_inhabited(), replace) {
            (true, false) => Err(exists()),
            (true, true) if page.has_more_than(new) => {
                Err(Failure::new(ErrorKind::NotEmpty, "the directory has entries"))
            }
            _ => Ok(()),
        }
    }

    /// Deletes what was copied; what was written since stays, and is told.
    async fn deleted_if_copied(&self, key: &str, facts: &Facts) -> Result<bool, Failure> {
        match self.looked_up(key).await? {
            None => Ok(false),
            Some(now) if now.same_content(facts) => self.deleted(key).await.map(|()| false),
            Some(_) => Ok(true),
        }
    }

    /// Copies what is not under the new name yet; whether all of it was there to be copied.
    async fn copy_all(&self, old: &str, new: &str, source: &Below) -> Result<bool, Failure> {
        let there = self.below(new).await?;
        let is_there = |rest: &str, facts: &Facts| {
            rest.is_empty() || there.get(rest).is_some_and(|copy| copy.etag.is_some() && copy.same_content(facts))
        };
        let missing: Vec<(String, Facts)> = source
            .iter()
            .filter(|(rest, facts)| !is_there(rest, facts))
            .map(|(rest, facts)| (rest.clone(), facts.clone()))
            .collect();
        let copied: Vec<bool> = stream::iter(missing)
            .map(|(rest, facts)| async move { self.copy_one(old, new, &rest, &facts).await })
            .buffer_unordered(UNDER_WAY)
            .try_collect()
            .await?;
        Ok(!copied.contains(&false))
    }

    async fn copy_one(&self, old: &str, new: &str, rest: &str, facts: &Facts) -> Result<bool, Failure> {
        let (from, to) = (format!("{old}{rest}"), format!("{new}{rest}"));
        if rest.ends_with('/') && facts.size == 0 {
            return self.marked(&to, None).await.map(|()| true);
        }
        let copied = self.copy(&Copy { from: &from, to: &to, facts, mode: &WriteMode::Replace }).await;
        match copied {
            // It went or changed meanwhile: the next round sees it.
            Err(failure) if matches!(failure.kind, ErrorKind::Stale | ErrorKind::NotFound) => Ok(false),
            other => other.map(|_| true),
        }
    }

    /// All keys that begin with `prefix`.
    async fn below(&self, prefix: &str) -> Result<Below, Failure> {
        let mut found = Below::new();
        let mut after: Option<String> = None;
        loop {
            let deadline = self.gate.deadline();
            let _permit = self.gate.enter(deadline).await?;
            let page = self.flat_page(prefix, after.as_deref(), deadline);
            let (keys, next) = self.gate.within(deadline, page).await?.keys_below(prefix)?;
            found.extend(keys);
            if found.len() > OBJECTS_MAX {
                let message = format!("it has more than {OBJECTS_MAX} objects below it, the most that are renamed");
                return Err(Failure::new(ErrorKind::Unsupported, message));
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(found),
            }
        }
    }

    pub(super) async fn looked_up(&self, full_key: &str) -> Result<Option<Facts>, Failure> {
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        self.gate.within(deadline, self.head_if_there(full_key, deadline)).await
    }

    async fn is_inhabited(&self, key: &str) -> Result<bool, Failure> {
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        let prefix = self.directory_prefix(key);
        Ok(self.gate.within(deadline, self.page(&prefix, "1", None, deadline)).await?.is_inhabited())
    }

    async fn deleted(&self, full_key: &str) -> Result<(), Failure> {
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        self.gate.within(deadline, self.delete_full(full_key, deadline)).await
    }

    /// Writes a directory's marker, with or without where it comes from.
    pub(super) async fn marked(&self, marker: &str, comes_from: Option<&str>) -> Result<(), Failure> {
        let mut headers = HeaderMap::new();
        if let Some(value) = comes_from.and_then(|mark| HeaderValue::from_str(mark).ok()) {
            headers.insert(COMES_FROM, value);
        }
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        self.gate.within(deadline, self.put_marker(marker, headers, deadline)).await
    }

    /// What a marker says about where its directory comes from.
    async fn comes_from(&self, marker: &str) -> Result<Option<String>, Failure> {
        let deadline = self.gate.deadline();
        let _permit = self.gate.enter(deadline).await?;
        let head = async {
            match self.client.send(&Call::new(Method::HEAD, marker), &self.gate, deadline).await {
                Ok(response) => Ok(response.headers().get(&COMES_FROM).cloned()),
                Err(Trouble::Refused(refusal)) if refusal.status == StatusCode::NOT_FOUND => Ok(None),
                Err(trouble) => Err(Failure::from(trouble)),
            }
        };
        let value = self.gate.within(deadline, head).await?;
        Ok(value.and_then(|value| value.to_str().ok().map(str::to_string)))
    }
}

/// A key may be longer than metadata, and have any characters.
pub(super) fn mark(old: &str) -> String {
    format!("{:032x}", Fingerprint(old.to_string()).hash().0)
}

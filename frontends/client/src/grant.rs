//! The right to read one version of one file: its attributes and the master's ticket, renewed while it is used.
//! Shared by every open handle of that version in this process, on any thread.
//!
//! Invariant: once the master or a worker said `Stale`, every later read of this version says so too.

use crate::client::Inner;
use forebay_base::{ErrorKind, FileId, KindError, Version};
use forebay_net::message::namespace::{Attr, OpenRead, OpenResult};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The right to read one version of one file.
pub struct Grant {
    attr: Attr,
    state: Mutex<State>,
    renewing: tokio::sync::Mutex<()>,
}

struct State {
    ticket: Arc<[u8]>,
    renew_at: Instant,
    expires: Instant,
    /// Connections that have seen this ticket.
    presented: Vec<u64>,
    renewal_runs: bool,
    stale: Option<String>,
    failed: Option<FailedRange>,
}

/// A range that could not be had a moment ago.
struct FailedRange {
    when: Instant,
    offset: u64,
    length: u32,
    error: KindError,
}

/// The kernel asks for a failed read-ahead again, page by page: it hears the same answer for this long.
const FAILURE_LIFE: Duration = Duration::from_millis(500);

/// A ticket this close to its end is not sent any more.
const MARGIN: Duration = Duration::from_secs(1);
const PRESENTED_MAX: usize = 64;

/// A checked answer of `OpenRead`.
struct Granted {
    attr: Attr,
    ticket: Arc<[u8]>,
    renew_at: Instant,
    expires: Instant,
}

/// Checks one answer of `OpenRead` and turns its status into an error.
fn granted(result: OpenResult, asked: Instant) -> Result<Granted, KindError> {
    if result.status != 0 {
        let kind = ErrorKind::from_code(result.status).unwrap_or(ErrorKind::Internal);
        return Err(KindError::new(kind, result.message));
    }
    let Some(attr) = result.attr else {
        return Err(KindError::new(ErrorKind::Corrupt, "OpenRead: the master sent a ticket without attributes"));
    };
    if attr.block_bytes == 0 || attr.page_bytes == 0 {
        return Err(KindError::new(ErrorKind::Corrupt, "OpenRead: block and page size must not be 0"));
    }
    let life = Duration::from_millis(result.ticket_life_ms.min(forebay_base::limits::TICKET_LIFE_MS));
    let (renew_at, expires) = (asked + life / 2, asked + life.saturating_sub(MARGIN));
    Ok(Granted { attr, ticket: result.ticket.into(), renew_at, expires })
}

impl Grant {
    /// From one answer of `OpenRead`, sent at `asked`.
    pub(crate) fn new(result: OpenResult, asked: Instant) -> Result<Grant, KindError> {
        let Granted { attr, ticket, renew_at, expires } = granted(result, asked)?;
        let state =
            State { ticket, renew_at, expires, presented: Vec::new(), renewal_runs: false, stale: None, failed: None };
        Ok(Grant { attr, state: Mutex::new(state), renewing: tokio::sync::Mutex::new(()) })
    }

    /// The file as it was when the ticket was first given.
    #[must_use]
    pub fn attr(&self) -> &Attr {
        &self.attr
    }

    /// Which file.
    #[must_use]
    pub fn file_id(&self) -> FileId {
        FileId(self.attr.file_id)
    }

    /// Which version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version(self.attr.version)
    }

    /// Whether reads need no word from the master now.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        let state = self.state();
        state.stale.is_none() && Instant::now() < state.renew_at
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stale_error(&self, message: &str) -> KindError {
        KindError::new(ErrorKind::Stale, message.to_string())
    }

    /// Remembers that the version is not live any more.
    pub(crate) fn mark_stale(&self, message: &str) {
        self.state().stale = Some(message.to_string());
    }

    /// Remembers that a range could not be had.
    pub(crate) fn set_failed(&self, offset: u64, length: u32, error: &KindError) {
        self.state().failed = Some(FailedRange { when: Instant::now(), offset, length, error: error.clone() });
    }

    /// The error of a moment ago for a read that starts inside the range that failed.
    pub(crate) fn just_failed(&self, offset: u64) -> Option<KindError> {
        let state = self.state();
        let failed = state.failed.as_ref()?;
        let inside = offset >= failed.offset && offset - failed.offset < u64::from(failed.length);
        (inside && failed.when.elapsed() < FAILURE_LIFE).then(|| failed.error.clone())
    }

    /// A ticket that is valid now; starts a renewal in the background when half its life is over.
    pub(crate) async fn ticket(self: &Arc<Self>, inner: &Arc<Inner>) -> Result<Arc<[u8]>, KindError> {
        let seen = {
            let now = Instant::now();
            let mut state = self.state();
            if let Some(message) = &state.stale {
                return Err(self.stale_error(message));
            }
            if now >= state.renew_at && now < state.expires && !state.renewal_runs {
                state.renewal_runs = true;
                self.renew_behind(inner);
            }
            if now < state.expires {
                return Ok(state.ticket.clone());
            }
            state.ticket.clone()
        };
        self.renew(inner, &seen).await?;
        Ok(self.state().ticket.clone())
    }

    fn renew_behind(self: &Arc<Self>, inner: &Arc<Inner>) {
        let (grant, inner) = (self.clone(), inner.clone());
        tokio::spawn(async move {
            let seen = grant.state().ticket.clone();
            if let Err(error) = grant.renew(&inner, &seen).await {
                tracing::debug!(file_id = grant.attr.file_id, %error, "ticket not renewed yet");
            }
            grant.state().renewal_runs = false;
        });
    }

    /// Fetches a new ticket unless somebody else has replaced `seen` meanwhile.
    pub(crate) async fn renew(&self, inner: &Inner, seen: &Arc<[u8]>) -> Result<(), KindError> {
        let _turn = self.renewing.lock().await;
        if !Arc::ptr_eq(&self.state().ticket, seen) {
            return Ok(());
        }
        let asked = Instant::now();
        let reply = inner.masters.call(&OpenRead { files: vec![(self.attr.file_id, self.attr.version)] }).await?;
        let Some(result) = reply.files.into_iter().next() else {
            return Err(KindError::new(ErrorKind::Corrupt, "OpenRead: the master answered for no file"));
        };
        match granted(result, asked) {
            Ok(Granted { attr, .. }) if attr.version != self.attr.version => {
                let message = format!(
                    "file {} has version {} now, version {} was opened",
                    self.attr.file_id, attr.version, self.attr.version
                );
                self.mark_stale(&message);
                Err(self.stale_error(&message))
            }
            Ok(Granted { ticket, renew_at, expires, .. }) => {
                inner.metrics.here().ticket_renewals.add(1);
                let mut state = self.state();
                state.ticket = ticket;
                (state.renew_at, state.expires) = (renew_at, expires);
                state.presented.clear();
                Ok(())
            }
            Err(error) if matches!(error.kind, ErrorKind::Stale | ErrorKind::NotFound) => {
                self.mark_stale(&error.message);
                Err(self.stale_error(&error.message))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the connection has seen this very ticket.
    pub(crate) fn was_presented(&self, link: u64, ticket: &Arc<[u8]>) -> bool {
        let state = self.state();
        Arc::ptr_eq(&state.ticket, ticket) && state.presented.contains(&link)
    }

    /// Remembers, or with `false` forgets, that the connection has seen this ticket.
    pub(crate) fn set_presented(&self, link: u64, ticket: &Arc<[u8]>, presented: bool) {
        let mut state = self.state();
        state.presented.retain(|seen| *seen != link);
        if presented && Arc::ptr_eq(&state.ticket, ticket) {
            if state.presented.len() >= PRESENTED_MAX {
                state.presented.remove(0);
            }
            state.presented.push(link);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(status: u16) -> OpenResult {
        let attr = Attr {
            file_id: 5,
            version: 7,
            size: 10,
            mtime_ms: 0,
            block_bytes: 256 << 20,
            page_bytes: 1 << 20,
            mode: 0o444,
            uid: 0,
            gid: 0,
            nlink: 1,
            mount_id: 1,
            kind: 1,
            valid_for_ms: 1000,
        };
        OpenResult { status, message: "m".into(), attr: Some(attr), ticket: vec![1], ticket_life_ms: 60_000 }
    }

    #[test]
    fn refusals_keep_their_kind() {
        let error = Grant::new(result(ErrorKind::Stale.code()), Instant::now()).map(|_| ()).unwrap_err();
        assert_eq!(error, KindError::new(ErrorKind::Stale, "m"));
        let mut bad = result(0);
        bad.attr.as_mut().unwrap().block_bytes = 0;
        assert_eq!(Grant::new(bad, Instant::now()).map(|_| ()).unwrap_err().kind, ErrorKind::Corrupt);
    }

    #[test]
    fn a_ticket_is_presented_once_per_connection() {
        let grant = Grant::new(result(0), Instant::now()).unwrap();
        let ticket = grant.state().ticket.clone();
        assert!(!grant.was_presented(3, &ticket));
        grant.set_presented(3, &ticket, true);
        assert!(grant.was_presented(3, &ticket) && !grant.was_presented(4, &ticket));
        grant.set_presented(3, &ticket, false);
        assert!(!grant.was_presented(3, &ticket));
        assert!(grant.is_fresh());
        grant.mark_stale("gone");
        assert!(!grant.is_fresh());
    }

    #[test]
    fn a_range_that_just_failed_fails_again_at_once_and_no_other() {
        let grant = Grant::new(result(0), Instant::now()).unwrap();
        let error = KindError::new(ErrorKind::Unavailable, "store s3://b did not answer");
        grant.set_failed(4096, 8192, &error);
        assert_eq!(grant.just_failed(4096), Some(error.clone()));
        assert_eq!(grant.just_failed(12_287), Some(error));
        assert_eq!((grant.just_failed(0), grant.just_failed(12_288)), (None, None));
        std::thread::sleep(FAILURE_LIFE);
        assert_eq!(grant.just_failed(4096), None);
    }
}

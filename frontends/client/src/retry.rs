//! Which errors are worth another try, and how long to wait before it. Pure.

use forebay_base::ErrorKind;
use std::time::{Duration, Instant};

/// Waits that double from 20 ms to 1 s, inside one deadline.
pub(crate) struct Backoff {
    next: Duration,
    deadline: Instant,
}

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(1);

impl Backoff {
    /// Gives up `patience` from now.
    pub(crate) fn new(patience: Duration) -> Self {
        Self { next: FIRST, deadline: Instant::now() + patience }
    }

    /// What is left.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Sleeps before the next try, at most until the deadline; false once that has passed.
    pub(crate) async fn wait(&mut self) -> bool {
        let remaining = self.remaining();
        if remaining.is_zero() {
            return false;
        }
        tokio::time::sleep(self.next.min(remaining)).await;
        self.next = (self.next * 2).min(LONGEST);
        true
    }
}

/// What to do about an error that a worker or the way to it produced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The same everywhere: tell the caller.
    Final,
    /// This worker or the way to it: try the next one, keep trying.
    Elsewhere,
    /// Present the ticket, or renew it.
    Ticket,
}

/// Judges an error kind.
pub(crate) fn verdict(kind: ErrorKind) -> Verdict {
    match kind {
        ErrorKind::Overloaded
        | ErrorKind::Unavailable
        | ErrorKind::NotLeader
        | ErrorKind::Corrupt
        | ErrorKind::Closed => Verdict::Elsewhere,
        ErrorKind::TicketRequired => Verdict::Ticket,
        _ => Verdict::Final,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_content_decides_is_final() {
        for kind in [ErrorKind::Stale, ErrorKind::NotFound, ErrorKind::Denied, ErrorKind::Invalid] {
            assert_eq!(verdict(kind), Verdict::Final);
        }
        assert_eq!(verdict(ErrorKind::Unavailable), Verdict::Elsewhere);
        assert_eq!(verdict(ErrorKind::TicketRequired), Verdict::Ticket);
    }

    #[tokio::test]
    async fn back_off_ends_with_the_deadline() {
        let mut backoff = Backoff { next: FIRST, deadline: Instant::now() + Duration::from_millis(100) };
        let mut tries = 0;
        while tries < 100 && backoff.wait().await {
            tries += 1;
        }
        assert!((1..100).contains(&tries), "{tries}");
    }
}

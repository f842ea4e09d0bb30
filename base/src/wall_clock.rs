//! The host's clock, read in one place. Used for ticket expiry and time stamps only; never inside deterministic state.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by the host's clock; 0 if it stands before 1970.
#[must_use]
pub fn unix_now_ms() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "the one sanctioned reader")]
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

//! `Explain`: what this core knows of a file, for `forebay admin explain`.

use super::Service;
use crate::report::{configured, tier_name};
use forebay_base::{ErrorKind, FileId, KindError, Version};
use forebay_engine::{Cause, Gone, HeldAt};
use forebay_net::message::data::{Explain, ExplainGone, ExplainPlace, ExplainReply};
use forebay_net::transport::glommio::ShardReply;
use std::time::{Duration, Instant};

fn word(cause: Cause) -> &'static str {
    match cause {
        Cause::Room => "room",
        Cause::Dead => "dead",
        Cause::Freed => "freed",
        Cause::Corrupt => "corrupt",
        Cause::Unreadable => "unreadable",
        Cause::DirectoryLost => "directory-lost",
        Cause::NotWritten => "not-written",
        Cause::NotAdmitted => "not-admitted",
        Cause::PinRefused => "pin-refused",
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Service {
    pub(super) fn explain(&self, request: &Explain) -> Result<ShardReply, KindError> {
        let (file_id, version) = (FileId(request.file_id), Version(request.version));
        if let Some(owner) = self.other_owner(file_id) {
            let message = format!("file {file_id}: got core {}, want core {owner} of this worker", self.shard);
            return Err(KindError::new(ErrorKind::Invalid, message));
        }
        let found = self.engine.explain(file_id, version);
        let now = Instant::now();
        let place = |place: &HeldAt| ExplainPlace {
            tier: place.tier.map_or("", tier_name).into(),
            directory: configured(&place.path).display().to_string(),
            pages: place.pages,
            bytes: place.bytes,
            pinned_pages: place.pinned_pages,
            read_bytes: place.read_bytes,
        };
        let gone = |gone: &Gone| ExplainGone {
            version: gone.version.0,
            tier: tier_name(gone.tier).into(),
            cause: word(gone.cause).into(),
            pages: gone.pages,
            age_ms: ms(now.saturating_duration_since(gone.when)),
        };
        Ok(ShardReply::of(&ExplainReply {
            places: found.places.iter().map(place).collect(),
            queued_pages: found.queued_pages,
            moving_pages: found.moving_pages,
            policy: self.policy.clone(),
            pin_bytes: found.pin.map_or(0, |pin| pin.reserved_bytes),
            pin_ms: found.pin.map_or(0, |pin| ms(pin.until.saturating_duration_since(now))),
            pin_short: found.pin.is_some_and(|pin| pin.is_short),
            dead: self.live.borrow().is_dead(file_id, version),
            other_versions: found.other_versions.iter().map(|version| version.0).collect(),
            gone: found.gone.iter().map(gone).collect(),
        }))
    }
}

//! `Load`: fetches a range into the cache and answers when all of it is held.

use super::{Patience, Service, Session};
use crate::plan;
use crate::tickets::Grant;
use forebay_base::KindError;
use forebay_net::message::data::{Load, LoadReply};
use forebay_net::transport::glommio::ShardReply;
use futures::stream::{self, StreamExt, TryStreamExt};
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

/// Requests of one load that are under way together.
const RUNS_UNDER_WAY: usize = 4;

impl Service {
    pub(super) async fn load(&self, session: &Session, request: Load, until: Instant) -> Result<ShardReply, KindError> {
        let grant = self.grant(session, None, &request.ticket, until).await?;
        self.check_owner(grant.key.file_id)?;
        let range = plan::clamp(request.offset, request.length, grant.key.size_bytes);
        let pages = plan::pages_of(&range, self.page_bytes);
        let step = plan::RUN_PAGES_MAX;
        let runs = pages.clone().step_by(step as usize).map(|first| first..(first + step).min(pages.end));
        let counted: Vec<LoadReply> = stream::iter(runs)
            .map(|run| self.load_run(&grant, run, until))
            .buffer_unordered(RUNS_UNDER_WAY)
            .try_collect()
            .await?;
        let total = counted.iter().fold(LoadReply { fetched_bytes: 0, cached_bytes: 0 }, |sum, run| LoadReply {
            fetched_bytes: sum.fetched_bytes + run.fetched_bytes,
            cached_bytes: sum.cached_bytes + run.cached_bytes,
        });
        Ok(ShardReply::of(&total))
    }

    async fn load_run(&self, grant: &Rc<Grant>, run: Range<u32>, until: Instant) -> Result<LoadReply, KindError> {
        let bytes_of = |page: u32| {
            let bytes = plan::bytes_of_page(page, self.page_bytes, grant.key.size_bytes);
            bytes.end - bytes.start
        };
        let all: u64 = run.clone().map(bytes_of).sum();
        let mut fetched_bytes = 0;
        let patience = Patience::for_load(until);
        for (page, flight, started_here) in self.fetcher.demand(grant, run) {
            self.landed(grant, &flight, patience).await?;
            fetched_bytes += if started_here { bytes_of(page) } else { 0 };
        }
        Ok(LoadReply { fetched_bytes, cached_bytes: all - fetched_bytes })
    }
}

//! `Load`: fetches ranges into the cache behind everything that readers wait for, and answers when all of it is held or
//! has failed. Each item gets its own status.

use super::{Service, Session, check_batch};
use crate::counters::{CACHED, FETCHED};
use crate::plan;
use crate::tickets::Grant;
use forebay_base::{KindError, PageIndex};
use forebay_engine::PageCheck;
use forebay_net::Peer;
use forebay_net::message::data::{Load, LoadItem, LoadReply, LoadResult};
use forebay_net::transport::glommio::ShardReply;
use futures::stream::{self, StreamExt};
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

/// Items of one request that are under way together; what the store sees is bounded by the fetcher.
const ITEMS_UNDER_WAY: usize = 64;
/// Pages of one request that are read back together.
const CHECKS_UNDER_WAY: usize = 4;

/// An item that is on its way.
struct Loading {
    grant: Rc<Grant>,
    pages: Range<u32>,
    result: LoadResult,
}

impl Service {
    pub(super) async fn load(
        &self,
        session: &Session,
        peer: &Peer,
        request: Load,
        until: Instant,
    ) -> Result<ShardReply, KindError> {
        check_batch(request.items.len())?;
        let items =
            stream::iter(request.items).map(|item| self.load_item((session, peer), item, request.verify, until));
        let mut loaded: Vec<Result<Loading, KindError>> = items.buffered(ITEMS_UNDER_WAY).collect().await;
        let own = |item: &Result<Loading, KindError>| item.as_ref().is_ok_and(|item| !item.pages.is_empty());
        if request.verify && loaded.iter().any(own) {
            self.engine.flush().await;
            let checks = loaded.into_iter().map(|item| self.verify_item(item, until));
            loaded = stream::iter(checks).buffered(CHECKS_UNDER_WAY).collect().await;
        }
        let results = loaded.into_iter().map(|item| match item {
            Ok(item) => item.result,
            Err(error) => LoadResult { status: error.kind.code(), message: error.message, ..LoadResult::default() },
        });
        Ok(ShardReply::of(&LoadReply { results: results.collect() }))
    }

    async fn load_item(
        &self,
        (session, peer): (&Session, &Peer),
        item: LoadItem,
        verify: bool,
        until: Instant,
    ) -> Result<Loading, KindError> {
        let grant = self.grant(session, None, &item.ticket, until).await?;
        if let Some(owner) = self.other_owner(grant.key.file_id) {
            let (reply, _) = self.routes.ask(owner, peer, &Load { items: vec![item], verify }, until).await?;
            let result = reply.results.into_iter().next().unwrap_or_default();
            // Its pages are the other core's to verify.
            return Ok(Loading { grant, pages: 0..0, result });
        }
        let range = plan::clamp(item.offset, item.length, grant.key.size_bytes);
        let pages = plan::pages_of(&range, self.page_bytes);
        let all: u64 = pages.clone().map(|page| self.bytes_of(&grant, page)).sum();
        let fetched_bytes = self.fetcher.load(&grant, pages.clone(), until).await?;
        self.view.counters.load_bytes.at(FETCHED).add(fetched_bytes);
        self.view.counters.load_bytes.at(CACHED).add(all - fetched_bytes);
        let result = LoadResult { fetched_bytes, cached_bytes: all - fetched_bytes, ..LoadResult::default() };
        Ok(Loading { grant, pages, result })
    }

    async fn verify_item(&self, item: Result<Loading, KindError>, until: Instant) -> Result<Loading, KindError> {
        let mut item = item?;
        for page in item.pages.clone() {
            match self.engine.check_page(&item.grant.key, PageIndex(page)).await {
                PageCheck::Intact => item.result.verified_bytes += self.bytes_of(&item.grant, page),
                PageCheck::InMemory => {}
                found => {
                    item.result.corrupt_pages += u32::from(found == PageCheck::Bad);
                    self.fetcher.load(&item.grant, page..page + 1, until).await?;
                }
            }
        }
        Ok(item)
    }

    fn bytes_of(&self, grant: &Grant, page: u32) -> u64 {
        let bytes = plan::bytes_of_page(page, self.page_bytes, grant.key.size_bytes);
        bytes.end - bytes.start
    }
}

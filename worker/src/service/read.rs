//! `Read`: many ranges in one request, served side by side; each gets its own status.
//!
//! Invariant: what a reply pins is bounded: a small piece of a large page is copied out, all else is borrowed.

use super::{Patience, Service, Session, check_batch};
use crate::counters::{HDD, MEM, SSD, STORE};
use crate::fetch::PageFlight;
use crate::plan;
use crate::tickets::Grant;
use forebay_base::{ErrorKind, FileId, KindError, PageIndex, ShardId, UNIT_BYTES, Version, crc32c_append, limits};
use forebay_engine::{PageSlice, Tier, UnitSums};
use forebay_net::Peer;
use forebay_net::message::data::{
    Read, ReadItem, ReadReply, ReadResult, SOURCE_HDD, SOURCE_MEM, SOURCE_SSD, SOURCE_STORE,
};
use forebay_net::transport::glommio::{PayloadPart, ShardReply};
use futures::future::join_all;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

/// In batches up to this size a reply pins few pages, and only tiny pieces are copied.
const SMALL_BATCH: usize = 8;
const TINY_BYTES: usize = 16 << 10;
/// In larger batches a piece is copied when it is less than this part of its page.
const PINNED_PART: usize = 8;

/// A piece of the payload, with the checksums of its units as far as they are known.
pub(super) struct Piece {
    owner: Rc<dyn AsRef<[u8]>>,
    range: Range<usize>,
    known: Option<UnitSums>,
}

struct Served {
    pieces: Vec<Piece>,
    source: u8,
}

/// The place of a source in the table of counters.
fn source_index(source: u8) -> usize {
    match source {
        SOURCE_MEM => MEM,
        SOURCE_SSD => SSD,
        SOURCE_HDD => HDD,
        _ => STORE,
    }
}

impl Service {
    pub(super) async fn read(
        &self,
        session: &Session,
        peer: &Peer,
        request: Read,
        began: Instant,
        until: Instant,
    ) -> Result<ShardReply, KindError> {
        check_batch(request.items.len())?;
        let wanted: u64 = request.items.iter().map(|item| u64::from(item.length)).sum();
        if wanted > u64::from(limits::PAYLOAD_BYTES_MAX) {
            let message = format!("read: got {wanted} bytes in all, want at most {}", limits::PAYLOAD_BYTES_MAX);
            return Err(KindError::new(ErrorKind::Invalid, message));
        }
        let batch = request.items.len();
        let outcomes = match &request.items[..] {
            [item] => vec![self.read_timed((session, peer), item, request.waited_ms, batch, began, until).await],
            items => {
                let read = |item| self.read_timed((session, peer), item, request.waited_ms, batch, began, until);
                join_all(items.iter().map(read)).await
            }
        };
        let mut results = Vec::with_capacity(batch);
        let mut pieces = Vec::new();
        for outcome in outcomes {
            results.push(match outcome {
                Ok(served) => {
                    let length: usize = served.pieces.iter().map(|piece| piece.range.len()).sum();
                    pieces.extend(served.pieces);
                    ReadResult { status: 0, length: length as u32, source: served.source, message: String::new() }
                }
                Err(error) => ReadResult { status: error.kind.code(), length: 0, source: 0, message: error.message },
            });
        }
        let checksums = if request.want_checksums {
            checksums(pieces.iter().map(|piece| (&(*piece.owner).as_ref()[piece.range.clone()], known(piece))))
        } else {
            Vec::new()
        };
        let mut reply = ShardReply::of(&ReadReply { results, checksums });
        reply.payload = pieces.into_iter().map(|piece| PayloadPart::new(piece.owner, piece.range)).collect();
        Ok(reply)
    }

    /// Reads an item and counts how long it took, by the slowest place that it needed.
    async fn read_timed(
        &self,
        from: (&Session, &Peer),
        item: &ReadItem,
        waited_ms: u32,
        batch: usize,
        began: Instant,
        until: Instant,
    ) -> Result<Served, KindError> {
        if let Some(owner) = self.other_owner(FileId(item.file_id)) {
            return self.read_elsewhere(owner, from.1, item, waited_ms, until).await;
        }
        let result = self.read_item(from.0, item, waited_ms, batch, until).await;
        let counters = &self.view.counters;
        match &result {
            Ok(served) => counters.read_seconds.at(source_index(served.source)).record_since(began),
            Err(_) => counters.failed_reads.add(1),
        }
        result
    }

    /// Has the core that owns the file read an item.
    async fn read_elsewhere(
        &self,
        owner: ShardId,
        peer: &Peer,
        item: &ReadItem,
        waited_ms: u32,
        until: Instant,
    ) -> Result<Served, KindError> {
        let request = Read { items: vec![item.clone()], want_checksums: false, waited_ms };
        let (reply, payload) = self.routes.ask(owner, peer, &request, until).await?;
        let answer = || KindError::new(ErrorKind::Internal, format!("core {owner}: no answer to what was forwarded"));
        let result = reply.results.into_iter().next().ok_or_else(answer)?;
        if result.status != 0 {
            return Err(KindError::new(
                ErrorKind::from_code(result.status).unwrap_or(ErrorKind::Internal),
                result.message,
            ));
        }
        let range = 0..payload.len();
        Ok(Served { pieces: vec![Piece { owner: Rc::new(payload), range, known: None }], source: result.source })
    }

    async fn read_item(
        &self,
        session: &Session,
        item: &ReadItem,
        waited_ms: u32,
        batch: usize,
        until: Instant,
    ) -> Result<Served, KindError> {
        let (file, version) = (FileId(item.file_id), Version(item.version));
        let grant = self.grant(session, Some((file, version)), &item.ticket, until).await?;
        let patience = Patience::new(waited_ms, until);
        let range = plan::clamp(item.offset, u64::from(item.length), grant.key.size_bytes);
        // All missing pages at once, in long requests, before the first one is waited for.
        let flights = self.fetcher.demand(&grant, plan::pages_of(&range, self.page_bytes));
        let ahead = self.read_ahead.borrow_mut().note((item.file_id, item.version), &range, grant.key.size_bytes);
        if let Some(ahead) = ahead {
            self.fetcher.ahead(&grant, &ahead);
        }
        let mut served = Served { pieces: Vec::new(), source: SOURCE_MEM };
        let pages = plan::pages_of(&range, self.page_bytes);
        let mut flights = flights.into_iter().peekable();
        let parts = pages.map(|page| {
            let flight = flights.next_if(|(first, _, _)| *first == page).map(|(_, flight, _)| flight);
            self.read_page(&grant, &range, page, flight, batch, patience)
        });
        let parts: Vec<_> = parts.collect();
        let parts = if parts.len() == 1 {
            let mut only = parts;
            vec![only.remove(0).await]
        } else {
            join_all(parts).await
        };
        for part in parts {
            let (piece, source) = part?;
            served.source = served.source.max(source);
            served.pieces.push(piece);
        }
        Ok(served)
    }

    async fn read_page(
        &self,
        grant: &Rc<Grant>,
        range: &Range<u64>,
        page: u32,
        flight: Option<PageFlight>,
        batch: usize,
        patience: Patience,
    ) -> Result<(Piece, u8), KindError> {
        let (offset, length) = plan::part_in_page(range, page, self.page_bytes);
        if flight.is_none()
            && let Some(slice) = self.engine.read(&grant.key, PageIndex(page), offset, length).await
        {
            let source = match slice.tier() {
                Tier::Mem => SOURCE_MEM,
                Tier::Ssd => SOURCE_SSD,
                Tier::Hdd => SOURCE_HDD,
            };
            self.view.counters.read_bytes.at(source_index(source)).add(u64::from(length));
            if slice.len() != length as usize {
                let message = format!("page {page}: the engine gave {} bytes, want {length}", slice.len());
                return Err(KindError::new(ErrorKind::Internal, message));
            }
            return Ok((piece(slice, 0..length as usize, batch), source));
        }
        let flight = flight.unwrap_or_else(|| self.fetcher.demand_page(grant, page));
        let slice = self.landed(grant, &flight, patience).await?;
        self.view.counters.read_bytes.at(STORE).add(u64::from(length));
        let start = offset as usize;
        Ok((piece(slice, start..start + length as usize, batch), SOURCE_STORE))
    }
}

/// Borrows the page, or copies a piece that is too small to keep a whole page alive for.
fn piece(slice: PageSlice, range: Range<usize>, batch: usize) -> Piece {
    let known = slice.checksums(range.clone());
    let most = if batch <= SMALL_BATCH { TINY_BYTES } else { slice.len() / PINNED_PART };
    if range.len() <= most && range.len() * PINNED_PART <= slice.len() {
        let copy = slice[range].to_vec();
        let range = 0..copy.len();
        return Piece { owner: Rc::new(copy), range, known };
    }
    Piece { owner: Rc::new(slice), range, known }
}

fn known(piece: &Piece) -> Known<'_> {
    piece.known.as_ref().map_or((0, &[]), |known| (known.offset, known.sums()))
}

/// Where the first known unit begins in a piece, and the checksums from there on.
type Known<'a> = (usize, &'a [u32]);

/// CRC32C of each 4 KiB of the concatenated pieces. What is known of a piece is taken over where its units are the payload's
/// units: that sum was made when the page arrived, so the client's check covers all the way since then. The rest is computed.
fn checksums<'a>(pieces: impl Iterator<Item = (&'a [u8], Known<'a>)>) -> Vec<u32> {
    let mut sums = Vec::new();
    let (mut crc, mut held) = (0, 0);
    let mut pieces = pieces.filter(|(bytes, _)| !bytes.is_empty()).peekable();
    while let Some((piece, (offset, known))) = pieces.next() {
        let mut bytes = piece;
        let is_last = pieces.peek().is_none();
        while !bytes.is_empty() {
            let at = piece.len() - bytes.len();
            let is_unit = bytes.len() >= UNIT_BYTES || is_last;
            if held == 0
                && is_unit
                && at >= offset
                && (at - offset).is_multiple_of(UNIT_BYTES)
                && let Some(&sum) = known.get((at - offset) / UNIT_BYTES)
            {
                sums.push(sum);
                bytes = &bytes[bytes.len().min(UNIT_BYTES)..];
                continue;
            }
            let (now, rest) = bytes.split_at(bytes.len().min(UNIT_BYTES - held));
            crc = crc32c_append(crc, now);
            held += now.len();
            bytes = rest;
            if held == UNIT_BYTES {
                sums.push(crc);
                (crc, held) = (0, 0);
            }
        }
    }
    if held > 0 {
        sums.push(crc);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_base::unit_checksums;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn checksums_do_not_depend_on_the_cuts(bytes in proptest::collection::vec(any::<u8>(), 0..20_000), cuts in proptest::collection::vec(0usize..20_000, 0..8)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces = cuts.windows(2).map(|pair| (&bytes[pair[0]..pair[1]], (0, &[][..])));
            prop_assert_eq!(checksums(pieces), unit_checksums(&bytes).collect::<Vec<_>>());
        }

        /// Pieces of pages of 8 units, each with what is known of the units that lie in it whole.
        #[test]
        fn known_sums_are_those_that_would_be_computed(parts in proptest::collection::vec((0usize..30_000, 1usize..30_000), 1..6), page_end in 1usize..32_768) {
            let page: Vec<u8> = (0..page_end).map(|at| ((at * at) >> 7) as u8).collect();
            let row: Vec<u32> = unit_checksums(&page).collect();
            let ranges: Vec<_> = parts.iter().map(|&(from, length)| from.min(page_end)..(from + length).min(page_end)).collect();
            let pieces = ranges.iter().map(|range| {
                let first = range.start.div_ceil(UNIT_BYTES);
                let end = if range.end == page_end { range.end.div_ceil(UNIT_BYTES) } else { range.end / UNIT_BYTES };
                let known = if first < end { (first * UNIT_BYTES - range.start, &row[first..end]) } else { (0, &[][..]) };
                (&page[range.clone()], known)
            });
            let payload: Vec<u8> = ranges.iter().flat_map(|range| page[range.clone()].iter().copied()).collect();
            prop_assert_eq!(checksums(pieces), unit_checksums(&payload).collect::<Vec<_>>());
        }
    }

    #[test]
    fn known_sums_are_not_computed_again() {
        // Bytes that changed since they were summed up: the client has to notice, so their sum must be the old one.
        let bytes = vec![7u8; 3 * UNIT_BYTES + 10];
        let computed: Vec<u32> = unit_checksums(&bytes).collect();
        assert_eq!(checksums([(&bytes[..], (0, &[1, 2, 3, 4][..]))].into_iter()), [1, 2, 3, 4]);
        assert_eq!(checksums([(&bytes[..], (UNIT_BYTES, &[2, 3][..]))].into_iter()), [computed[0], 2, 3, computed[3]]);
        // A piece whose units begin where those of the payload do; and one cut elsewhere, of which nothing can be taken over.
        let begun = |offset| [(&bytes[..1], (0, &[][..])), (&bytes[1..], (offset, &[2, 3, 4][..]))].into_iter();
        assert_eq!(checksums(begun(UNIT_BYTES - 1)), [computed[0], 2, 3, 4]);
        assert_eq!(checksums(begun(0)), computed);
    }
}

//! Microbenchmarks of what is pure: checksums, frames, messages, tickets, placement, counting.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ed25519_dalek::SigningKey;
use forebay_base::metrics::{Histogram, Metric, PerCore};
use forebay_base::{BlockIndex, FileId, WorkerId, crc32c, placement, unit_checksums};
use forebay_net::message::data::{Read, ReadItem};
use forebay_net::message::namespace::{Attr, Entry, KIND_FILE, Lookup, ReadDirReply};
use forebay_net::message::{Message, Wire};
use forebay_net::ticket::{self, Ticket, VerifiedRoots};
use forebay_net::{FRAME_HEADER_BYTES, Flags, Header};
use std::hint::black_box;
use std::time::{Duration, Instant};

fn attr(number: u64) -> Attr {
    Attr {
        file_id: number,
        version: 1,
        size: 100 << 10,
        mtime_ms: 1,
        block_bytes: 256 << 20,
        page_bytes: 1 << 20,
        mode: 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        mount_id: 1,
        kind: KIND_FILE,
        valid_for_ms: 30_000,
    }
}

fn checksums(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for (name, bytes) in [("4 KiB", 4 << 10), ("1 MiB", 1 << 20)] {
        let data = vec![7u8; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(name, |bencher| bencher.iter(|| crc32c(black_box(&data))));
    }
    let page = vec![7u8; 1 << 20];
    group.bench_function("1 MiB by units of 4 KiB", |bencher| {
        bencher.iter(|| unit_checksums(black_box(&page)).fold(0, |sum, crc| sum ^ crc));
    });
    group.finish();
}

fn frames(criterion: &mut Criterion) {
    let item = ReadItem { file_id: 1, version: 2, offset: 3, length: 4096, ticket: Vec::new() };
    let request = Read { items: vec![item], want_checksums: true, waited_ms: 0 };
    let body = request.to_bytes();
    let header = Header {
        flags: Flags(0),
        op: Read::OP as u16,
        request_id: 7,
        body_bytes: body.len() as u32,
        payload_bytes: 0,
        deadline_ms_or_status: 1000,
    };
    let sent: [u8; FRAME_HEADER_BYTES] = header.encode(&body);
    let mut group = criterion.benchmark_group("frame of a 4 KiB read");
    group.bench_function("encode", |bencher| {
        bencher.iter(|| {
            let body = black_box(&request).to_bytes();
            (header.encode(&body), body)
        });
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            let header = Header::decode(black_box(&sent));
            let checked = Header::verify(&sent, &body);
            (header, checked, Read::from_bytes(&body))
        });
    });
    let small = Lookup { parent: 1, name: b"a name of usual length.bin".to_vec() };
    let bytes = small.to_bytes();
    group.bench_function("lookup body, checked and owned", |bencher| {
        bencher.iter(|| Lookup::from_bytes(black_box(&bytes)));
    });
    group.finish();
}

fn listings(criterion: &mut Criterion) {
    let entries = (0..1000).map(|number| Entry { name: format!("f{number:07}.bin").into_bytes(), attr: attr(number) });
    let reply = ReadDirReply { entries: entries.collect(), end: true, names_seen: 0, since_us: 0 };
    let bytes = reply.to_bytes();
    let mut group = criterion.benchmark_group("listing of 1,000 names");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("encode", |bencher| bencher.iter(|| black_box(&reply).to_bytes()));
    group.bench_function("decode", |bencher| bencher.iter(|| ReadDirReply::from_bytes(black_box(&bytes))));
    group.finish();
}

fn tickets(criterion: &mut Criterion) {
    let key = SigningKey::from_bytes(&[7; 32]);
    let ticket = Ticket {
        file_id: 1,
        version: 2,
        mount_id: 3,
        page_bytes: 1 << 20,
        block_bytes: 256 << 20,
        size: 5,
        store_key: "some/key/of/usual/length.bin".into(),
        fingerprint: "etag:0123456789abcdef0123456789abcdef".into(),
        feed_position: 6,
        store_away: false,
        expires_unix_ms: 1000,
    };
    let batch: Vec<Ticket> = (0..128).map(|file_id| Ticket { file_id, ..ticket.clone() }).collect();
    let signed = ticket::sign(&batch, &key);
    let mut group = criterion.benchmark_group("ticket");
    group.bench_function("sign one", |bencher| bencher.iter(|| ticket::sign(black_box(&batch[..1]), &key)));
    group.bench_function("sign 128 together", |bencher| bencher.iter(|| ticket::sign(black_box(&batch), &key)));
    let public = key.verifying_key();
    group.bench_function("verify, the first of a batch", |bencher| {
        bencher.iter(|| ticket::verify(black_box(&signed[5]), &public, &mut VerifiedRoots::default(), 1));
    });
    let mut roots = VerifiedRoots::default();
    group.bench_function("verify, another of a batch", |bencher| {
        bencher.iter(|| ticket::verify(black_box(&signed[5]), &public, &mut roots, 1));
    });
    group.finish();
}

fn placements(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("placement");
    for workers in [3u64, 100] {
        let members: Vec<(WorkerId, u32)> = (0..workers).map(|id| (WorkerId(id), 100)).collect();
        group.bench_function(format!("rank {workers} workers"), |bencher| {
            bencher.iter(|| placement::ranked_workers(FileId(9), BlockIndex(black_box(3)), &members));
        });
    }
    group.bench_function("core of a file", |bencher| bencher.iter(|| placement::shard_of(black_box(FileId(9)), 16)));
    group.finish();
}

forebay_base::metrics_table! {
    /// As small as a table can be.
    struct Counted {
        hits: Counter = "benches_hits_total", "hits";
    }
}

fn metrics(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("metrics");
    let (counter, histogram, table) = (Metric::default(), Histogram::default(), PerCore::<Counted>::default());
    group.bench_function("counter", |bencher| bencher.iter(|| counter.add(black_box(4096))));
    group.bench_function("counter of this thread's instance", |bencher| {
        bencher.iter(|| table.here().hits.add(black_box(1)));
    });
    group.bench_function("histogram", |bencher| {
        bencher.iter(|| histogram.record(black_box(Duration::from_nanos(1_234_567))));
    });
    group.bench_function("histogram, both looks at the clock included", |bencher| {
        bencher.iter(|| histogram.record_since(Instant::now()));
    });
    group.finish();
}

criterion_group!(all, checksums, frames, listings, tickets, placements, metrics);
criterion_main!(all);

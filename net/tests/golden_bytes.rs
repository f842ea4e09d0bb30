//! Holds every message body to its bytes in `golden/messages.txt`: a change of layout is a new operation, never an edit.
//!
//! Invariant: `golden/messages.txt` has one line per body, `Name hex`; lines are added, never changed.

use forebay_net::message::change::*;
use forebay_net::message::cluster::*;
use forebay_net::message::data::*;
use forebay_net::message::handout::*;
use forebay_net::message::handshake::*;
use forebay_net::message::job::*;
use forebay_net::message::namespace::*;
use forebay_net::message::session::*;
use forebay_net::message::write::*;
use forebay_net::message::{Empty, Message, Op, Wire};
use forebay_net::ticket::Ticket;
use forebay_net::write_ticket::WriteTicket;
use std::fmt::Write as _;

const GOLDEN: &str = include_str!("golden/messages.txt");

/// One body: its name, its bytes, and whether other bytes would still decode to what was encoded.
struct Body {
    op: Option<Op>,
    name: String,
    bytes: Vec<u8>,
    decodes_again: bool,
}

fn body<T: Wire>(op: Option<Op>, name: String, value: &T, again: impl Fn(&T) -> bool) -> Body {
    let bytes = value.to_bytes().to_vec();
    // Shifted by one, so that the bytes are certainly not aligned.
    let shifted = [&[0u8][..], &bytes].concat();
    let decodes_again =
        [&bytes[..], &shifted[1..]].into_iter().all(|view| T::from_bytes(view).is_ok_and(|got| again(&got)));
    Body { op, name, bytes, decodes_again }
}

fn both<M>(request: M, reply: M::Reply) -> Vec<Body>
where
    M: Message + PartialEq,
    M::Reply: PartialEq,
{
    let name = format!("{:?}", M::OP);
    vec![
        body(Some(M::OP), name.clone(), &request, |got| *got == request),
        body(Some(M::OP), name + ".reply", &reply, |got| *got == reply),
    ]
}

fn attr() -> Attr {
    Attr {
        file_id: 0x0102_0304_0506_0708,
        version: 9,
        size: 1 << 40,
        mtime_ms: 1_700_000_000_123,
        block_bytes: 256 << 20,
        page_bytes: 1 << 20,
        mode: 0o644,
        uid: 1000,
        gid: 1001,
        nlink: 1,
        mount_id: 3,
        kind: KIND_FILE,
        valid_for_ms: 30_000,
    }
}

fn mount_info() -> MountInfo {
    MountInfo {
        mount_id: 3,
        path: "/data".into(),
        uri: "s3://bucket/prefix".into(),
        options: vec![("region".into(), "eu-central-1".into()), ("secret_key".into(), "***".into())],
        freshness_ms: u64::MAX,
        readonly: true,
        trouble: String::new(),
    }
}

fn worker_info() -> WorkerInfo {
    WorkerInfo {
        worker_id: 0xaabb_ccdd_eeff_0011,
        weight: 100,
        host_id: 77,
        shards: vec![ShardAddress { tcp: "10.0.0.1:7500".into(), unix: "/run/forebay/worker-7500.sock".into() }],
    }
}

fn cluster_map() -> ClusterMap {
    ClusterMap {
        epoch: 5,
        cluster_id: 1 << 100 | 2,
        incarnation: 1,
        ticket_key: [0x5a; 32],
        workers: vec![worker_info()],
    }
}

fn tier_usage() -> TierUsage {
    TierUsage {
        tier: "SSD".into(),
        directory: "/mnt/ssd0/forebay".into(),
        capacity_bytes: 1 << 40,
        used_bytes: 12_345,
        pinned_bytes: 678,
        leased_bytes: 90,
        trouble: "".into(),
    }
}

fn counters() -> WorkerCounters {
    WorkerCounters {
        mem_hit_bytes: 1,
        ssd_hit_bytes: 2,
        hdd_hit_bytes: 9,
        miss_bytes: 3,
        store_read_bytes: 4,
        evicted_pages: 5,
        corrupt_units: 6,
        misrouted_requests: 7,
        resident_bytes: 8,
    }
}

fn job_info() -> JobInfo {
    JobInfo {
        job_id: 12,
        spec: JobSpec {
            kind: JOB_LOAD,
            paths: vec!["/data/train".into()],
            recursive: true,
            verify: true,
            bandwidth_bytes: 100 << 20,
            replicas: 2,
        },
        state: JOB_PARTLY,
        submitted_by: "ops@host".into(),
        submitted_ms: 1_700_000_000_123,
        ended_ms: 1_700_000_001_123,
        tally: JobTally { files: 1, failed: 2, fetched_bytes: 3, cached_bytes: 4, verified_bytes: 5, corrupt_pages: 6 },
        cursor: b"/data/train/x".to_vec(),
        found_files: 7,
        found_bytes: 8,
        found_all: true,
        failures_kept: 2,
        last_error: "the store is away".into(),
    }
}

fn bodies() -> Vec<Body> {
    let hello = Hello { version_min: 1, version_max: 2, role: 1, cluster_id: 0x1234, nonce: [0x11; 32] };
    let hello_reply = HelloReply { version: 1, cluster_id: 0x1234, nonce: [0x22; 32], proof: [0x33; 32] };
    let attr_results = vec![
        AttrResult { status: 0, attr: Some(attr()), message: String::new() },
        AttrResult { status: 1, attr: None, message: "file 7: no such file".into() },
    ];
    let opened = OpenResult {
        status: 0,
        message: String::new(),
        attr: Some(attr()),
        ticket: vec![1, 2, 3],
        ticket_life_ms: 60_000,
    };
    let failed = OpenResult { status: 10, message: "stale".into(), attr: None, ticket: vec![], ticket_life_ms: 0 };
    let mount = Mount {
        path: "/data".into(),
        uri: "file:///srv/data".into(),
        options: vec![("concurrency".into(), "8".into())],
        freshness_ms: 30_000,
        readonly: false,
    };
    let difference = Difference {
        name: b"a".to_vec(),
        kind: DIFFERENCE_CHANGED,
        what: DIFFERS_IN_SIZE | DIFFERS_IN_CONTENT,
        known_bytes: 4,
        store_bytes: 5,
    };
    let update = UpdateMount {
        path: "/data".into(),
        set_options: vec![("region".into(), "eu".into())],
        remove_options: vec!["endpoint".into()],
        freshness_ms: Some(60_000),
        readonly: None,
    };
    let policy = PathPolicy { path: "/data/live".into(), freshness_ms: Some(0), pin: Some(true) };
    let pin = PinInfo {
        path: "/data/model".into(),
        files: 1,
        bytes: 2,
        pinned_bytes: 3,
        missing_bytes: 4,
        refused_bytes: 5,
        is_complete: true,
        checked_ms: 1_700_000_000_000,
        last_error: "none".into(),
    };
    let heartbeat = Heartbeat { worker_id: 4, tiers: vec![tier_usage()], counters: counters(), feed_position: 99 };
    let heartbeat_reply = HeartbeatReply {
        epoch: 5,
        known: true,
        events: vec![(8, 9), (10, 0)],
        feed_position: 101,
        feed_reset: false,
        mounts: vec![(1, 0), (3, 2)],
    };
    let report = ReportReply {
        cluster_id: 6,
        epoch: 5,
        inodes: 1000,
        journal_index: 2000,
        master_resident_bytes: 3000,
        unix_ms: 1_700_000_000_000,
        workers: vec![WorkerReport {
            worker: worker_info(),
            live: true,
            silent_ms: 250,
            tiers: vec![tier_usage()],
            counters: counters(),
        }],
        mounts: vec![mount_info()],
    };
    let store = MountStore { uri: "s3://bucket".into(), options: vec![("secret_key".into(), "hunter2".into())] };
    let item = ReadItem { file_id: 8, version: 9, offset: 4096, length: 100, ticket: vec![7; 5] };
    let result = ReadResult { status: 0, length: 100, source: SOURCE_SSD, message: String::new() };
    let refused = ReadResult { status: 19, length: 0, source: 0, message: "ticket: expired 5 ms ago".into() };
    let explain = ExplainReply {
        places: vec![ExplainPlace {
            tier: "HDD".into(),
            directory: "/disk0".into(),
            pages: 3,
            bytes: 1 << 20,
            pinned_pages: 1,
            read_bytes: 4096,
        }],
        queued_pages: 1,
        moving_pages: 2,
        policy: "lru".into(),
        pin_bytes: 5,
        pin_ms: 6,
        pin_short: true,
        dead: false,
        other_versions: vec![8],
        gone: vec![ExplainGone { version: 9, tier: "SSD".into(), cause: "room".into(), pages: 7, age_ms: 10 }],
    };
    let cached = CachedBytes { mem_bytes: 1, ssd_bytes: 2, hdd_bytes: 4, any_bytes: 3 };
    let ticket = Ticket {
        file_id: 8,
        version: 9,
        mount_id: 3,
        page_bytes: 1 << 20,
        block_bytes: 256 << 20,
        size: 1 << 30,
        store_key: "a/b.parquet".into(),
        fingerprint: "etag:\"abc\"".into(),
        feed_position: 101,
        store_away: true,
        expires_unix_ms: 1_700_000_060_000,
    };
    let mut all = [
        both(hello, hello_reply),
        both(Prove { proof: [0x44; 32] }, Empty::default()),
        both(Lookup { parent: 1, name: b"name\xff".to_vec() }, attr()),
        both(GetAttr { file_ids: vec![1, 2] }, GetAttrReply { attrs: attr_results }),
        both(
            ReadDir { directory: 1, after: b"a".to_vec(), entries_max: 4096, since_us: 8000, known_only: false },
            ReadDirReply {
                entries: vec![Entry { name: b"b".to_vec(), attr: attr() }],
                end: true,
                names_seen: 5000,
                since_us: 7,
            },
        ),
        both(OpenRead { files: vec![(8, 9), (10, 0)] }, OpenReadReply { files: vec![opened, failed] }),
        both(Resolve { path: b"/data/x".to_vec() }, attr()),
        both(mount, mount_info()),
        both(Unmount { path: "/data".into(), force: true }, Empty::default()),
        both(ListMounts::default(), ListMountsReply { mounts: vec![mount_info()] }),
        both(HoldMounts { client_id: 5, open_files: vec![(3, 2)] }, Empty::default()),
        both(Recheck { file_ids: vec![8, 9] }, GetAttrReply { attrs: vec![] }),
        both(
            Refresh { file_id: 8, apply: true },
            RefreshReply { checked: 9, added: 1, changed: 2, removed: 3, differences: vec![difference] },
        ),
        both(update, mount_info()),
        both(ListPathPolicies::default(), ListPathPoliciesReply { policies: vec![policy.clone()] }),
        both(SetPathPolicy { policy: policy.clone() }, policy),
        both(RemovePathPolicy { path: "/data/live".into() }, Empty::default()),
        both(ListPins::default(), ListPinsReply { pins: vec![pin] }),
        both(GetFeedPosition::default(), GetFeedPositionReply { position: 5 }),
        both(GetClusterMap::default(), cluster_map()),
        both(RegisterWorker { worker: worker_info(), cluster_id: 0 }, cluster_map()),
        both(heartbeat, heartbeat_reply),
        both(GetMountStore { mount_id: 3 }, store),
        both(Report::default(), report),
        both(LiveVersions { file_ids: vec![8] }, LiveVersionsReply { versions: vec![0] }),
        both(Explain { file_id: 8, version: 9 }, explain),
        both(
            Read { items: vec![item], want_checksums: true, waited_ms: 700 },
            ReadReply { results: vec![result, refused], checksums: vec![0xdead_beef] },
        ),
        both(
            Load { items: vec![LoadItem { ticket: vec![1; 3], offset: 0, length: 1 << 28 }], verify: true },
            LoadReply {
                results: vec![LoadResult {
                    status: 0,
                    fetched_bytes: 4,
                    cached_bytes: 5,
                    verified_bytes: 6,
                    corrupt_pages: 7,
                    message: "none".into(),
                }],
            },
        ),
        both(Evict { file_ids: vec![8, 10] }, EvictReply { freed_bytes: 6 }),
        both(CacheStatus { files: vec![(8, 9)] }, CacheStatusReply { files: vec![cached] }),
        both(LogLevel { filter: "debug".into() }, LogLevelReply { filter: "warn".into() }),
        both(
            CachedBlocks { file_id: 8, version: 9, first_block: 2 },
            CachedBlocksReply { blocks: vec![BlockBytes { block: 3, cached }], end: true },
        ),
        both(
            Verify { ticket: vec![1; 3], offset: 0, length: 1 << 24 },
            VerifyReply { equal_bytes: 1, different_bytes: 2, uncached_bytes: 3 },
        ),
        both(
            Pin { items: vec![PinItem { file_id: 8, version: 9, bytes: 10, blocks: vec![(1, 3)] }], lease_ms: 60_000 },
            PinReply { results: vec![PinResult { state: PIN_REFUSED, cached_bytes: 6 }] },
        ),
        both(
            SubmitJob { spec: job_info().spec, submitted_by: "ops@host".into() },
            SubmitJobReply { job_id: 12, joined: true },
        ),
        both(ListJobs { all: true }, ListJobsReply { jobs: vec![job_info()] }),
        both(
            JobStatus { job_id: 12, failures_from: 1, failures_max: 100 },
            JobStatusReply {
                job: job_info(),
                failures: vec![JobFailure { path: b"/data/f".to_vec(), reason: "it is gone".into() }],
            },
        ),
        both(CancelJob { job_id: 12 }, Empty::default()),
        both(
            GrantWrite { path: b"/data/new".to_vec(), overwrite: true },
            GrantWriteReply { ticket: vec![2; 5], ticket_life_ms: 60_000, mount_id: 3 },
        ),
        both(RecordWrite { path: b"/data/new".to_vec() }, attr()),
        both(BeginUpload { upload_id: 7, ticket: vec![2; 5], size: SIZE_UNKNOWN }, Empty::default()),
        both(UploadPiece { upload_id: 7, offset: 1 << 20, bytes: b"bytes".to_vec() }, Empty::default()),
        both(
            FinishUpload { upload_id: 7, size: (1 << 20) + 5 },
            FinishUploadReply {
                size: (1 << 20) + 5,
                mtime_ms: 1_700_000_000_123,
                fingerprint: "etag:\"abc-2\"".into(),
            },
        ),
        both(AbortUpload { upload_id: 7 }, Empty::default()),
    ]
    .into_iter()
    .flatten()
    .chain(leases())
    .chain(changes())
    .chain(sessions())
    .collect::<Vec<_>>();
    all.push(body(None, "Ticket".into(), &ticket, |got| *got == ticket));
    let write_ticket = WriteTicket {
        mount_id: 3,
        store_key: "a/b.parquet".into(),
        file_id: 9,
        client_id: 1 << 60 | 5,
        create_only: true,
        replaces: "etag:\"abc-1\"".into(),
        expires_unix_ms: 1 << 40,
    };
    all.push(body(None, "WriteTicket".into(), &write_ticket, |got| *got == write_ticket));
    all
}

fn leases() -> Vec<Body> {
    [
        both(LeaseFile { ticket: vec![1, 2, 3] }, LeaseFileReply { state: LEASE_GRANTED, lease_id: 5, size: 6 << 30 }),
        both(ReturnLeases { lease_ids: vec![5, 6] }, Empty::default()),
        both(RenewLeases::default(), RenewLeasesReply { gone: vec![6] }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn changes() -> Vec<Body> {
    let grant = || SessionGrant { attr: attr(), ticket: vec![2; 5], ticket_life_ms: 60_000 };
    let name = || b"new".to_vec();
    [
        both(
            CreateFile { parent: 7, name: name(), mode: 0o640, uid: 1000, gid: 1001, client_id: 1 << 60 | 5 },
            grant(),
        ),
        both(GrantSession { file_id: 9, client_id: 1 << 60 | 5, base_version: 4 }, grant()),
        both(RecordSaved { file_id: 9, fingerprint: "etag:\"abc-2\"".into() }, attr()),
        both(HoldSessions { client_id: 1 << 60 | 5, file_ids: vec![9, 10] }, Empty::default()),
        both(MakeDirectory { parent: 7, name: name(), mode: 0o750, uid: 1000, gid: 1001 }, attr()),
        both(Remove { parent: 7, name: name(), is_directory: true }, Empty::default()),
        both(
            Rename { parent: 7, name: name(), new_parent: 8, new_name: b"newer".to_vec(), flags: RENAME_NOREPLACE },
            attr(),
        ),
        both(
            SetAttr { file_id: 9, mode: Some(0o600), uid: None, gid: Some(1001), mtime_ms: Some(1_700_000_000_123) },
            attr(),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn sessions() -> Vec<Body> {
    let state = |is_new| SessionState { size: (1 << 20) + 5, is_new };
    let saved = FinishUploadReply { size: 5, mtime_ms: 1_700_000_000_123, fingerprint: "etag:\"abc-2\"".into() };
    [
        both(OpenSession { ticket: vec![2; 5], join_only: true }, state(true)),
        both(WriteSession { file_id: 9, offset: 1 << 20, bytes: b"bytes".to_vec() }, state(false)),
        both(ReadSession { file_id: 9, offset: 1 << 20, length: 5 }, SessionBytes { bytes: b"bytes".to_vec() }),
        both(ResizeSession { file_id: 9, size: 5 }, state(false)),
        both(SyncSession { file_id: 9 }, Empty::default()),
        both(SaveSession { file_id: 9, ticket: vec![2; 5] }, saved),
        both(EndSession { file_id: 9 }, Empty::default()),
        both(RenewSessions { file_ids: vec![9, 10] }, Empty::default()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_body_has_its_golden_bytes() {
    let mut actual = String::new();
    for body in bodies() {
        assert!(body.decodes_again, "{}: its own bytes do not decode to it", body.name);
        let hex: String = body.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(actual, "{} {hex}", body.name).unwrap();
    }
    for (number, (got, want)) in actual.lines().zip(GOLDEN.lines()).enumerate() {
        assert_eq!(got, want, "line {} of golden/messages.txt", number + 1);
    }
    assert_eq!(actual.lines().count(), GOLDEN.lines().count(), "golden/messages.txt misses lines; all are:\n{actual}");
}

#[test]
fn every_op_is_in_the_table() {
    let covered = bodies();
    for op in Op::ALL {
        assert_eq!(covered.iter().filter(|body| body.op == Some(*op)).count(), 2, "{op:?}");
        assert_eq!(Op::from_code(*op as u16), Some(*op));
    }
    assert_eq!(Op::from_code(0), None);
}

#[test]
fn damaged_bodies_never_panic() {
    // Validation is of structure only (the frame's CRC guards content), so damage may decode; it must never panic.
    fn try_all(bytes: &[u8]) {
        macro_rules! decode_as {
            ($($kind:ty)*) => { $( let _ = <$kind>::from_bytes(bytes); )* };
        }
        decode_as!(Hello HelloReply Prove Empty Lookup Attr GetAttr GetAttrReply ReadDir ReadDirReply OpenRead
            OpenReadReply Resolve Mount MountInfo Unmount ListMounts ListMountsReply HoldMounts Recheck GetClusterMap
            ClusterMap RegisterWorker Heartbeat HeartbeatReply GetMountStore MountStore Report ReportReply
            LiveVersions LiveVersionsReply Explain ExplainReply Read ReadReply Load LoadReply Evict EvictReply CacheStatus
            CacheStatusReply LogLevel LogLevelReply CachedBlocks CachedBlocksReply Refresh RefreshReply
            UpdateMount ListPathPolicies ListPathPoliciesReply SetPathPolicy PathPolicy RemovePathPolicy Verify VerifyReply
            ListPins ListPinsReply GetFeedPosition GetFeedPositionReply Pin PinReply SubmitJob SubmitJobReply ListJobs ListJobsReply JobStatus JobStatusReply CancelJob
            GrantWrite GrantWriteReply RecordWrite BeginUpload UploadPiece FinishUpload FinishUploadReply AbortUpload
            LeaseFile LeaseFileReply ReturnLeases RenewLeases RenewLeasesReply Ticket WriteTicket
            CreateFile SessionGrant GrantSession RecordSaved HoldSessions MakeDirectory Remove Rename SetAttr
            OpenSession SessionState WriteSession ReadSession SessionBytes ResizeSession SyncSession SaveSession EndSession
            RenewSessions);
    }
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for body in bodies() {
        for _ in 0..300 {
            let mut bytes = body.bytes.clone();
            for _ in 0..1 + random() % 4 {
                let at = random() % bytes.len();
                bytes[at] = random() as u8;
            }
            bytes.truncate(bytes.len() - random() % 3 * (random() % bytes.len()) / 4);
            try_all(&bytes);
        }
    }
    try_all(&[]);
}

//! A whole master over a store that can be changed, taken away and counted.

use crate::mounts::Opener;
use crate::serve::Master;
use async_trait::async_trait;
use bytes::Bytes;
use forebay_base::settings::{Overrides, Settings, load};
use forebay_base::{ErrorKind, FileId, Fingerprint, KindError, unix_now_ms};
use forebay_net::message::namespace::{
    Attr, HoldMounts, KIND_DIRECTORY, KIND_FILE, Mount, MountInfo, ReadDir, Unmount,
};
use forebay_net::ticket;
use forebay_ufs::{ListPage, ObjectKind, ObjectMeta, ReadStream, StoreError, UnderStore};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

mod changes;
mod stores;

#[derive(Default)]
struct Double {
    /// Key -> content.
    objects: Mutex<BTreeMap<String, String>>,
    down: AtomicBool,
    /// Whether it cannot even be opened.
    closed: AtomicBool,
    /// How long each page of a listing takes.
    page_pause_ms: AtomicU64,
    /// How long a check takes.
    check_pause_ms: AtomicU64,
    calls: AtomicU64,
}

impl Double {
    fn put(&self, key: &str, content: &str) {
        self.objects.lock().unwrap().insert(key.into(), content.into());
    }

    fn remove(&self, key: &str) {
        self.objects.lock().unwrap().remove(key);
    }

    fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    fn answer<T>(&self, operation: &'static str, key: &str, found: Option<T>) -> Result<T, StoreError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let error = |kind, message: &str| {
            Err(StoreError { kind, store: "double".into(), operation, key: key.into(), message: message.into() })
        };
        if self.down.load(Ordering::SeqCst) {
            return error(ErrorKind::Unavailable, "connection refused");
        }
        found.map_or_else(|| error(ErrorKind::NotFound, "no such key"), Ok)
    }

    fn meta(&self, key: &str) -> Option<ObjectMeta> {
        let objects = self.objects.lock().unwrap();
        let name = key.rsplit('/').next().unwrap_or_default().to_string();
        let meta = |kind, size, fingerprint| ObjectMeta {
            name,
            kind,
            size,
            mtime_ms: 7,
            mode: None,
            owner: None,
            fingerprint: Fingerprint(fingerprint),
        };
        if let Some(content) = objects.get(key) {
            return Some(meta(ObjectKind::File, content.len() as u64, format!("etag:{content}")));
        }
        let below = objects.keys().any(|other| other.starts_with(&format!("{key}/")));
        (key.is_empty() || below).then(|| meta(ObjectKind::Directory, 0, String::new()))
    }
}

#[async_trait]
impl UnderStore for Double {
    fn uri(&self) -> &str {
        "double"
    }

    fn deadline(&self) -> Duration {
        Duration::from_secs(10)
    }

    async fn check(&self) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(self.check_pause_ms.load(Ordering::SeqCst))).await;
        self.answer("check", "", Some(()))
    }

    async fn stat(&self, key: &str) -> Result<ObjectMeta, StoreError> {
        self.answer("stat", key, self.meta(key))
    }

    async fn list(&self, directory: &str, after: Option<&str>) -> Result<ListPage, StoreError> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let names: BTreeSet<String> = {
            let objects = self.objects.lock().unwrap();
            let inside = objects.keys().filter_map(|key| key.strip_prefix(&prefix));
            inside.map(|rest| rest.split('/').next().unwrap_or_default().to_string()).collect()
        };
        if names.is_empty() && !directory.is_empty() {
            return self.answer("list", directory, None);
        }
        let mut rest = names.into_iter().filter(|name| after.is_none_or(|after| name.as_str() > after));
        let part: Vec<String> = rest.by_ref().take(3).collect();
        let next = rest.next().and(part.last().cloned());
        let entries = part.iter().filter_map(|name| self.meta(&format!("{prefix}{name}"))).collect();
        tokio::time::sleep(Duration::from_millis(self.page_pause_ms.load(Ordering::SeqCst))).await;
        self.answer("list", directory, Some(ListPage { entries, next }))
    }

    async fn read(&self, key: &str, _: Range<u64>, _: &Fingerprint) -> Result<ReadStream, StoreError> {
        self.answer("read", key, None)
    }

    async fn put(&self, key: &str, _: Bytes, _: bool) -> Result<ObjectMeta, StoreError> {
        self.answer("put", key, None)
    }

    async fn delete(&self, key: &str) -> Result<(), StoreError> {
        let removed = self.objects.lock().unwrap().remove(key).map(|_| ());
        self.answer("delete", key, removed)
    }
}

fn settings(directory: &Path) -> Settings {
    let at = directory.display();
    let text = format!(
        "[cluster]\nsocket_dir = \"{at}/s\"\n[master]\nlisten = \"127.0.0.1:0\"\nhttp = \"off\"\ndir = \"{at}/master\"\ncores = \"3\"\n\
         [worker]\ndir = \"{at}/worker\"\nssd = [\"{at}/cache=1GiB\"]\n[fuse]\nmountpoint = \"{at}/mnt\"\n"
    );
    load(&text, &Overrides::default()).unwrap().settings
}

struct Bench {
    master: Master,
    store: Arc<Double>,
    directory: tempfile::TempDir,
}

fn opener(store: &Arc<Double>) -> Opener {
    let store = Arc::clone(store);
    Arc::new(move |_, _, _| {
        if store.closed.load(Ordering::SeqCst) {
            let (kind, store, message) = (ErrorKind::Invalid, "double".into(), "no credentials".into());
            return Err(StoreError { kind, store, operation: "open", key: String::new(), message });
        }
        Ok(Arc::clone(&store) as Arc<dyn UnderStore>)
    })
}

impl Bench {
    async fn start() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(Double::default());
        for (key, content) in [("a", "1"), ("b", "22"), ("d/x", "333"), ("d/e/y", "1"), ("f", "1"), ("g", "1")] {
            store.put(key, content);
        }
        let master = Master::start(&settings(directory.path()), opener(&store)).await.unwrap();
        Bench { master, store, directory }
    }

    /// Ends the master, with a cut or as if it was killed, and starts it again.
    async fn restart(self, cleanly: bool) -> Bench {
        let Bench { master, store, directory } = self;
        if cleanly {
            master.stop().await.unwrap();
        } else {
            master.kill().await;
        }
        // A runtime thread may hold the directory for a moment.
        for _ in 0..100 {
            match Master::start(&settings(directory.path()), opener(&store)).await {
                Ok(master) => return Bench { master, store, directory },
                Err(error) if ["another master", "lock hold"].iter().any(|part| error.to_string().contains(part)) => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("the directory stayed locked")
    }

    async fn mount(&self, path: &str, uri: &str, freshness_ms: u64) -> Result<MountInfo, KindError> {
        let options = vec![("secret_key".into(), "hunter2".into()), ("region".into(), "r".into())];
        let request = Mount { path: path.into(), uri: uri.into(), options, freshness_ms, readonly: true };
        self.master.service.mounts.mount(request).await
    }

    async fn unmount(&self, path: &str, force: bool) -> Result<(), KindError> {
        self.master.service.mounts.unmount(Unmount { path: path.into(), force }).await
    }

    async fn resolve(&self, path: &str) -> Result<Attr, KindError> {
        self.master.service.tree.resolve(path.as_bytes()).await
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let id = FileId(self.resolve(path).await.unwrap().file_id);
        let (mut names, mut after) = (Vec::new(), Vec::new());
        loop {
            let part = self.master.service.tree.read_dir(&ReadDir::part(id.0, &after, 2)).await.unwrap();
            after = part.entries.last().map(|entry| entry.name.clone()).unwrap_or_default();
            names.extend(part.entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()));
            if part.end {
                return names;
            }
        }
    }
}

fn kind<T: std::fmt::Debug>(result: Result<T, KindError>) -> ErrorKind {
    let error = result.unwrap_err();
    assert!(!error.message.contains('\n') && !error.message.is_empty(), "{error:?}");
    error.kind
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mounts_are_checked_shown_and_removed() {
    let bench = Bench::start().await;
    for (path, uri, want) in [
        ("mnt", "s3://b", ErrorKind::Invalid),
        ("/mnt/", "s3://b", ErrorKind::Invalid),
        ("/mnt/../x", "s3://b", ErrorKind::Invalid),
        ("/", "s3://b", ErrorKind::Exists),
    ] {
        assert_eq!(kind(bench.mount(path, uri, 0).await), want, "{path}");
    }
    let own = format!("file://{}/master/journal", bench.directory.path().display());
    assert_eq!(kind(bench.mount("/own", &own, 0).await), ErrorKind::Invalid);
    let above = format!("file://{}", bench.directory.path().display());
    assert_eq!(kind(bench.mount("/own", &above, 0).await), ErrorKind::Invalid);
    bench.store.down.store(true, Ordering::SeqCst);
    assert_eq!(kind(bench.mount("/mnt/s3", "s3://b", 0).await), ErrorKind::Unavailable);
    assert!(bench.names("/").await.is_empty(), "a mount that failed left something");
    bench.store.down.store(false, Ordering::SeqCst);

    let info = bench.mount("/mnt/s3", "s3://b", 5_000).await.unwrap();
    assert_eq!(info.options, [("secret_key".into(), "***".into()), ("region".into(), "r".into())]);
    for (path, want, named) in [
        ("/mnt/s3", ErrorKind::Exists, "/mnt/s3"),
        ("/mnt/s3/deep", ErrorKind::Invalid, "/mnt/s3"),
        ("/mnt", ErrorKind::Invalid, "/mnt/s3"),
    ] {
        let error = bench.mount(path, "s3://b", 0).await.unwrap_err();
        assert_eq!(error.kind, want, "{path}");
        assert!(error.message.contains(named), "{error}");
    }
    bench.mount("/mnt/other", "s3://b", 0).await.unwrap();
    assert_eq!(bench.names("/mnt").await, ["other", "s3"]);
    assert_eq!(bench.names("/mnt/s3").await, ["a", "b", "d", "f", "g"]);

    let hold = |open| HoldMounts { client_id: 9, open_files: vec![(info.mount_id, open)] };
    bench.master.service.mounts.hold(hold(2));
    assert_eq!(kind(bench.unmount("/mnt/s3", false).await), ErrorKind::Busy);
    assert_eq!(kind(bench.unmount("/mnt/s3/a", false).await), ErrorKind::NotFound);
    bench.master.service.mounts.hold(hold(0));
    bench.unmount("/mnt/s3", false).await.unwrap();
    assert_eq!(bench.names("/mnt").await, ["other"]);
    bench.master.service.mounts.hold(HoldMounts { client_id: 9, open_files: vec![(2, 1)] });
    bench.unmount("/mnt/other", true).await.unwrap();
    assert!(bench.names("/").await.is_empty(), "empty parents stay behind");
    bench.master.service.tree.reap().await.unwrap();
    let counts = bench.master.service.cores.read_all(crate::namespace::Partition::inode_count).await.unwrap();
    assert_eq!(counts.into_iter().sum::<u64>(), 1, "only the root is left");
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_follow_the_store() {
    let bench = Bench::start().await;
    bench.mount("/m", "s3://b", 0).await.unwrap();
    let first = bench.resolve("/m/a").await.unwrap();
    assert_eq!((first.kind, first.size, first.mode, first.nlink, first.mtime_ms), (KIND_FILE, 1, 0o644, 1, 7));
    let position = bench.master.service.feed.position();
    bench.store.put("a", "2");
    let second = bench.resolve("/m/a").await.unwrap();
    assert_eq!(second.file_id, first.file_id);
    assert!(second.version > first.version);
    let events = bench.master.service.feed.after(position, 10).events;
    assert_eq!(events, [(first.file_id, second.version)]);

    // Tickets: the live version only.
    let tree = &bench.master.service.tree;
    let opened =
        tree.open_read(&[(first.file_id, first.version), (first.file_id, 0), (1, 0), (77 << 56, 0)]).await.unwrap();
    let codes: Vec<u16> = opened.iter().map(|result| result.status).collect();
    let want = [ErrorKind::Stale.code(), 0, ErrorKind::IsADirectory.code(), ErrorKind::NotFound.code()];
    assert_eq!(codes, want);
    let key = ed25519_dalek::VerifyingKey::from_bytes(&bench.master.service.members.map().ticket_key).unwrap();
    let ticket = ticket::verify(&opened[1].ticket, &key, &mut ticket::VerifiedRoots::default(), unix_now_ms()).unwrap();
    assert_eq!((ticket.store_key.as_str(), ticket.fingerprint.as_str(), ticket.size), ("a", "etag:2", 1));

    // A file becomes a directory and back: each time another file.
    bench.store.remove("a");
    assert_eq!(kind(bench.resolve("/m/a").await), ErrorKind::NotFound);
    assert_eq!(tree.live_versions(&[FileId(first.file_id)]).await.unwrap(), [0]);
    bench.store.put("a/inner", "1");
    let third = bench.resolve("/m/a").await.unwrap();
    assert!(third.kind == KIND_DIRECTORY && third.file_id != first.file_id);
    bench.resolve("/m/a/inner").await.unwrap();
    bench.store.remove("a/inner");
    bench.store.put("a", "3");
    let fourth = bench.resolve("/m/a").await.unwrap();
    assert!(fourth.kind == KIND_FILE && fourth.file_id != third.file_id && fourth.file_id != first.file_id);

    // Listings: new and vanished names, and a subtree that goes.
    assert_eq!(bench.names("/m").await, ["a", "b", "d", "f", "g"]);
    bench.resolve("/m/d/e/y").await.unwrap();
    for key in ["d/x", "d/e/y", "f"] {
        bench.store.remove(key);
    }
    bench.store.put("new", "1");
    assert_eq!(bench.names("/m").await, ["a", "b", "g", "new"]);
    assert_eq!(kind(bench.resolve("/m/d/e/y").await), ErrorKind::NotFound);
    assert_eq!(kind(bench.resolve("/m/a/b").await), ErrorKind::NotADirectory);
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn freshness_bounds_what_is_asked() {
    let bench = Bench::start().await;
    bench.mount("/never", "s3://b", u64::MAX).await.unwrap();
    bench.mount("/hour", "s3://b", 3_600_000).await.unwrap();
    for mount in ["/never", "/hour"] {
        assert_eq!(bench.names(mount).await.len(), 5);
        let attr = bench.resolve(&format!("{mount}/a")).await.unwrap();
        assert_eq!(attr.valid_for_ms == u64::MAX, mount == "/never");
        let before = (bench.store.calls(), bench.master.journal_index());
        bench.store.put("late", "1");
        for _ in 0..3 {
            assert_eq!(bench.names(mount).await.len(), 5);
            bench.resolve(&format!("{mount}/a")).await.unwrap();
            assert_eq!(kind(bench.resolve(&format!("{mount}/late")).await), ErrorKind::NotFound);
        }
        assert_eq!((bench.store.calls(), bench.master.journal_index()), before, "{mount} was asked again");
        bench.store.remove("late");
    }
    // Once loaded, "never" holds over a restart; a bounded mount checks again but journals nothing that is unchanged.
    let bench = bench.restart(true).await;
    let (calls, index) = (bench.store.calls(), bench.master.journal_index());
    assert_eq!(bench.names("/never").await.len(), 5);
    assert_eq!(bench.store.calls(), calls);
    assert_eq!(bench.names("/hour").await.len(), 5);
    assert!(bench.store.calls() > calls);
    assert_eq!(bench.master.journal_index(), index);
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_leaves_what_is_known() {
    let bench = Bench::start().await;
    bench.mount("/m", "s3://b", 0).await.unwrap();
    bench.names("/m").await;
    let known = bench.resolve("/m/a").await.unwrap();
    bench.store.down.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        assert_eq!(bench.resolve("/m/a").await.unwrap().version, known.version);
        assert_eq!(bench.names("/m").await.len(), 5);
    }
    let opened = bench.master.service.tree.open_read(&[(known.file_id, 0)]).await.unwrap();
    assert_eq!(opened[0].status, 0, "{}", opened[0].message);
    let error = bench.resolve("/m/unknown").await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.message.contains("double"), "{error}");
    assert!(bench.master.service.mounts.list()[0].trouble.contains("connection refused"));
    // Left alone after a failure: many requests, few calls.
    let calls = bench.store.calls();
    for _ in 0..50 {
        bench.resolve("/m/a").await.unwrap();
        let _ = bench.resolve("/m/unknown").await;
    }
    assert!(bench.store.calls() <= calls + 2, "{} calls", bench.store.calls() - calls);

    // The namespace is known after a restart, too.
    let bench = bench.restart(false).await;
    assert_eq!(bench.resolve("/m/a").await.unwrap().file_id, known.file_id);
    bench.store.put("a", "changed");
    bench.store.down.store(false, Ordering::SeqCst);
    for _ in 0..100 {
        if bench.resolve("/m/a").await.unwrap().version != known.version {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_ne!(bench.resolve("/m/a").await.unwrap().version, known.version);
    assert_eq!(bench.master.service.mounts.list()[0].trouble, "");
    bench.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_survive_restarts() {
    let mut bench = Bench::start().await;
    bench.mount("/x/y/m", "s3://b", 60_000).await.unwrap();
    let mut known = BTreeMap::new();
    for path in ["/x", "/x/y", "/x/y/m", "/x/y/m/a", "/x/y/m/d", "/x/y/m/d/x", "/x/y/m/d/e", "/x/y/m/d/e/y"] {
        known.insert(path, bench.resolve(path).await.unwrap());
    }
    let mut epoch = bench.master.service.members.epoch();
    for round in 0..4 {
        bench = bench.restart(round % 2 == 0).await;
        for (path, attr) in &known {
            let now = bench.resolve(path).await.unwrap();
            assert_eq!((now.file_id, now.version), (attr.file_id, attr.version), "{path} in round {round}");
        }
        assert!(bench.master.service.members.epoch() > epoch);
        epoch = bench.master.service.members.epoch();
    }
    bench.master.stop().await.unwrap();
}

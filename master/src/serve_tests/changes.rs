//! What programs change, over a real directory as a store.

use super::*;
use forebay_net::message::change::{
    CreateFile, MakeDirectory, RENAME_NOREPLACE, Remove, Rename, SessionGrant, SetAttr,
};
use forebay_net::write_ticket::{self, WriteTicket};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

/// A master with the directory `data` mounted at `/m`.
struct Real {
    master: Master,
    directory: tempfile::TempDir,
}

impl Real {
    async fn start() -> Real {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        let master = Self::master(&directory).await;
        let real = Real { master, directory };
        real.mount("/m", "data", false).await;
        real
    }

    async fn master(directory: &tempfile::TempDir) -> Master {
        let opener: Opener = Arc::new(forebay_ufs::open);
        Master::start(&settings(directory.path()), opener).await.unwrap()
    }

    async fn restart(self) -> Real {
        let Real { master, directory } = self;
        master.stop().await.unwrap();
        Real { master: Self::master(&directory).await, directory }
    }

    async fn mount(&self, path: &str, directory: &str, readonly: bool) {
        let uri = format!("file://{}", self.path(directory).display());
        let request = Mount { path: path.into(), uri, options: vec![], freshness_ms: 60_000, readonly };
        self.master.service.mounts.mount(request).await.unwrap();
    }

    fn path(&self, inside: &str) -> PathBuf {
        self.directory.path().join(inside)
    }

    fn tree(&self) -> &Arc<crate::tree::Tree> {
        &self.master.service.tree
    }

    async fn resolve(&self, path: &str) -> Result<Attr, KindError> {
        self.tree().resolve(path.as_bytes()).await
    }

    async fn id(&self, path: &str) -> u64 {
        self.resolve(path).await.unwrap().file_id
    }

    async fn make_directory(&self, above: &str, name: &str) -> Result<Attr, KindError> {
        let parent = self.id(above).await;
        let request = MakeDirectory { parent, name: name.into(), mode: 0o750, uid: 0, gid: 0 };
        self.tree().make_directory(&request).await
    }

    async fn create(&self, above: &str, name: &str) -> Result<SessionGrant, KindError> {
        let parent = self.id(above).await;
        let request = CreateFile { parent, name: name.into(), mode: 0o640, uid: 0, gid: 0, client_id: 1 };
        self.tree().create_file(&request).await
    }

    async fn rename(&self, from: (&str, &str), to: (&str, &str), flags: u32) -> Result<Attr, KindError> {
        let (parent, new_parent) = (self.id(from.0).await, self.id(to.0).await);
        let request = Rename { parent, name: from.1.into(), new_parent, new_name: to.1.into(), flags };
        self.tree().rename(&request).await
    }

    async fn remove(&self, above: &str, name: &str, is_directory: bool) -> Result<(), KindError> {
        let parent = self.id(above).await;
        self.tree().remove(&Remove { parent, name: name.into(), is_directory }).await
    }

    async fn names(&self, path: &str) -> Vec<String> {
        let id = self.id(path).await;
        let part = self.tree().read_dir(&ReadDir::part(id, &[], 1000)).await.unwrap();
        part.entries.into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
    }

    async fn fingerprint(&self, key: &str) -> String {
        let limits = forebay_ufs::StoreLimits { concurrency: 4, deadline: Duration::from_secs(20), retries: 0 };
        let store = forebay_ufs::open(&format!("file://{}", self.path("data").display()), &[], limits).unwrap();
        store.stat(key).await.unwrap().fingerprint.0
    }

    fn ticket(&self, grant: &SessionGrant) -> WriteTicket {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&self.master.service.members.map().ticket_key).unwrap();
        write_ticket::verify(&grant.ticket, &key, unix_now_ms()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn directories_come_go_and_move_in_the_store_too() {
    let real = Real::start().await;
    fs::write(real.path("data/outside"), "1").unwrap();
    let made = real.make_directory("/m", "d").await.unwrap();
    assert_eq!((made.kind, made.mode), (KIND_DIRECTORY, 0o750));
    assert_eq!(fs::metadata(real.path("data/d")).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(real.id("/m/d").await, made.file_id);
    for (above, name, want) in [
        ("/m", "d", ErrorKind::Exists),
        ("/m", "outside", ErrorKind::Exists),
        ("/m", "a/b", ErrorKind::Invalid),
        ("/m", "..", ErrorKind::Invalid),
        ("/", "x", ErrorKind::ReadOnly),
        ("/m/outside", "x", ErrorKind::NotADirectory),
    ] {
        assert_eq!(kind(real.make_directory(above, name).await), want, "{above} {name}");
    }
    real.make_directory("/m/d", "e").await.unwrap();
    fs::write(real.path("data/d/e/f"), "22").unwrap();
    real.tree().refresh(FileId(real.id("/m/d/e").await), true).await.unwrap();
    let (inner, file) = (real.id("/m/d/e").await, real.resolve("/m/d/e/f").await.unwrap());
    assert_eq!(kind(real.remove("/m", "d", true).await), ErrorKind::NotEmpty);
    assert_eq!(kind(real.remove("/m", "d", false).await), ErrorKind::IsADirectory);
    assert_eq!(kind(real.remove("/m", "outside", true).await), ErrorKind::NotADirectory);
    assert_eq!(kind(real.remove("/m", "no", false).await), ErrorKind::NotFound);
    assert_eq!(kind(real.remove("/", "m", true).await), ErrorKind::ReadOnly);
    assert_eq!(kind(real.rename(("/m", "d"), ("/m/d/e", "x"), 0).await), ErrorKind::Invalid);

    // A directory moves with all that is known below it, under the same ids, in store and namespace.
    let moved = real.rename(("/m", "d"), ("/m", "new"), 0).await.unwrap();
    assert_eq!(moved.file_id, made.file_id);
    assert_eq!(fs::read(real.path("data/new/e/f")).unwrap(), b"22");
    assert!(!real.path("data/d").exists());
    assert_eq!(kind(real.resolve("/m/d").await), ErrorKind::NotFound);
    assert_eq!(real.id("/m/new/e").await, inner);
    let now = real.resolve("/m/new/e/f").await.unwrap();
    assert_eq!((now.file_id, now.version), (file.file_id, file.version), "its content is the same");
    assert_eq!(real.tree().recheck(&[FileId(now.file_id)]).await.unwrap()[0].as_ref().unwrap().version, file.version);

    // Over an empty directory, not over a full one, not out of the mount.
    real.make_directory("/m", "empty").await.unwrap();
    assert_eq!(kind(real.rename(("/m", "new"), ("/m", "empty"), RENAME_NOREPLACE).await), ErrorKind::Exists);
    assert_eq!(kind(real.rename(("/m", "empty"), ("/m", "new"), 0).await), ErrorKind::NotEmpty);
    assert_eq!(kind(real.rename(("/m", "outside"), ("/m", "empty"), 0).await), ErrorKind::IsADirectory);
    assert_eq!(kind(real.rename(("/m", "empty"), ("/m", "outside"), 0).await), ErrorKind::NotADirectory);
    real.rename(("/m", "new"), ("/m", "empty"), 0).await.unwrap();
    assert_eq!(real.id("/m/empty/e").await, inner);
    fs::create_dir(real.path("other")).unwrap();
    real.mount("/other", "other", false).await;
    assert_eq!(kind(real.rename(("/m", "outside"), ("/other", "x"), 0).await), ErrorKind::OtherMount);
    assert_eq!(real.names("/m").await, ["empty", "outside"]);
    real.remove("/m/empty/e", "f", false).await.unwrap();
    real.remove("/m/empty", "e", true).await.unwrap();
    real.remove("/m", "empty", true).await.unwrap();
    assert_eq!(fs::read_dir(real.path("data")).unwrap().count(), 1);
    let real = real.restart().await;
    assert_eq!(real.names("/m").await, ["outside"]);
    real.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_created_file_is_saved_or_goes() {
    let real = Real::start().await;
    fs::create_dir(real.path("fixed")).unwrap();
    real.mount("/fixed", "fixed", true).await;
    assert_eq!(kind(real.create("/fixed", "f").await), ErrorKind::ReadOnly);
    let grant = real.create("/m", "f").await.unwrap();
    let id = FileId(grant.attr.file_id);
    assert_eq!((grant.attr.size, grant.attr.mode), (0, 0o640));
    let ticket = real.ticket(&grant);
    assert_eq!((ticket.store_key.as_str(), ticket.file_id, ticket.create_only), ("f", id.0, true));
    assert_eq!(kind(real.create("/m", "f").await), ErrorKind::Exists);
    assert_eq!(kind(real.make_directory("/m", "f").await), ErrorKind::Exists);

    // No look at the store takes it away, nor does a restart.
    let root = FileId(real.id("/m").await);
    real.tree().refresh(root, true).await.unwrap();
    real.tree().recheck(&[id]).await.unwrap();
    assert_eq!(real.id("/m/f").await, id.0);
    let real = real.restart().await;
    assert_eq!(real.id("/m/f").await, id.0);
    assert!(real.tree().drop_abandoned().await.is_ok_and(|dropped| dropped == 0), "its client has time to come back");
    assert!(real.tree().grant_session(id, 1, 0).await.is_ok());
    assert_eq!(kind(real.tree().grant_session(id, 2, 0).await), ErrorKind::Busy);

    // Renamed before it is saved, over something that is there: that is what it replaces.
    fs::write(real.path("data/old"), "old").unwrap();
    let old = real.resolve("/m/old").await.unwrap();
    real.rename(("/m", "f"), ("/m", "old"), 0).await.unwrap();
    assert_eq!(real.id("/m/old").await, id.0);
    assert_eq!(fs::read(real.path("data/old")).unwrap(), b"old", "not before it is saved");
    let ticket = real.ticket(&real.tree().grant_session(id, 1, 0).await.unwrap());
    assert!(ticket.store_key == "old" && !ticket.create_only && !ticket.replaces.is_empty());

    // Saved: the same file, a new version, with the attributes that it was created with.
    assert_eq!(kind(real.tree().record_saved(id, "another").await), ErrorKind::Stale);
    fs::remove_file(real.path("data/old")).unwrap();
    fs::write(real.path("data/old"), "saved").unwrap();
    let fingerprint = real.fingerprint("old").await;
    let saved = real.tree().record_saved(id, &fingerprint).await.unwrap();
    assert_eq!((saved.file_id, saved.size, saved.mode), (id.0, 5, 0o640));
    assert!(saved.version > grant.attr.version && saved.file_id != old.file_id);
    assert_eq!(fs::metadata(real.path("data/old")).unwrap().permissions().mode() & 0o7777, 0o640);
    assert_eq!(real.resolve("/m/old").await.unwrap().version, saved.version);

    // A session goes by what it began with or saved last, whatever the namespace learns meanwhile.
    let mut grant = real.tree().grant_session(id, 1, saved.version).await.unwrap();
    assert_eq!(real.ticket(&grant).replaces, real.fingerprint("old").await);
    let mine = real.ticket(&grant).replaces;
    fs::write(real.path("data/old"), "outside").unwrap();
    real.tree().recheck(&[id]).await.unwrap();
    grant = real.tree().grant_session(id, 1, saved.version).await.unwrap();
    assert_eq!(real.ticket(&grant).replaces, mine, "its save must not replace what it never saw");
    let real = real.restart().await;
    assert_eq!(kind(real.tree().grant_session(id, 1, saved.version).await), ErrorKind::Stale, "nor after a restart");

    // Attributes, in the store.
    let change = SetAttr { file_id: id.0, mode: Some(0o604), uid: None, gid: None, mtime_ms: Some(1_000_000_000_000) };
    let changed = real.tree().set_attr(&change).await.unwrap();
    assert_eq!((changed.mode, changed.mtime_ms), (0o604, 1_000_000_000_000));
    let meta = fs::metadata(real.path("data/old")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.mtime()), (0o604, 1_000_000_000));

    // Removed before it was saved, and given up.
    real.create("/m", "g").await.unwrap();
    real.remove("/m", "g", false).await.unwrap();
    assert_eq!(kind(real.resolve("/m/g").await), ErrorKind::NotFound);
    real.make_directory("/m", "d").await.unwrap();
    real.create("/m/d", "h").await.unwrap();
    assert_eq!(kind(real.remove("/m", "d", true).await), ErrorKind::NotEmpty, "a file that is only here counts");
    real.remove("/m/d", "h", false).await.unwrap();
    real.remove("/m", "d", true).await.unwrap();
    assert_eq!(real.names("/m").await, ["old"]);
    real.master.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listing_does_not_bring_back_what_was_removed() {
    let bench = Bench::start().await;
    bench.mount("/m", "s3://b", 60_000).await.unwrap();
    let update = forebay_net::message::namespace::UpdateMount {
        path: "/m".into(),
        set_options: vec![],
        remove_options: vec![],
        freshness_ms: None,
        readonly: Some(false),
    };
    bench.master.service.mounts.update(update).await.unwrap();
    let (root, _) = (bench.resolve("/m").await.unwrap(), bench.resolve("/m/a").await.unwrap());
    let tree = &bench.master.service.tree;
    bench.store.page_pause_ms.store(1000, Ordering::SeqCst);
    let part = ReadDir::part(root.file_id, b"", 100);
    let remove = async {
        // The page that shows it is under way.
        tokio::time::sleep(Duration::from_millis(500)).await;
        tree.remove(&Remove { parent: root.file_id, name: b"a".to_vec(), is_directory: false }).await.unwrap();
    };
    let (listed, ()) = tokio::join!(tree.read_dir(&part), remove);
    let names: Vec<Vec<u8>> = listed.unwrap().entries.into_iter().map(|entry| entry.name).collect();
    assert!(!names.contains(&b"a".to_vec()) && names.contains(&b"b".to_vec()), "{names:?}");
    assert_eq!(kind(bench.resolve("/m/a").await), ErrorKind::NotFound);
    bench.master.stop().await.unwrap();
}

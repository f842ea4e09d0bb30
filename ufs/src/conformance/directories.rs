//! Directories that are made and removed, and attributes.

use super::{expect_kind, put};
use crate::under_store::{AttributeChange, ObjectKind, UnderStore};
use forebay_base::ErrorKind;
use std::sync::Arc;

pub(super) async fn run(store: &Arc<dyn UnderStore>) {
    made(store).await;
    removed(store).await;
    attributes(store).await;
}

async fn names(store: &Arc<dyn UnderStore>, directory: &str) -> Vec<String> {
    let page = store.list(directory, None).await;
    let page = page.unwrap_or_else(|error| panic!("list of \"{directory}\": {error}"));
    page.entries.into_iter().map(|meta| meta.name).collect()
}

async fn made(store: &Arc<dyn UnderStore>) {
    let meta = store.make_directory("made").await.expect("a directory at the root");
    assert_eq!((meta.name.as_str(), meta.kind, meta.size), ("made", ObjectKind::Directory, 0));
    assert_eq!(store.stat("made").await.expect("stat of an empty directory").kind, ObjectKind::Directory);
    assert!(names(store, "made").await.is_empty(), "an empty directory has children");
    for name in ["one", "with space", "a+b%25", "\u{e4}\u{4e16}"] {
        let key = format!("made/{name}");
        store.make_directory(&key).await.unwrap_or_else(|error| panic!("a directory with an odd name: {error}"));
        assert_eq!(store.stat(&key).await.expect("stat").kind, ObjectKind::Directory);
        assert!(names(store, &key).await.is_empty());
    }
    let page = store.list("made", None).await.expect("list of directories without anything in them");
    assert_eq!(page.entries.len(), 4, "{:?}", page.entries);
    assert!(page.entries.iter().all(|meta| meta.kind == ObjectKind::Directory));
    // It stays when what was in it goes.
    put(store, "made/one/file", b"x").await;
    assert_eq!(names(store, "made/one").await, ["file"]);
    store.delete("made/one/file").await.expect("delete of the only file");
    assert_eq!(store.stat("made/one").await.expect("an emptied directory").kind, ObjectKind::Directory);
    assert!(names(store, "made/one").await.is_empty());

    put(store, "made/file", b"x").await;
    for taken in ["made", "made/one", "made/file"] {
        expect_kind(store.make_directory(taken).await, &[ErrorKind::Exists], "making what is there");
    }
    expect_kind(store.make_directory("").await, &[ErrorKind::Exists], "making the root");
    for bad in ["/a", "a/", "a//b", "made/../x"] {
        expect_kind(store.make_directory(bad).await, &[ErrorKind::Invalid], "a directory with a bad key");
        expect_kind(store.remove_directory(bad).await, &[ErrorKind::Invalid], "removing a bad key");
    }
}

async fn removed(store: &Arc<dyn UnderStore>) {
    store.make_directory("removed").await.expect("made");
    store.make_directory("removed/empty").await.expect("made");
    put(store, "removed/file", b"x").await;
    put(store, "removed/full/file", b"x").await;
    expect_kind(store.remove_directory("removed").await, &[ErrorKind::NotEmpty], "removing what has entries");
    expect_kind(store.remove_directory("removed/full").await, &[ErrorKind::NotEmpty], "removing what has a file");
    expect_kind(store.remove_directory("removed/file").await, &[ErrorKind::NotADirectory], "removing a file");
    expect_kind(store.remove_directory("removed/none").await, &[ErrorKind::NotFound], "removing what is not there");
    expect_kind(store.remove_directory("").await, &[ErrorKind::Busy], "removing the root");
    store.remove_directory("removed/empty").await.expect("an empty directory goes");
    expect_kind(store.stat("removed/empty").await, &[ErrorKind::NotFound], "stat of what was removed");
    expect_kind(store.remove_directory("removed/empty").await, &[ErrorKind::NotFound], "removing it again");
    assert_eq!(store.stat("removed/full/file").await.expect("what was refused is there").size, 1);
    // A directory inside counts as well.
    store.make_directory("removed/outer").await.expect("made");
    store.make_directory("removed/outer/inner").await.expect("made");
    expect_kind(store.remove_directory("removed/outer").await, &[ErrorKind::NotEmpty], "removing around a directory");
    store.remove_directory("removed/outer/inner").await.expect("the inner one");
    store.remove_directory("removed/outer").await.expect("the outer one");
}

async fn attributes(store: &Arc<dyn UnderStore>) {
    let before = put(store, "attributes/file", b"abc").await;
    let change = AttributeChange { mode: Some(0o751), mtime_ms: Some(1_234_567_890_123), ..AttributeChange::default() };
    let changed = store.set_attributes("attributes/file", &change).await;
    if !store.keeps_attributes() {
        expect_kind(changed, &[ErrorKind::Unsupported], "attributes of a store that keeps none");
        assert_eq!(store.stat("attributes/file").await.expect("stat"), before);
        return;
    }
    let changed = changed.expect("attributes");
    assert_eq!((changed.mode, changed.mtime_ms), (Some(0o751), 1_234_567_890_123));
    assert_eq!((changed.owner, changed.size), (before.owner, 3));
    assert_eq!(store.stat("attributes/file").await.expect("stat"), changed);
    let (uid, gid) = before.owner.expect("a store that keeps attributes has owners");
    let same = AttributeChange { uid: Some(uid), gid: Some(gid), ..AttributeChange::default() };
    let kept = store.set_attributes("attributes/file", &same).await.expect("an owner that it has");
    assert_eq!((kept.mode, kept.mtime_ms, kept.owner), (changed.mode, changed.mtime_ms, changed.owner));
    let nothing = store.set_attributes("attributes/file", &AttributeChange::default()).await.expect("no change");
    assert_eq!(nothing.mode, changed.mode);
    let directory = AttributeChange { mode: Some(0o700), ..AttributeChange::default() };
    assert_eq!(store.set_attributes("attributes", &directory).await.expect("a directory").mode, Some(0o700));
    expect_kind(store.set_attributes("none", &change).await, &[ErrorKind::NotFound], "attributes of nothing");
    expect_kind(store.set_attributes("a/../b", &change).await, &[ErrorKind::Invalid], "attributes of a bad key");
}

//! Renames of files and directories, by the rules of rename(2).

use super::{expect_kind, put, read_all};
use crate::under_store::{ObjectKind, UnderStore};
use forebay_base::ErrorKind;
use std::sync::Arc;

pub(super) async fn run(store: &Arc<dyn UnderStore>) {
    files(store).await;
    directories(store).await;
    many(store).await;
    bad_keys(store).await;
}

async fn is_gone(store: &Arc<dyn UnderStore>, key: &str) {
    expect_kind(store.stat(key).await, &[ErrorKind::NotFound], "stat of an old name");
}

async fn holds(store: &Arc<dyn UnderStore>, key: &str, bytes: &[u8]) {
    let meta = store.stat(key).await.unwrap_or_else(|error| panic!("stat of \"{key}\": {error}"));
    assert_eq!(read_all(store, key, &meta).await.expect("read"), bytes, "{key}");
}

async fn files(store: &Arc<dyn UnderStore>) {
    store.make_directory("renames").await.expect("made");
    store.make_directory("renames/dir").await.expect("made");
    for (index, name) in ["plain", "with space+%25?#", "\u{e4}\u{4e16}"].into_iter().enumerate() {
        let bytes = format!("content {index}");
        let (from, to) = (format!("renames/{name}"), format!("renames/dir/{name}.new"));
        put(store, &from, bytes.as_bytes()).await;
        let meta = store.rename(&from, &to, false).await.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(meta, store.stat(&to).await.expect("stat"), "rename and stat tell the same");
        assert_eq!((meta.name, meta.kind), (format!("{name}.new"), ObjectKind::File));
        is_gone(store, &from).await;
        holds(store, &to, bytes.as_bytes()).await;
    }
    put(store, "renames/a", b"a").await;
    put(store, "renames/b", b"b").await;
    expect_kind(store.rename("renames/a", "renames/b", false).await, &[ErrorKind::Exists], "a name that is taken");
    expect_kind(store.rename("renames/a", "renames/dir", false).await, &[ErrorKind::Exists], "a directory's name");
    expect_kind(store.rename("renames/a", "renames/dir", true).await, &[ErrorKind::IsADirectory], "onto a directory");
    expect_kind(store.rename("renames/none", "renames/c", true).await, &[ErrorKind::NotFound], "nothing to rename");
    holds(store, "renames/a", b"a").await;
    holds(store, "renames/b", b"b").await;
    store.rename("renames/a", "renames/b", true).await.expect("replacing");
    is_gone(store, "renames/a").await;
    holds(store, "renames/b", b"a").await;
    store.rename("renames/b", "renames/b", true).await.expect("onto itself");
    expect_kind(store.rename("renames/b", "renames/b", false).await, &[ErrorKind::Exists], "onto itself");
    holds(store, "renames/b", b"a").await;
    put(store, "renames/empty", b"").await;
    store.rename("renames/empty", "renames/empty2", false).await.expect("an empty file");
    holds(store, "renames/empty2", b"").await;
}

async fn directories(store: &Arc<dyn UnderStore>) {
    let make = async |key: &str| store.make_directory(key).await.expect("made");
    make("moves").await;
    for key in ["moves/from/a", "moves/from/sub/b", "moves/from/sub/deep/c", "moves/from/with space%25+/d"] {
        put(store, key, key.as_bytes()).await;
    }
    make("moves/from/empty").await;
    let meta = store.rename("moves/from", "moves/to", false).await.expect("a directory");
    assert_eq!((meta.name.as_str(), meta.kind), ("to", ObjectKind::Directory));
    is_gone(store, "moves/from").await;
    is_gone(store, "moves/from/sub/deep/c").await;
    for rest in ["a", "sub/b", "sub/deep/c", "with space%25+/d"] {
        holds(store, &format!("moves/to/{rest}"), format!("moves/from/{rest}").as_bytes()).await;
    }
    assert_eq!(store.stat("moves/to/empty").await.expect("an empty directory inside").kind, ObjectKind::Directory);
    assert!(store.list("moves/to/empty", None).await.expect("list").entries.is_empty());
    let mut names: Vec<_> = store.list("moves/to", None).await.expect("list").entries.into_iter().collect();
    names.sort_by(|one, other| one.name.cmp(&other.name));
    let names: Vec<_> = names.iter().map(|meta| meta.name.as_str()).collect();
    assert_eq!(names, ["a", "empty", "sub", "with space%25+"]);

    make("moves/nothing").await;
    make("moves/free").await;
    put(store, "moves/full/x", b"x").await;
    put(store, "moves/file", b"f").await;
    let refused = async |to: &str, replace, kind, what| {
        expect_kind(store.rename("moves/to", to, replace).await, &[kind], what);
    };
    refused("moves/full", false, ErrorKind::Exists, "a taken name").await;
    refused("moves/nothing", false, ErrorKind::Exists, "an empty directory's name").await;
    refused("moves/full", true, ErrorKind::NotEmpty, "onto a directory with entries").await;
    refused("moves/file", true, ErrorKind::NotADirectory, "a directory onto a file").await;
    refused("moves/file", false, ErrorKind::Exists, "a directory to a file's name").await;
    refused("moves/to/sub/inside", true, ErrorKind::Invalid, "a directory into itself").await;
    holds(store, "moves/to/a", b"moves/from/a").await;
    holds(store, "moves/full/x", b"x").await;
    store.rename("moves/to", "moves/nothing", true).await.expect("onto an empty directory");
    is_gone(store, "moves/to").await;
    holds(store, "moves/nothing/sub/b", b"moves/from/sub/b").await;
    store.rename("moves/free", "moves/free2", false).await.expect("an empty directory");
    is_gone(store, "moves/free").await;
    assert!(store.list("moves/free2", None).await.expect("list").entries.is_empty());
    store.remove_directory("moves/free2").await.expect("a renamed empty directory is empty");
    // A name that begins like the directory's is not in it.
    put(store, "moves/nothing-else", b"e").await;
    store.rename("moves/nothing", "moves/last", false).await.expect("a directory");
    holds(store, "moves/nothing-else", b"e").await;
}

async fn many(store: &Arc<dyn UnderStore>) {
    for index in 0..40 {
        put(store, &format!("moves/many/{}/{index}", index % 3), format!("{index}").as_bytes()).await;
    }
    store.rename("moves/many", "moves/many2", false).await.expect("a directory with many files");
    is_gone(store, "moves/many").await;
    for index in 0..40 {
        holds(store, &format!("moves/many2/{}/{index}", index % 3), format!("{index}").as_bytes()).await;
    }
}

async fn bad_keys(store: &Arc<dyn UnderStore>) {
    put(store, "renames/good", b"x").await;
    for bad in ["/a", "a/", "a//b", "..", "a/../b", "a\0b"] {
        expect_kind(store.rename(bad, "renames/x", true).await, &[ErrorKind::Invalid], "rename of a bad key");
        expect_kind(store.rename("renames/good", bad, true).await, &[ErrorKind::Invalid], "rename to a bad key");
    }
    expect_kind(store.rename("", "renames/x", true).await, &[ErrorKind::Busy], "rename of the root");
    expect_kind(store.rename("renames/good", "", true).await, &[ErrorKind::Busy], "rename to the root");
    holds(store, "renames/good", b"x").await;
}

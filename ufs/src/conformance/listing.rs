//! Listings: children, order of nothing, pages.

use super::{expect_kind, objects::ODD_NAMES, put};
use crate::under_store::{ObjectKind, ObjectMeta, UnderStore};
use forebay_base::ErrorKind;
use futures::{StreamExt, stream};
use std::{collections::BTreeMap, sync::Arc};

/// More than any store gives in one page, three times over where a page is 1000.
const MANY: usize = 2500;

pub(super) async fn run(store: &Arc<dyn UnderStore>) {
    children(store).await;
    many(store).await;
}

/// All pages; each child once.
async fn list_all(store: &Arc<dyn UnderStore>, directory: &str) -> BTreeMap<String, ObjectMeta> {
    let mut found = BTreeMap::new();
    let mut after = None;
    loop {
        let page = store.list(directory, after.as_deref()).await;
        let page = page.unwrap_or_else(|error| panic!("list of \"{directory}\": {error}"));
        for meta in page.entries {
            let before = found.insert(meta.name.clone(), meta);
            assert!(before.is_none(), "\"{}\" is listed twice", before.map(|meta| meta.name).unwrap_or_default());
        }
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

async fn children(store: &Arc<dyn UnderStore>) {
    for key in ["tree/a", "tree/a-b", "tree/dir/x", "tree/dir/deep/er/y", "tree/dir2/z"] {
        put(store, key, key.as_bytes()).await;
    }
    let found = list_all(store, "tree").await;
    let kinds: Vec<_> = found.values().map(|meta| (meta.name.as_str(), meta.kind)).collect();
    let (file, directory) = (ObjectKind::File, ObjectKind::Directory);
    assert_eq!(kinds, [("a", file), ("a-b", file), ("dir", directory), ("dir2", directory)]);
    assert_eq!(found["a"], store.stat("tree/a").await.expect("stat"), "list and stat tell the same of a file");
    assert_eq!(found["dir"].kind, store.stat("tree/dir").await.expect("stat").kind);
    assert_eq!(list_all(store, "tree/dir/deep").await.len(), 1);

    let root = list_all(store, "").await;
    assert!(root.contains_key("tree") && root.contains_key("odd"), "the root has {:?}", root.keys());
    let odd = list_all(store, "odd").await;
    for name in ODD_NAMES {
        assert!(odd.contains_key(name), "\"{name}\" is missing in {:?}", odd.keys());
    }
    assert_eq!(odd.len(), ODD_NAMES.len() + 1);

    expect_kind(store.list("nothing", None).await, &[ErrorKind::NotFound], "list of what is missing");
    expect_kind(store.list("tre", None).await, &[ErrorKind::NotFound], "list of half a name");
    expect_kind(store.list("tree/a", None).await, &[ErrorKind::NotADirectory], "list of a file");
    expect_kind(store.stat("tree/a/b").await, &[ErrorKind::NotFound], "stat beneath a file");
}

async fn many(store: &Arc<dyn UnderStore>) {
    let put_one = |index: usize| async move {
        put(store, &format!("many/{index:05}"), index.to_string().as_bytes()).await;
    };
    stream::iter(0..MANY).map(put_one).buffer_unordered(32).collect::<Vec<()>>().await;
    let found = list_all(store, "many").await;
    assert_eq!(found.len(), MANY);
    for (index, (name, meta)) in found.iter().enumerate() {
        assert_eq!(*name, format!("{index:05}"));
        assert_eq!(meta.size, index.to_string().len() as u64);
    }
    assert!(found.values().all(|meta| !meta.fingerprint.0.is_empty()));
}

//! Programs that list a directory and read its small files in order get each file's own bytes, whatever was fetched for
//! them ahead: sizes of all kinds, several walkers at once, and files that change in the store under the walk.

use forebay_tests::{Cluster, Options, Pattern, drop_cached};
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILES: usize = 400;

fn size(index: usize, round: u64) -> u64 {
    // Empty ones, ones that are read alone for their size, and all lengths between, new ones in each round.
    match index % 50 {
        7 => 0,
        23 => (300 << 10) + index as u64,
        _ => (index as u64 * 7919 + round * 4801) % (130 << 10) + 1,
    }
}

fn pattern(index: usize, round: u64) -> Pattern {
    Pattern(round * 1_000_000 + index as u64)
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a listing");
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

fn walk(folder: &Path, round: impl Fn(usize) -> u64) {
    let paths = listed(folder);
    assert_eq!(paths.len(), FILES);
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let index: usize = name[1..].parse().expect("a number");
        pattern(index, round(index)).check(&path, size(index, round(index))).expect("the file's own bytes");
        drop_cached(&path);
    }
}

#[test]
fn each_file_of_a_walk_has_its_own_bytes() {
    let cluster = Cluster::start(Options::default());
    let store = cluster.store("walked");
    for index in 0..FILES {
        pattern(index, 0).write(&store.join(format!("f{index:04}")), size(index, 0)).expect("space");
    }
    cluster.mount_local("/walked", &store, &["--freshness", "1s"]);
    let folder = cluster.mountpoint().join("walked");
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| walk(&folder, |_| 0));
            }
        });
    }

    // Every third file changes while nobody looks; a walk that begins after the freshness sees only what is new.
    let round = |index: usize| u64::from(index.is_multiple_of(3));
    for index in (0..FILES).step_by(3) {
        let new = store.join("new");
        pattern(index, 1).write(&new, size(index, 1)).expect("space");
        std::fs::rename(&new, store.join(format!("f{index:04}"))).expect("the same directory");
    }
    std::thread::sleep(Duration::from_millis(1300));
    walk(&folder, round);

    // A file that changes behind the walker's back, ahead of it: old bytes whole or ESTALE, then the new ones.
    let paths = listed(&folder);
    for path in &paths[..8] {
        std::fs::read(path).expect("the file's bytes");
    }
    let name = paths[12].file_name().expect("a name").to_owned();
    Pattern(9).write(&store.join("new"), 5000).expect("space");
    std::fs::rename(store.join("new"), store.join(&name)).expect("the same directory");
    std::thread::sleep(Duration::from_millis(1300));
    for path in &paths[8..12] {
        std::fs::read(path).expect("the file's bytes");
    }
    Pattern(9).check(&paths[12], 5000).expect("the new bytes");
}

#[test]
fn what_was_only_listed_is_not_older_than_what_the_master_learns() {
    let cluster = Cluster::start(Options::default());
    let store = cluster.store("walked");
    for index in 0..FILES {
        pattern(index, 0).write(&store.join(format!("f{index:04}")), 9000).expect("space");
    }
    cluster.mount_local("/walked", &store, &["--freshness", "1h"]);
    let (folder, cli) = (cluster.mountpoint().join("walked"), cluster.cli());
    let file = |index: usize| folder.join(format!("f{index:04}"));
    // The master knows the directory; the mount lists it ahead, and gets tickets for what follows.
    cli.ok(&["fs", "ls", "/walked"]);
    for index in 0..10 {
        std::fs::metadata(file(index * 30)).expect("it is there");
    }
    std::thread::sleep(Duration::from_millis(300));
    for index in [20, 90, 21] {
        pattern(index, 0).check(&file(index), 9000).expect("the file's bytes");
    }
    let new = cluster.folder().join("new");
    Pattern(77).write(&new, 5000).expect("space");
    cli.ok(&["fs", "copy-from", "--overwrite", new.to_str().expect("text"), "/walked/f0022"]);
    std::fs::remove_file(store.join("f0095")).expect("it is there");
    cli.ok(&["fs", "refresh", "/walked"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(std::fs::metadata(file(22)).expect("it is there").len(), 5000);
    Pattern(77).check(&file(22), 5000).expect("the new bytes at the first try");
    assert_eq!(std::fs::metadata(file(95)).expect_err("it is gone").kind(), std::io::ErrorKind::NotFound);
    pattern(96, 0).check(&file(96), 9000).expect("the file's bytes");
}

//! What `forebay` shows and does on a cluster that works: listings, attributes, contents, loading, freeing, the report.

use forebay_tests::{Cluster, Options, Pattern, Report, eventually};
use std::time::Duration;

fn prepared() -> Cluster {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() }.with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    for index in 0..5 {
        bucket.put(&format!("dir/f{index}"), &Pattern(index).bytes(1_500_000)).expect("stored");
    }
    bucket.put("top", b"hello\n").expect("stored");
    cluster.mount_s3("/deep/s3", "data", &["--freshness", "1h"]);
    cluster
}

#[test]
fn listings_and_attributes() {
    let cluster = prepared();
    let cli = cluster.cli();
    assert!(cli.ok(&["fs", "ls", "/"]).contains("deep"));
    assert!(cli.ok(&["fs", "ls", "/deep"]).contains("s3"));
    let text = cli.ok(&["fs", "ls", "/deep/s3"]);
    assert!(text.contains("dir") && text.contains("top"), "{text}");
    let text = cli.ok(&["fs", "ls", "-R", "/deep"]);
    for index in 0..5 {
        assert!(text.contains(&format!("/deep/s3/dir/f{index}")), "{text}");
    }
    assert!(cli.ok(&["fs", "ls", "-h", "/deep/s3/dir"]).contains("1.4"), "sizes for people");
    let list = cli.json(&["fs", "ls", "--json", "/deep/s3/dir"]);
    let sizes: Vec<u64> =
        list.as_array().expect("an array").iter().map(|e| e["size"].as_u64().expect("a size")).collect();
    assert_eq!(sizes, [1_500_000; 5]);
    let lines = cli.ok(&["fs", "ls", "-R", "--json", "/deep/s3"]);
    for line in lines.lines() {
        serde_json::from_str::<serde_json::Value>(line).expect("each line is an object");
    }
    assert!(lines.lines().count() >= 7, "{lines}");
    let stat = cli.json(&["fs", "stat", "--json", "/deep/s3/top"]);
    assert_eq!(stat["size"].as_u64(), Some(6), "{stat}");
    assert!(cli.ok(&["fs", "stat", "/deep/s3/top"]).contains('6'));
    assert!(cli.ok(&["fs", "mounts"]).contains("s3://data"));
}

#[test]
fn contents() {
    let cluster = prepared();
    let cli = cluster.cli();
    assert_eq!(cli.ok(&["fs", "cat", "/deep/s3/top"]), "hello\n");
    let output = cli.run(&["fs", "cat", "/deep/s3/dir/f1", "/deep/s3/dir/f2"]);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(output.stdout.len(), 3_000_000);
    assert_eq!(Pattern(1).difference(0, &output.stdout[..1_500_000]), None);
    assert_eq!(Pattern(2).difference(0, &output.stdout[1_500_000..]), None);
}

#[test]
fn a_command_that_ended_holds_no_mount() {
    let mut cluster = prepared();
    let cli = cluster.cli();
    for verb in [&["fs", "cat", "/deep/s3/dir/f1"][..], &["fs", "load", "-R", "/deep/s3"]] {
        let output = cli.run(verb);
        assert_eq!(output.code, 0, "{}", output.stderr);
        cli.ok(&["fs", "unmount", "/deep/s3"]);
        cluster.mount_s3("/deep/s3", "data", &["--freshness", "1h"]);
    }
    // The mount's process that ends with a file open says so, too.
    cluster.start_fuse();
    let file = std::fs::File::open(cluster.mountpoint().join("deep/s3/top")).expect("it opens");
    std::thread::sleep(Duration::from_secs(1));
    assert_ne!(cli.run(&["fs", "unmount", "/deep/s3"]).code, 0, "a file is open there");
    let mut fuse = cluster.fuse.take().expect("it was started");
    let ended = fuse.stop(Duration::from_secs(10)).expect("it ends");
    assert!(ended.success(), "{ended}");
    cli.ok(&["fs", "unmount", "/deep/s3"]);
    drop(file);
}

/// Bytes of a file that are cached, by `fs stat`.
fn cached(cluster: &Cluster, path: &str) -> u64 {
    let stat = cluster.cli().json(&["fs", "stat", "--json", path]);
    let found = ["cached_bytes", "cached"].iter().find_map(|key| stat[key].as_u64());
    found.or_else(|| stat["cached"]["any_bytes"].as_u64()).unwrap_or_else(|| panic!("what is cached is not in {stat}"))
}

#[test]
fn load_and_free() {
    let cluster = prepared();
    let cli = cluster.cli();
    assert_eq!(cached(&cluster, "/deep/s3/dir/f0"), 0);
    let output = cli.run(&["fs", "load", "-R", "/deep/s3"]);
    assert_eq!(output.code, 0, "{output:?}");
    let said = output.text() + &output.stderr;
    assert!(said.contains('6'), "the report counts 6 files: {said}");
    for index in 0..5 {
        assert_eq!(cached(&cluster, &format!("/deep/s3/dir/f{index}")), 1_500_000);
    }
    eventually("the report to count", Duration::from_secs(5), || {
        Report::ask(&cli).filter(|report| report.store_read_bytes() == 7_500_006)
    });
    cli.ok(&["fs", "load", "-R", "/deep/s3"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(cluster.report().store_read_bytes(), 7_500_006, "a second load fetches nothing");
    cli.ok(&["fs", "free", "/deep/s3/dir/f0"]);
    assert_eq!(cached(&cluster, "/deep/s3/dir/f0"), 0);
    assert_eq!(cached(&cluster, "/deep/s3/dir/f1"), 1_500_000);
    cli.ok(&["fs", "free", "-R", "/deep"]);
    assert_eq!(cached(&cluster, "/deep/s3/dir/f1"), 0);
    let output = cli.run(&["fs", "cat", "/deep/s3/dir/f1"]);
    assert_eq!(Pattern(1).difference(0, &output.stdout), None);
}

#[test]
fn a_load_that_fails_in_part_says_so() {
    let mut cluster = prepared();
    let cli = cluster.cli();
    cli.ok(&["fs", "ls", "-R", "/deep"]);
    cli.ok(&["fs", "load", "/deep/s3/dir/f0", "/deep/s3/dir/f1"]);
    cluster.s3.as_mut().expect("it was asked for").kill();
    let output = cli.run(&["fs", "load", "-R", "/deep/s3/dir"]);
    assert_eq!(output.code, 1, "{output:?}");
    let said = output.text() + &output.stderr;
    for index in 2..5 {
        assert!(said.contains(&format!("/deep/s3/dir/f{index}")), "f{index} failed and is not named: {said}");
    }
    assert!(!said.contains("dir/f0:") && !said.contains("dir/f1:"), "{said}");
    let output = cli.run(&["fs", "load", "/deep/s3/dir/f0", "/deep/s3/nothing"]);
    assert_ne!(output.code, 0, "{output:?}");
    assert!((output.text() + &output.stderr).contains("/deep/s3/nothing"), "{output:?}");
}

#[test]
fn the_report() {
    let cluster = prepared();
    let cli = cluster.cli();
    cli.ok(&["fs", "load", "-R", "/deep/s3"]);
    std::thread::sleep(Duration::from_millis(1500));
    let report = cluster.report();
    assert_eq!(report.workers.len(), 1);
    assert_eq!(report.tiers("SSD").count() + report.tiers("MEM").count(), report.workers[0].tiers.len());
    assert_eq!(report.tiers("SSD").map(|tier| tier.capacity_bytes).sum::<u64>(), 4 << 30);
    assert_eq!(report.tiers("MEM").map(|tier| tier.capacity_bytes).sum::<u64>(), 256 << 20);
    assert!(report.used_bytes("MEM") + report.used_bytes("SSD") >= 7_500_006, "{report:?}");
    let text = cli.ok(&["admin", "report"]);
    for word in ["MEM", "SSD", "/deep/s3", "s3://data"] {
        assert!(text.contains(word), "people see no {word} in:\n{text}");
    }
    assert!(!text.contains(forebay_tests::SECRET_KEY), "{text}");
}

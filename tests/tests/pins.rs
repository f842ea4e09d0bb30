//! Pinned paths: their bytes stay in the cache whatever else is read and whoever is killed, up to a share of it.

use forebay_tests::{Cluster, Options, Pattern, Report, eventually, http, prometheus};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const MIB: u64 = 1 << 20;
/// All SSD of the cluster.
const CACHE: u64 = 128 * MIB;
const LARGE: u64 = 4 * MIB;
const SMALL: u64 = 100_000;
const SCANNED: u64 = 32 * MIB;
/// Bytes of `/data/pinned`, and of `/data/loose`.
const BYTES: u64 = 8 * LARGE + 100 * SMALL;
const LONG: Duration = Duration::from_secs(60);

fn fill(folder: &Path, seed: u64, files: u64, bytes: u64) {
    std::fs::create_dir_all(folder).expect("a directory");
    for index in 0..files {
        Pattern(seed + index).write(&folder.join(format!("f{index:03}")), bytes).expect("space");
    }
}

/// A cluster with `/data/pinned` and `/data/loose`, which are alike, and `/data/scan` of three times the cache.
fn prepared() -> Cluster {
    let options = Options { fuse: false, ssd_capacity: "128MiB".into(), ..Options::default() };
    let cluster = Cluster::start(
        options
            .set("worker.mem_capacity", "\"8MiB\"")
            .set("master.pin_lease", "\"3s\"")
            // A scan has to push out what is not pinned.
            .set("worker.eviction", "\"lru\""),
    );
    let folder = cluster.store("data");
    for (name, seed) in [("pinned", 0), ("loose", 5000)] {
        fill(&folder.join(name).join("large"), seed, 8, LARGE);
        fill(&folder.join(name).join("small"), seed + 100, 100, SMALL);
    }
    fill(&folder.join("scan"), 9000, 3 * CACHE / SCANNED, SCANNED);
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    cluster
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value}"))
}

/// The one pin, once it is kept whole.
fn kept(cluster: &Cluster, path: &str, bytes: u64) -> Value {
    eventually("the pin to be kept", LONG, || {
        let list = cluster.cli().json(&["fs", "pin", "--json"]);
        let pin = list.as_array().expect("an array").iter().find(|pin| pin["path"] == path)?.clone();
        let whole = pin["is_complete"] == true && number(&pin, "pinned_bytes") == bytes;
        (whole && number(&pin, "missing_bytes") == 0).then_some(pin)
    })
}

fn store_read_bytes(cluster: &Cluster) -> u64 {
    // Workers report each second.
    std::thread::sleep(Duration::from_millis(2500));
    cluster.report().workers[0].store_read_bytes
}

/// What is pinned as the worker itself says, by its metrics.
fn pinned_bytes(cluster: &Cluster) -> f64 {
    let text = http(cluster.http_ports().workers[0], "GET", "/metrics", "").body;
    prometheus::read(&text).expect("metrics").sum("forebay_worker_tier_pinned_bytes", &[])
}

fn scan(cluster: &Cluster) {
    for index in 0..3 * CACHE / SCANNED {
        let output = cluster.cli().run(&["fs", "cat", &format!("/data/scan/f{index:03}")]);
        assert_eq!((output.code, output.stdout.len() as u64), (0, SCANNED), "{}", output.stderr);
    }
    let _ = cluster.settled_ssd_bytes();
}

/// Reads a directory whole and checks it; gives what had to come from the store.
fn read(cluster: &Cluster, name: &str, seed: u64) -> u64 {
    let before = store_read_bytes(cluster);
    for (folder, files, seed) in [("large", 8, seed), ("small", 100, seed + 100)] {
        for index in 0..files {
            let output = cluster.cli().run(&["fs", "cat", &format!("/data/{name}/{folder}/f{index:03}")]);
            assert_eq!(output.code, 0, "{}", output.stderr);
            assert_eq!(Pattern(seed + index).difference(0, &output.stdout), None, "{name}/{folder}/f{index:03}");
        }
    }
    store_read_bytes(cluster) - before
}

#[test]
fn what_is_pinned_survives_scans_and_kills() {
    let mut cluster = prepared();
    cluster.cli().ok(&["fs", "load", "-R", "/data/loose"]);
    cluster.cli().ok(&["fs", "pin", "/data/pinned"]);
    let pin = kept(&cluster, "/data/pinned", BYTES);
    assert_eq!((number(&pin, "files"), number(&pin, "bytes"), number(&pin, "refused_bytes")), (108, BYTES, 0), "{pin}");
    scan(&cluster);
    assert_eq!(read(&cluster, "pinned", 0), 0, "it was pinned");
    let loose = read(&cluster, "loose", 5000);
    assert!(loose > BYTES / 2, "only {loose} of {BYTES} bytes were evicted: the scan is too small to tell anything");

    // Without its master the leases run out, nothing else happens.
    cluster.master.as_mut().expect("it runs").kill();
    eventually("the leases to run out", LONG, || (pinned_bytes(&cluster) == 0.0).then_some(()));
    cluster.start_master();
    eventually("the leases to be back", LONG, || (pinned_bytes(&cluster) >= BYTES as f64).then_some(()));
    cluster.workers[0].as_mut().expect("it runs").kill();
    cluster.start_worker(0);
    kept(&cluster, "/data/pinned", BYTES);
    // Longer than a lease: they are renewed.
    std::thread::sleep(Duration::from_secs(4));
    scan(&cluster);
    assert_eq!(read(&cluster, "pinned", 0), 0, "it is pinned after the restarts");

    cluster.cli().ok(&["fs", "unpin", "/data/pinned"]);
    eventually("the pins to end", LONG, || (pinned_bytes(&cluster) == 0.0).then_some(()));
    scan(&cluster);
    let evicted = read(&cluster, "pinned", 0);
    assert!(evicted > BYTES / 2, "only {evicted} of {BYTES} bytes were evicted after unpin");
}

#[test]
fn pins_leave_room_and_say_what_finds_none() {
    let cluster = prepared();
    let cli = cluster.cli();
    let refused = cli.run(&["fs", "pin", "/data/scan"]);
    refused.assert_refused(&[1], &["/data/scan", "cannot be pinned", "80 %"]);
    let pin = eventually("what fits to be loaded", LONG, || {
        let pin = cli.json(&["fs", "pin", "--json"])[0].clone();
        (number(&pin, "missing_bytes") == 0 && number(&pin, "pinned_bytes") > 0).then_some(pin)
    });
    let (pinned, all) = (number(&pin, "pinned_bytes"), 3 * CACHE);
    assert_eq!(pinned + number(&pin, "refused_bytes"), all, "{pin}");
    assert!(pinned <= CACHE / 10 * 8, "{pin}");
    assert!(cli.ok(&["fs", "pin"]).contains("no room for all"));
    let report = cli.json(&["admin", "report", "capacity", "--json"]);
    let ssd = report["workers"][0]["tiers"].as_array().expect("tiers").iter().find(|tier| tier["tier"] == "SSD");
    let held = number(ssd.expect("an SSD tier"), "pinned_bytes");
    assert!(held <= CACHE / 10 * 8, "{report}");
    let text = http(cluster.http_ports().master, "GET", "/metrics", "").body;
    let metrics = prometheus::read(&text).expect("metrics");
    assert_eq!(metrics.sum("forebay_master_pinned_bytes", &[("state", "refused")]), (all - pinned) as f64);
    assert_eq!(cluster.logs().matches("cannot be pinned").count(), 1, "it is said once");
    // Other files still come and stay.
    cli.ok(&["fs", "load", "-R", "/data/loose/small"]);
    let _ = cluster.settled_ssd_bytes();
    assert_eq!(cli.ok(&["fs", "stat", "-f", "%c", "/data/loose/small/f007"]).trim(), SMALL.to_string());
    let after = Report::ask(&cli).expect("a report");
    assert!(after.used_bytes("SSD") <= CACHE);
}

#[test]
fn a_new_version_takes_the_pin_over() {
    let cluster = prepared();
    let (cli, folder) = (cluster.cli(), cluster.store("data").join("pinned"));
    cli.ok(&["fs", "pin", "/data/pinned/large"]);
    kept(&cluster, "/data/pinned/large", 8 * LARGE);
    let replaced = folder.join("new");
    Pattern(77).write(&replaced, LARGE / 2).expect("space");
    std::fs::rename(&replaced, folder.join("large/f003")).expect("the same directory");
    Pattern(78).write(&folder.join("large/more"), MIB).expect("space");
    cli.ok(&["fs", "refresh", "-R", "/data/pinned"]);
    let all = 8 * LARGE - LARGE / 2 + MIB;
    let pin = kept(&cluster, "/data/pinned/large", all);
    assert_eq!(number(&pin, "files"), 9, "{pin}");
    scan(&cluster);
    let before = store_read_bytes(&cluster);
    let output = cli.run(&["fs", "cat", "/data/pinned/large/f003", "/data/pinned/large/more"]);
    assert_eq!(Pattern(77).difference(0, &output.stdout[..(LARGE / 2) as usize]), None);
    assert_eq!(Pattern(78).difference(0, &output.stdout[(LARGE / 2) as usize..]), None);
    assert_eq!(store_read_bytes(&cluster), before, "both are pinned, and nobody had read them");
    // The old version's pin is gone with it: tables and rounding are no more than a hundredth.
    let held = pinned_bytes(&cluster);
    assert!(held <= (all + all / 100) as f64, "{held} held for {all}");
}

#[test]
fn pins_follow_the_workers() {
    let options = Options { fuse: false, workers: 2, worker_cores: 1, ..Options::default() };
    let options = options.set("master.worker_timeout", "\"3s\"").set("master.pin_lease", "\"6s\"");
    let mut cluster = Cluster::start(options);
    let folder = cluster.store("data");
    fill(&folder, 0, 20, LARGE);
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    cluster.cli().ok(&["fs", "pin", "/data"]);
    kept(&cluster, "/data", 20 * LARGE);
    let _ = cluster.settled_ssd_bytes();
    let before = pinned_bytes(&cluster);
    assert!(before > 0.0 && before < (20 * LARGE) as f64, "both workers own files");
    cluster.workers[1].as_mut().expect("it runs").kill();
    eventually("the other worker to take all", LONG, || (pinned_bytes(&cluster) >= (20 * LARGE) as f64).then_some(()));
    kept(&cluster, "/data", 20 * LARGE);
    cluster.start_worker(1);
    // What the second worker owns again is no longer renewed at the first.
    eventually("it to give them back", LONG, || (pinned_bytes(&cluster) <= before * 1.01).then_some(()));
    kept(&cluster, "/data", 20 * LARGE);
}

#[test]
fn the_verbs() {
    let cluster = prepared();
    let cli = cluster.cli();
    assert!(cli.ok(&["fs", "pin"]).contains("no pins"));
    assert_eq!(cli.json(&["fs", "pin", "--json"]), serde_json::json!([]));
    let text = cli.ok(&["fs", "pin", "/data/pinned/small"]);
    assert!(text.contains("/data/pinned/small: pinned, 100 files"), "{text}");
    let pin = cli.json(&["fs", "pin", "--json", "/data/loose/large/f000"]);
    assert_eq!((number(&pin, "files"), number(&pin, "pinned_bytes")), (1, LARGE), "{pin}");
    kept(&cluster, "/data/pinned/small", 100 * SMALL);
    assert!(cli.ok(&["fs", "pin"]).contains("ok"));

    let listed = cli.ok(&["fs", "ls", "-p", "-R", "/data"]);
    assert_eq!(listed.lines().count(), 102, "the directory, what is in it, and one file: {listed}");
    assert_eq!(cli.ok(&["fs", "ls", "-p", "/data/loose/large"]).lines().count(), 1);
    let json = cli.json(&["fs", "ls", "--json", "/data/loose/large"]);
    let pins: Vec<&Value> = json.as_array().expect("an array").iter().map(|entry| &entry["pinned_by"]).collect();
    assert_eq!((pins[0].as_str(), pins[1].as_str()), (Some("/data/loose/large/f000"), None), "{json}");
    let text = cli.ok(&["fs", "stat", "-f", "%N %p", "/data/pinned/small/f001", "/data/pinned", "/data/pinned/small"]);
    assert_eq!(text, "f001 /data/pinned/small\npinned -\nsmall /data/pinned/small\n");
    assert!(cli.ok(&["fs", "stat", "/data/pinned/small/f001"]).contains("by /data/pinned/small"));
    let stat = cli.json(&["fs", "stat", "--json", "/data/pinned"]);
    assert_eq!(stat["pinned_by"], Value::Null, "{stat}");

    for path in ["/data/pinned/small/f001", "/data/pinned", "/data"] {
        let words = ["is pinned", "unpin", "--force", "/data/"];
        cli.run(&["fs", "free", "-R", path]).assert_refused(&[1], &words);
    }
    cli.ok(&["fs", "free", "/data/loose/large/f001"]);
    let freed = cli.ok(&["fs", "free", "--force", "/data/pinned/small/f001"]);
    assert!(freed.contains("1 files") && !freed.contains(" 0 bytes"), "{freed}");
    kept(&cluster, "/data/pinned/small", 100 * SMALL);

    cli.run(&["fs", "pin", "/data/none"]).assert_refused(&[3], &["/data/none"]);
    cli.run(&["fs", "pin", "/data/none*"]).assert_refused(&[3], &["no path matches"]);
    cli.run(&["fs", "pin", "/"]).assert_refused(&[2], &["lies in no mount", "/data"]);
    cli.run(&["fs", "pin", "relative"]).assert_refused(&[2], &["relative"]);
    cli.run(&["fs", "unpin"]).assert_refused(&[2], &["PATHS"]);
    cli.run(&["fs", "unpin", "/data/loose"]).assert_refused(&[3], &["/data/loose", "not pinned"]);
    cli.run(&["fs", "unpin", "/data/x*"]).assert_refused(&[3], &["no pinned path matches"]);
    let below = cli.run(&["fs", "unpin", "/data/pinned/small/f001"]);
    below.assert_refused(&[2], &["not pinned itself", "unpin /data/pinned/small"]);

    // A pin is a policy of its path, beside its freshness.
    cli.ok(&["admin", "path-policy", "set", "/data/pinned/small", "freshness=5m"]);
    let shown = cli.ok(&["admin", "path-policy", "show", "/data/pinned"]);
    assert!(shown.contains("freshness=5m pin=true"), "{shown}");
    let gone = cli.json(&["fs", "unpin", "--json", "/data/pinned/small"]);
    assert_eq!((gone["path"].as_str(), gone["pinned"].as_bool()), (Some("/data/pinned/small"), Some(false)));
    let shown = cli.json(&["admin", "path-policy", "show", "--json"]);
    assert_eq!((shown[1]["pin"].as_bool(), shown[1]["freshness"].as_str()), (Some(false), Some("5m")), "{shown}");
    assert!(cli.ok(&["fs", "unpin", "/data/*/large/f*"]).contains("/data/loose/large/f000: not pinned any more"));
    cli.ok(&["admin", "path-policy", "set", "/data/later", "pin=true"]);
    eventually("what does not exist yet to be said", LONG, || {
        let pin = cli.json(&["fs", "pin", "--json"])[0].clone();
        pin["last_error"].as_str().is_some_and(|error| error.contains("/data/later")).then_some(())
    });
    cli.ok(&["fs", "unpin", "/data/later"]);
    cli.run(&["admin", "path-policy", "set", "/data", "pin=yes"]).assert_refused(&[2], &["true or false"]);
    eventually("the pins to end", LONG, || (pinned_bytes(&cluster) == 0.0).then_some(()));
}

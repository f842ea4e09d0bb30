//! Very many tiny files loaded by one job, with the master and the worker killed on the way: exact totals, memory that
//! grows with the namespace only. `FOREBAY_TEST_FILES` sets another number; a million were loaded that way.

use forebay_tests::{Cluster, Options, each_file, eventually};
use serde_json::Value;
use std::time::{Duration, Instant};

const LONG: Duration = Duration::from_secs(1800);
const BYTES: u64 = 8;
const FILES_PER_DIRECTORY: usize = 1000;
const RESIDENT_PER_FILE: u64 = 2 << 10;

fn number(job: &Value, name: &str) -> u64 {
    job[name].as_u64().unwrap_or_else(|| panic!("no {name} in {job}"))
}

#[test]
fn very_many_files_are_loaded_once_each() {
    let files: usize = std::env::var("FOREBAY_TEST_FILES").ok().and_then(|text| text.parse().ok()).unwrap_or(30_000);
    let mut cluster = Cluster::start(Options { fuse: false, ssd_capacity: "12GiB".into(), ..Options::default() });
    let folder = cluster.store("many");
    let errors = each_file(files, 4, |index| {
        let directory = folder.join(format!("d{:04}", index / FILES_PER_DIRECTORY));
        if index % FILES_PER_DIRECTORY < 8 {
            std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
        }
        std::fs::write(directory.join(format!("f{index:07}")), format!("{index:08}")).map_err(|error| error.to_string())
    });
    assert!(errors.is_empty(), "{errors:?}");
    cluster.mount_local("/many", &folder, &["--freshness", "1h"]);
    let before = cluster.master.as_ref().expect("it runs").resident_bytes();
    let memory = |cluster: &Cluster| {
        let master = cluster.master.as_ref().expect("it runs").resident_bytes();
        let worker = cluster.workers[0].as_ref().expect("it runs").resident_bytes();
        (master, format!("master {} MiB, worker {} MiB", master >> 20, worker >> 20))
    };
    println!("before: {}", memory(&cluster).1);

    let start = Instant::now();
    let submitted = cluster.cli().json(&["fs", "load", "-R", "--submit", "--json", "/many"]);
    let id = submitted["job_id"].as_u64().expect("a number").to_string();
    let stat = |cluster: &Cluster| cluster.cli().json(&["job", "stat", "--json", "--failures", &id]);
    let loaded = |cluster: &Cluster, share: usize| {
        eventually("files to be loaded", LONG, || {
            Some(stat(cluster)).filter(|job| number(job, "files") >= (files * share / 100) as u64)
        })
    };
    loaded(&cluster, 30);
    println!("30 % after {:?}: {}", start.elapsed(), memory(&cluster).1);
    cluster.workers[0].as_mut().expect("it runs").kill();
    cluster.start_worker(0);
    let half = loaded(&cluster, 50);
    println!("half after {:?}: {}", start.elapsed(), memory(&cluster).1);
    assert_eq!(half["state"], "running", "it was too fast: {half}");
    cluster.master.as_mut().expect("it runs").kill();
    cluster.start_master();
    println!("the master is back after {:?}, at {} files", start.elapsed(), number(&stat(&cluster), "files"));
    let end = eventually("the job to end", LONG, || Some(stat(&cluster)).filter(|job| job["state"] != "running"));
    let took = start.elapsed();
    let (after, shown) = memory(&cluster);
    println!("{files} files after {took:?}, {:.0} a second: {shown}", files as f64 / took.as_secs_f64());
    println!("the master grew by {} bytes a file", after.saturating_sub(before) / files as u64);

    assert_eq!((end["state"].as_str(), number(&end, "failed")), (Some("done"), 0), "{end}");
    assert_eq!(number(&end, "files"), files as u64, "{end}");
    assert_eq!(number(&end, "fetched_bytes") + number(&end, "cached_bytes"), files as u64 * BYTES, "{end}");
    // What the killed worker had in memory alone is fetched again, and then nothing is.
    for lost_max in [files as u64 * BYTES * 15 / 100, 0] {
        let start = Instant::now();
        let again = cluster.cli().json(&["fs", "load", "-R", "--json", "/many"]);
        let (fetched, cached) = (number(&again, "fetched_bytes"), number(&again, "cached_bytes"));
        assert!(fetched <= lost_max && fetched + cached == files as u64 * BYTES, "{again}");
        println!("again after {:?}, {fetched} bytes fetched: {}", start.elapsed(), memory(&cluster).1);
    }
    let grown = memory(&cluster).0.saturating_sub(before);
    assert!(
        grown <= files as u64 * RESIDENT_PER_FILE + (64 << 20),
        "the master grew by {grown} bytes for {files} files"
    );
    for index in [0, files / 2, files - 1] {
        let path = format!("/many/d{:04}/f{index:07}", index / FILES_PER_DIRECTORY);
        assert_eq!(cluster.cli().ok(&["fs", "cat", &path]), format!("{index:08}"));
    }
}

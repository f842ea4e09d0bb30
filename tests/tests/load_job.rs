//! Loading as a job of the master: exact totals whoever is killed on the way, limits that hold, failures by name.

use forebay_tests::{Cluster, Options, Pattern, Process, binary, each_file, eventually, spread};
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const FILES: usize = 3000;
const BYTES: u64 = 20_000;
const ALL: u64 = FILES as u64 * BYTES;
/// With this limit the job takes about 5 s.
const LIMIT: &str = "12MiB";
const LONG: Duration = Duration::from_secs(120);

fn fill(folder: &Path, files: usize) {
    let errors = each_file(files, 4, |index| {
        let path = folder.join(spread(index));
        std::fs::create_dir_all(path.parent().expect("it has one")).map_err(|error| error.to_string())?;
        Pattern(index as u64).write(&path, BYTES).map_err(|error| error.to_string())
    });
    assert!(errors.is_empty(), "{errors:?}");
}

fn prepared(options: Options) -> Cluster {
    let cluster = Cluster::start(Options { fuse: false, ..options });
    let folder = cluster.store("data");
    fill(&folder, FILES);
    cluster.mount_local("/data", &folder, &["--freshness", "1h"]);
    cluster
}

fn submit(cluster: &Cluster, more: &[&str]) -> u64 {
    let arguments = [&["fs", "load", "-R", "--submit", "--json"], more, &["/data"]].concat();
    cluster.cli().json(&arguments)["job_id"].as_u64().expect("a number")
}

fn job(cluster: &Cluster, id: u64) -> Value {
    cluster.cli().json(&["job", "stat", "--json", "--failures", &id.to_string()])
}

fn number(job: &Value, name: &str) -> u64 {
    job[name].as_u64().unwrap_or_else(|| panic!("no {name} in {job}"))
}

fn wait_files(cluster: &Cluster, id: u64, files: u64) -> Value {
    eventually("files to be loaded", LONG, || Some(job(cluster, id)).filter(|job| number(job, "files") >= files))
}

fn wait_end(cluster: &Cluster, id: u64) -> Value {
    eventually("the job to end", LONG, || Some(job(cluster, id)).filter(|job| job["state"] != "running"))
}

fn assert_all(job: &Value) {
    assert_eq!((job["state"].as_str(), number(job, "failed")), (Some("done"), 0), "{job}");
    assert_eq!(number(job, "files"), FILES as u64, "{job}");
    assert_eq!(number(job, "fetched_bytes") + number(job, "cached_bytes"), ALL, "{job}");
}

#[test]
fn totals_are_exact_on_both_stores() {
    let cluster = prepared(Options::default().with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    let errors = each_file(1200, 4, |index| bucket.put(&spread(index), &Pattern(index as u64).bytes(5_000)));
    assert!(errors.is_empty(), "{errors:?}");
    bucket.put("big", &Pattern(9).bytes(40_000_001)).expect("stored");
    bucket.put("empty", b"").expect("stored");
    cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
    let cli = cluster.cli();
    let load = ["fs", "load", "-R", "--json", "--verify", "/data", "/s3"];
    let first = cli.json(&load);
    let (files, bytes) = (FILES as u64 + 1202, ALL + 1200 * 5_000 + 40_000_001);
    assert_eq!((number(&first, "files"), number(&first, "failed")), (files, 0), "{first}");
    assert_eq!((number(&first, "fetched_bytes"), number(&first, "cached_bytes")), (bytes, 0), "{first}");
    assert_eq!((number(&first, "verified_bytes"), number(&first, "corrupt_pages")), (bytes, 0), "{first}");
    assert_eq!((number(&first, "found_files"), number(&first, "found_bytes")), (files, bytes), "{first}");
    let again = cli.json(&load);
    assert_eq!((number(&again, "fetched_bytes"), number(&again, "cached_bytes")), (0, bytes), "{again}");
    let text = cli.ok(&["fs", "load", "-R", "/data"]);
    assert!(text.contains(&format!("{FILES} files loaded, 0 failed")) && text.contains(&ALL.to_string()), "{text}");
    let list = cli.json(&["job", "ls", "--all", "--json"]);
    assert_eq!(list.as_array().expect("an array").len(), 3, "{list}");
    assert_eq!(cli.json(&["job", "ls", "--json"]), serde_json::json!([]));
    let output = cli.run(&["fs", "cat", "/s3/big"]);
    assert_eq!(Pattern(9).difference(0, &output.stdout), None);
}

#[test]
fn a_killed_master_goes_on_where_it_was() {
    let mut cluster = prepared(Options::default());
    let id = submit(&cluster, &["--bandwidth", LIMIT]);
    // Notes in the journal come every 2 s.
    std::thread::sleep(Duration::from_millis(2600));
    let before = wait_files(&cluster, id, 500);
    assert_eq!(before["state"], "running", "it was too fast: {before}");
    cluster.master.as_mut().expect("it runs").kill();
    cluster.start_master();
    let after = job(&cluster, id);
    assert!(number(&after, "files") > 0 && after["cursor"] != "", "it began anew: {after}");
    assert!(cluster.logs().contains("goes on behind"), "no word of it in the log");
    let end = wait_end(&cluster, id);
    assert_all(&end);
    // What was loaded and not noted is found cached: not much.
    assert!(number(&end, "fetched_bytes") > ALL / 2 && number(&end, "cached_bytes") < ALL / 2, "{end}");
    // Twice more, at any moment, with jobs that ended in the state.
    for wait in [300, 900] {
        cluster.cli().ok(&["fs", "free", "-R", "/data"]);
        let id = submit(&cluster, &["--bandwidth", LIMIT]);
        std::thread::sleep(Duration::from_millis(wait));
        cluster.master.as_mut().expect("it runs").kill();
        cluster.start_master();
        assert_all(&wait_end(&cluster, id));
    }
    assert_eq!(cluster.cli().json(&["job", "ls", "--all", "--json"]).as_array().expect("an array").len(), 3);
}

#[test]
fn a_killed_worker_gets_its_steps_again() {
    let mut cluster = prepared(Options::default());
    let id = submit(&cluster, &["--bandwidth", LIMIT]);
    let before = wait_files(&cluster, id, 800);
    assert_eq!(before["state"], "running", "it was too fast: {before}");
    cluster.workers[0].as_mut().expect("it runs").kill();
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(job(&cluster, id)["state"], "running");
    cluster.start_worker(0);
    assert_all(&wait_end(&cluster, id));
}

#[test]
fn of_two_workers_one_dies_and_the_other_gets_all() {
    let options = Options { workers: 2, worker_cores: 1, ..Options::default() };
    let mut cluster = prepared(options.set("master.worker_timeout", "\"3s\""));
    let cli = cluster.cli();
    cli.run(&["fs", "load", "-R", "--replicas", "3", "/data"]).assert_refused(&[2], &["replicas", "3", "2"]);
    let twice = cli.json(&["fs", "load", "-R", "--json", "--replicas", "2", "/data"]);
    assert_eq!((number(&twice, "files"), number(&twice, "fetched_bytes")), (FILES as u64, 2 * ALL), "{twice}");
    cli.ok(&["fs", "free", "-R", "/data"]);
    let id = submit(&cluster, &["--bandwidth", LIMIT]);
    let before = wait_files(&cluster, id, 600);
    assert_eq!(before["state"], "running", "it was too fast: {before}");
    cluster.workers[1].as_mut().expect("it runs").kill();
    assert_all(&wait_end(&cluster, id));
}

#[test]
fn the_limit_holds_and_a_cancelled_job_ends() {
    let cluster = prepared(Options::default());
    let cli = cluster.cli();
    let began = Instant::now();
    let id = submit(&cluster, &["--bandwidth", LIMIT]);
    let same = cli.json(&["fs", "load", "-R", "--submit", "--json", "--bandwidth", LIMIT, "/data/"]);
    assert_eq!((same["job_id"].as_u64(), same["joined"].as_bool()), (Some(id), Some(true)), "{same}");
    let job = wait_end(&cluster, id);
    assert_all(&job);
    let seconds = (number(&job, "ended_ms") - number(&job, "submitted_ms")) as f64 / 1000.0;
    let want = ALL as f64 / f64::from(12 << 20);
    eprintln!("{seconds:.2} s, {want:.2} s at the limit, {:?} seen here", began.elapsed());
    assert!(seconds > want * 0.85 && seconds < want * 1.15, "{seconds} s, want {want} s within 15 %");

    cli.ok(&["fs", "free", "-R", "/data"]);
    let id = submit(&cluster, &["--bandwidth", "1MiB"]);
    wait_files(&cluster, id, 20);
    let text = cli.ok(&["job", "ls"]);
    assert!(text.contains("running") && text.contains("/data"), "{text}");
    cli.ok(&["job", "cancel", &id.to_string()]);
    let cancelled = self::job(&cluster, id);
    assert_eq!(cancelled["state"], "cancelled", "{cancelled}");
    let files = number(&cancelled, "files");
    assert!(files >= 20 && files < FILES as u64, "{cancelled}");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(number(&self::job(&cluster, id), "files"), files, "it goes on");
    cli.run(&["job", "cancel", &id.to_string()]).assert_refused(&[2], &["ended"]);
    assert!(cli.ok(&["job", "stat", &id.to_string()]).contains("cancelled"));

    let id = submit(&cluster, &["--bandwidth", "1MiB"]);
    cli.ok(&["fs", "load", "--stop", "/data"]);
    assert_eq!(self::job(&cluster, id)["state"], "cancelled");
    assert!(cli.ok(&["fs", "load", "--stop"]).contains("no load runs"));
}

#[test]
fn an_interrupt_leaves_the_job_running() {
    let cluster = prepared(Options::default());
    let cli = cluster.cli();
    let mut command = Command::new(binary("forebay"));
    command.arg("--config").arg(cluster.config());
    command.args(["fs", "load", "-R", "--bandwidth", LIMIT, "/data"]);
    let mut load = Process::start("load", &mut command, &cluster.folder().join("load.out"));
    let id = eventually("the job", LONG, || cli.json(&["job", "ls", "--json"])[0]["job_id"].as_u64());
    wait_files(&cluster, id, 100);
    load.signal(Signal::INT);
    assert_eq!(load.wait_end(Duration::from_secs(10)).code(), Some(1));
    let said = load.log();
    assert!(said.contains(&format!("forebay job stat {id}")), "{said}");
    assert_eq!(job(&cluster, id)["state"], "running");
    let jobs = cli.json(&["admin", "report", "jobs", "--json"]);
    assert_eq!((jobs["jobs"][0]["job_id"].as_u64(), jobs.get("workers")), (Some(id), None), "{jobs}");
    assert!(cli.ok(&["admin", "report"]).contains("/data"), "the whole report shows jobs that run");
    let report = cli.json(&["fs", "load", "--progress", &id.to_string(), "--json"]);
    assert_all(&report);
}

#[test]
fn what_fails_is_named_and_what_changed_is_loaded_anew() {
    let cluster = prepared(Options::default().with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    for index in 0..40 {
        bucket.put(&format!("o{index:02}"), &Pattern(index).bytes(100_000)).expect("stored");
    }
    cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
    let cli = cluster.cli();
    // Everything is listed; then the store changes behind the job's back.
    cli.ok(&["fs", "ls", "-R", "/data"]);
    cli.ok(&["fs", "ls", "-R", "/s3"]);
    let folder = cluster.store("data");
    bucket.delete("o07").expect("deleted");
    bucket.put("o08", &Pattern(8).bytes(123_456)).expect("stored");
    std::fs::remove_file(folder.join(spread(100))).expect("deleted");
    std::fs::remove_dir_all(folder.join("d07/s1")).expect("deleted");
    let gone: Vec<usize> = (0..FILES).filter(|index| spread(*index).starts_with("d07/s1/")).collect();
    Pattern(1).write(&folder.join(spread(200)), BYTES + 5).expect("space");
    let failed = gone.len() as u64 + 2;
    let output = cli.run(&["fs", "load", "-R", "/data", "/s3"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert_eq!(output.stderr.lines().count() as u64, failed + 1, "{}", output.stderr);
    let named = gone.iter().map(|index| format!("/data/{}:", spread(*index)));
    for path in named.chain([format!("/data/{}:", spread(100)), "/s3/o07:".to_string()]) {
        assert!(output.stderr.contains(&path), "{path} is not named in {}", output.stderr);
    }
    let job = job(&cluster, 1);
    assert_eq!((job["state"].as_str(), number(&job, "failed")), (Some("partial"), failed), "{job}");
    assert_eq!(number(&job, "files"), FILES as u64 + 40 - failed, "{job}");
    let bytes = (FILES - gone.len() - 1) as u64 * BYTES + 5 + 38 * 100_000 + 123_456;
    assert_eq!(number(&job, "fetched_bytes"), bytes, "{job}");
    assert_eq!(job["failures"].as_array().expect("an array").len() as u64, failed, "{job}");
    let output = cli.run(&["fs", "load", "-R", "--json", "/data"]);
    assert_eq!(output.code, 0, "what is gone is known to be gone: {output:?}");
}

#[test]
fn wrong_inputs_start_nothing() {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() });
    let folder = cluster.store("data");
    std::fs::write(folder.join("f"), b"x").expect("a file");
    cluster.mount_local("/data", &folder, &[]);
    let cli = cluster.cli();
    cli.run(&["fs", "load", "/data/nothing"]).assert_refused(&[3], &["/data/nothing"]);
    cli.run(&["fs", "load", "/data/f", "/nothing"]).assert_refused(&[3], &["nothing"]);
    cli.run(&["fs", "load", "data"]).assert_refused(&[2], &["absolute"]);
    cli.run(&["fs", "load", "/data"]).assert_refused(&[2], &["/data", "-R"]);
    cli.run(&["fs", "load", "-R", "--replicas", "2", "/data"]).assert_refused(&[2], &["replicas", "2", "1"]);
    cli.run(&["fs", "load", "-R", "--replicas", "0", "/data"]).assert_refused(&[2], &["replicas"]);
    cli.run(&["fs", "load", "-R", "--bandwidth", "fast", "/data"]).assert_refused(&[2], &["bandwidth", "fast"]);
    cli.run(&["fs", "load", "-R", "--bandwidth", "1KiB", "/data"]).assert_refused(&[2], &["bandwidth"]);
    cli.run(&["fs", "load"]).assert_refused(&[2], &[]);
    cli.run(&["fs", "load", "--progress", "/nothing"]).assert_refused(&[3], &["/nothing"]);
    cli.run(&["job", "stat", "77"]).assert_refused(&[3], &["77"]);
    cli.run(&["job", "cancel", "77"]).assert_refused(&[3], &["77"]);
    cli.run(&["job", "stat", "x"]).assert_refused(&[2], &["x"]);
    assert_eq!(cli.json(&["job", "ls", "--all", "--json"]), serde_json::json!([]));
    assert!(cli.ok(&["job", "ls"]).contains("no job runs"));
    assert!(cli.ok(&["admin", "report", "jobs"]).contains("no job runs"));
    assert!(cli.ok(&["fs", "load", "--progress"]).contains("no load runs"));
    assert!(cli.ok(&["fs", "load", "/data/f"]).contains("1 files loaded, 0 failed; 1 bytes"));
}

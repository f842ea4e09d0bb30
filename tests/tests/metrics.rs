//! What a running cluster tells of itself: every role's metrics in a strict reader, numbers that follow what was done,
//! the log filter changed at run time, and the audit log.

use forebay_tests::prometheus::{Metrics, read};
use forebay_tests::{Cluster, Options, Pattern, eventually, http};
use std::time::Duration;

const SECRET: &str = "a-secret-that-no-log-may-show";
const FILE_BYTES: u64 = 3 << 20;

fn scrape(port: u16) -> Metrics {
    let answer = http(port, "GET", "/metrics", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    read(&answer.body).unwrap_or_else(|wrong| panic!("{wrong}\n{}", answer.body))
}

#[test]
fn roles_tell_what_they_do() {
    let mut cluster = Cluster::start(Options::default().with_audit());
    let ports = cluster.http_ports().clone();
    let folder = cluster.store("data");
    Pattern(7).write(&folder.join("file"), FILE_BYTES).expect("a file");
    cluster.mount_local("/data", &folder, &[]);
    let path = cluster.mountpoint().join("data/file");
    for _ in 0..2 {
        assert_eq!(std::fs::read(&path).expect("read through the mount").len() as u64, FILE_BYTES);
    }
    assert!(std::fs::metadata(cluster.mountpoint().join("data/missing")).is_err());

    for port in [ports.master, ports.workers[0], ports.fuse] {
        let health = http(port, "GET", "/healthz", "");
        assert_eq!((health.status, health.body.trim()), (200, "ok"));
        let metrics = scrape(port);
        assert!(metrics.sum("process_resident_memory_bytes", &[]) > 1e6);
        assert_eq!(metrics.sum("forebay_build_info", &[]), 1.0);
        // Reading it twice changes nothing but what the reading itself counts.
        assert_eq!(scrape(port).types, metrics.types);
    }
    assert_eq!(http(ports.workers[0], "GET", "/wat", "").status, 404);

    let master = scrape(ports.master);
    assert_eq!(master.sum("forebay_master_request_seconds_count", &[("op", "Mount")]), 1.0);
    assert!(master.sum("forebay_master_request_seconds_count", &[("op", "OpenRead")]) >= 1.0);
    assert!(master.sum("forebay_master_journal_sync_seconds_count", &[]) >= 1.0);
    assert!(master.sum("forebay_master_apply_seconds_count", &[]) >= 1.0);
    assert!(master.sum("forebay_master_store_seconds_count", &[("call", "stat")]) >= 1.0);
    assert!(master.sum("forebay_master_store_calls_total", &[("mount", "/data")]) >= 1.0);
    assert_eq!(master.sum("forebay_master_mounts", &[]), 1.0);
    assert_eq!(master.sum("forebay_master_workers", &[("state", "live")]), 1.0);
    assert!(master.sum("forebay_net_connections", &[]) >= 2.0);
    let worker = scrape(ports.workers[0]);
    let served = worker.sum("forebay_worker_read_bytes_total", &[]);
    assert!(served >= FILE_BYTES as f64, "{served}");
    assert!(worker.sum("forebay_worker_read_seconds_count", &[("source", "store")]) >= 1.0);
    assert_eq!(worker.sum("forebay_worker_store_read_bytes_total", &[]), FILE_BYTES as f64);
    assert!(worker.sum("forebay_worker_fetch_seconds_count", &[]) >= 1.0);
    assert_eq!(worker.sum("forebay_worker_requests_in_flight", &[]), 0.0);
    assert!(worker.sum("forebay_worker_tier_capacity_bytes", &[("tier", "SSD")]) > 0.0);
    let fuse = scrape(ports.fuse);
    assert!(fuse.sum("forebay_fuse_read_bytes_total", &[]) >= FILE_BYTES as f64);
    assert!(fuse.sum("forebay_fuse_op_seconds_count", &[("op", "lookup")]) >= 2.0);
    assert!(fuse.sum("forebay_fuse_errors_total", &[("errno", "ENOENT")]) >= 1.0);
    assert_eq!(fuse.sum("forebay_client_read_bytes_total", &[]), served);

    log_filters(&mut cluster);
    audit(&cluster);
}

fn log_filters(cluster: &mut Cluster) {
    let cli = cluster.cli();
    let shown = cli.ok(&["admin", "log-level"]);
    assert_eq!(shown.lines().filter(|line| line.trim_end().ends_with("info")).count(), 2, "{shown}");
    cli.ok(&["admin", "log-level", "worker", "forebay_worker=debug,info"]);
    let shown = cli.ok(&["admin", "log-level", "all", "--json"]);
    assert!(shown.contains("\"forebay_worker=debug,info\"") && shown.contains("\"info\""), "{shown}");
    let refused = cli.run(&["admin", "log-level", "all", "forebay=wat=x"]);
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("log.level: got"), "{}", refused.stderr);
    // A mount is no server: it reads its configuration again.
    let text = std::fs::read_to_string(cluster.config()).expect("the configuration");
    std::fs::write(cluster.config(), format!("{text}\n[log]\nlevel = \"debug\"\n")).expect("written");
    cluster.fuse.as_ref().expect("it runs").signal(rustix::process::Signal::HUP);
    let fuse = cluster.fuse.as_mut().expect("it runs");
    fuse.wait_for_log("log.level is \"debug\" now, it was \"info\"", Duration::from_secs(10));
}

fn audit(cluster: &Cluster) {
    let cli = cluster.cli();
    let folder = cluster.store("more");
    let uri = format!("file://{}", folder.display());
    cli.ok(&["fs", "mount", "/more", &uri]);
    cli.ok(&["fs", "unmount", "/more"]);
    cli.ok(&["fs", "load", "-R", "/data"]);
    let refused = cli.run(&["fs", "mount", "--option", &format!("secret_key={SECRET}"), "/data", &uri]);
    assert_ne!(refused.code, 0);
    let path = cluster.folder().join("audit.log");
    let text = eventually("the audit log", Duration::from_secs(5), || {
        std::fs::read_to_string(&path).ok().filter(|text| text.contains("refused"))
    });
    let line = |words: &[&str]| text.lines().find(|line| words.iter().all(|word| line.contains(word)));
    for words in [
        &["Mount", "Admin", "/more", "outcome=\"done\""][..],
        &["Unmount", "/more", "outcome=\"done\""],
        &["Mount", "/data", "refused"],
        &["RegisterWorker", "Worker", "done"],
        &["SubmitJob", "load /data for ", "done"],
        &["LogLevel", "wat", "refused"],
    ] {
        assert!(line(words).is_some(), "no line with {words:?} in\n{text}");
    }
    assert!(!text.contains(SECRET) && !cluster.logs().contains(SECRET), "a secret in a log");
}

//! What operators ask of a cluster and its host: parts of the report, the doctor, a tarball for a bug report.

use forebay_tests::{Cluster, Options};
use std::process::Command;

#[test]
fn doctor_and_collect() {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() }.with_s3());
    cluster.s3.as_ref().expect("it was asked for").bucket("data").put("x", b"x").expect("stored");
    cluster.mount_s3("/s3", "data", &[]);
    let cli = cluster.cli();

    let output = cli.run(&["admin", "doctor", "--no-speed", "--json", "--role", "master", "--role", "worker"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(said["ok"].as_bool(), Some(output.code == 0), "{said}");
    assert_eq!(said["roles"], serde_json::json!(["master", "worker"]));
    let checks = said["checks"].as_array().expect("checks");
    assert!(checks.len() > 5, "{said}");
    for check in checks.iter().filter(|check| check["state"] == "failure") {
        assert!(check["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "no way to mend: {check}");
    }
    let text = cli.run(&["admin", "doctor", "--no-speed"]);
    assert!(text.text().lines().last().is_some_and(|line| line.contains("to mend")), "{text:?}");
    cli.run(&["admin", "doctor", "--role", "nurse"]).assert_refused(&[2], &["nurse", "worker"]);

    let tarball = cluster.folder().join("collected.tar.gz");
    let path = tarball.display().to_string();
    assert!(cli.ok(&["admin", "collect", "--output", &path]).contains("secrets left out"));
    let listed = Command::new("tar").arg("-tzf").arg(&tarball).output().expect("tar runs");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in ["/configuration.toml", "/doctor.json", "/report.json", "/contents.txt"] {
        assert!(names.contains(name), "{name} is not in {names}");
    }
    cli.run(&["admin", "collect", "--output", "/proc/none/x.tar.gz"]).assert_refused(&[1], &["/proc/none/x.tar.gz"]);
}

#[test]
fn parts_of_the_report() {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() });
    let cli = cluster.cli();
    for (part, has, lacks) in [
        ("capacity", "TIER", "FROM STORES"),
        ("metrics", "FROM STORES", "TIER"),
        ("mounts", "no mounts", "TIER"),
        ("jobs", "no job runs", "TIER"),
    ] {
        let text = cli.ok(&["admin", "report", part]);
        assert!(text.contains(has) && !text.contains(lacks), "{part}: {text}");
    }
    let jobs = cli.json(&["admin", "report", "jobs", "--json"]);
    assert_eq!((&jobs["jobs"], jobs.get("workers")), (&serde_json::json!([]), None), "{jobs}");
    cli.run(&["admin", "report", "weather"]).assert_refused(&[2], &["weather", "capacity"]);
}

//! `forebay admin doctor` and `admin collect` against a real cluster: each trouble that is made here must be found, by its
//! name, with how to mend it; and no secret leaves the host in the tarball.

use forebay_tests::{Cluster, LoopDisk, Options, SECRET_KEY, binary, free_port};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

const SECRET: &str = "the secret of this test cluster, long enough";

/// Runs the doctor with a shell's limits and more settings; gives its exit code and its checks.
fn doctor(config: &Path, limits: &str, more: &[&str]) -> (i32, Vec<Value>) {
    let mut command = Command::new("/bin/sh");
    command.arg0("sh").args(["-c", &format!("{limits} exec \"$@\""), "sh"]).arg(binary("forebay"));
    command.arg("--config").arg(config).args(["admin", "doctor", "--json", "--no-speed"]).args(more);
    let output = command.output().expect("a shell");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().unwrap_or(-1), value["checks"].as_array().expect("an array").clone())
}

fn states<'a>(checks: &'a [Value], state: &str) -> Vec<&'a str> {
    checks.iter().filter(|check| check["state"] == state).filter_map(|check| check["check"].as_str()).collect()
}

/// Asserts that `name` has `state`, and says how to mend it, naming `word`.
fn expect(checks: &[Value], name: &str, state: &str, word: &str) {
    let check = checks.iter().find(|check| check["check"] == name);
    let check = check.unwrap_or_else(|| panic!("no check {name} in {checks:?}"));
    assert_eq!(check["state"], state, "{check}");
    if state != "ok" {
        assert!(check["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{check}");
        assert!(check["wanted"].as_str().is_some_and(|wanted| !wanted.is_empty()), "{check}");
    }
    assert!(check.to_string().contains(word), "want \"{word}\" in {check}");
}

#[test]
fn troubles_are_found_by_name() {
    let cluster = Cluster::start(Options { secret: true, ..Options::default() });
    let config = cluster.config();
    let folder = cluster.store("data");
    std::fs::write(folder.join("x"), b"x").expect("space");
    cluster.mount_local("/data", &folder, &[]);

    let (code, checks) = doctor(&config, "", &[]);
    assert_eq!((code, states(&checks, "failure")), (0, vec![]), "a healthy cluster: {checks:?}");
    for name in ["host.io-uring", "worker.registered", "fuse.mount", "cluster.clock", "secret.usable"] {
        expect(&checks, name, "ok", "");
    }
    expect(&checks, "worker.ssd[0].direct-io", "ok", "O_DIRECT");
    let text = cluster.cli().run(&["admin", "doctor"]);
    assert!(text.code == 0 && text.text().contains("0 to mend"), "{text:?}");
    assert!(text.text().contains("worker.ssd[0].speed"), "the disk is measured: {text:?}");

    // A wrong secret.
    let wrong = cluster.folder().join("wrong-secret");
    std::fs::write(&wrong, "another secret, which is long enough too").expect("space");
    let set = format!("cluster.secret_file={}", wrong.display());
    let (code, checks) = doctor(&config, "", &["--set", &set]);
    assert_eq!(code, 1, "{checks:?}");
    let master = states(&checks, "failure").into_iter().find(|name| name.starts_with("master.")).expect("it is found");
    expect(&checks, master, "failure", "secret");
    expect(&checks, "secret.mode", "failure", "0644");

    // A master that is not there.
    let away = format!("127.0.0.1:{}", free_port());
    let (code, checks) = doctor(&config, "", &["--set", &format!("cluster.masters={away}")]);
    assert_eq!(code, 1);
    expect(&checks, &format!("master.{away}"), "failure", "start it");

    // A port that a stranger holds: this test.
    let stranger = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = stranger.local_addr().expect("bound").to_string();
    let (code, checks) = doctor(&config, "", &["--set", &format!("master.listen={address}")]);
    assert_eq!(code, 1);
    expect(&checks, &format!("port.{address}"), "failure", &std::process::id().to_string());

    // A tier that is no directory, and one in memory.
    let file = cluster.folder().join("file");
    std::fs::write(&file, b"").expect("space");
    let (code, checks) = doctor(&config, "", &["--set", &format!("worker.ssd={}=1GiB", file.display())]);
    assert_eq!(code, 1);
    expect(&checks, "worker.ssd[0].usable", "failure", "no directory");
    let (_, checks) = doctor(&config, "", &["--set", "worker.ssd=/dev/shm/forebay-doctor-test=64MiB"]);
    expect(&checks, "worker.ssd[0].file-system", "warning", "tmpfs");
    let direct = checks.iter().find(|check| check["check"] == "worker.ssd[0].direct-io").expect("looked at");
    assert!(direct["state"] == "ok" || direct["mend"].is_string(), "{direct}");

    // The limits of this shell count for a worker that does not run: another configuration file.
    let copy = cluster.folder().join("copy.toml");
    std::fs::copy(&config, &copy).expect("space");
    let (code, checks) = doctor(&copy, "ulimit -l 64;", &["--role", "worker"]);
    assert_eq!(code, 1);
    expect(&checks, "worker.memlock", "failure", "LimitMEMLOCK");
    let (code, checks) = doctor(&copy, "ulimit -n 200;", &["--role", "worker"]);
    assert_eq!(code, 1);
    expect(&checks, "worker.open-files", "failure", "LimitNOFILE");

    let bad = cluster.cli().run(&["admin", "doctor", "--role", "nobody"]);
    bad.assert_refused(&[2], &["nobody"]);
}

#[test]
fn full_and_unwritable_disks_are_found() {
    let disk = LoopDisk::mount(64 << 20);
    let cache = disk.path().join("cache");
    std::fs::create_dir(&cache).expect("a directory");
    let mut filler = std::fs::File::create(disk.path().join("filler")).expect("a file");
    // Until the disk is full.
    let _ = std::io::copy(&mut std::io::repeat(1), &mut filler);
    let config = disk.path().with_extension("toml");
    std::fs::write(&config, format!("[worker]\nssd = [\"{}=1GiB\"]\n", cache.display())).expect("space");
    let (code, checks) = doctor(&config, "", &["--role", "worker"]);
    assert_eq!(code, 1);
    expect(&checks, "worker.ssd[0].space", "failure", "lower the capacity");
    drop(filler);

    // A read-only remount is one that root cannot write either.
    let status = Command::new("mount").args(["-o", "remount,ro"]).arg(disk.path()).status().expect("mount runs");
    assert!(status.success(), "remount");
    let (code, checks) = doctor(&config, "", &["--role", "worker"]);
    assert_eq!(code, 1);
    expect(&checks, "worker.ssd[0].writable", "failure", "read-write");
    std::fs::remove_file(&config).expect("it is there");
    drop(disk);
}

/// Every file of the unpacked tarball, as (name, text).
fn unpack(tarball: &Path, folder: &Path) -> Vec<(String, String)> {
    let status = Command::new("tar").arg("-xzf").arg(tarball).arg("-C").arg(folder).status().expect("tar runs");
    assert!(status.success(), "the tarball unpacks");
    let top = std::fs::read_dir(folder).expect("there").flatten().next().expect("one directory").path();
    let files = std::fs::read_dir(top).expect("there").flatten();
    files
        .map(|file| {
            let bytes = std::fs::read(file.path()).expect("readable");
            (file.file_name().to_string_lossy().into_owned(), String::from_utf8_lossy(&bytes).into_owned())
        })
        .collect()
}

#[test]
fn bug_report_holds_no_secret() {
    let cluster = Cluster::start(Options { secret: true, ..Options::default().with_s3() });
    cluster.s3.as_ref().expect("asked for").bucket("logs").put("k", b"x").expect("stored");
    cluster.mount_s3("/s3", "logs", &[]);
    // What must never happen, a secret in a log, must not get out either.
    let mut log = std::fs::File::options().append(true).open(cluster.folder().join("master.log")).expect("a log");
    std::io::Write::write_all(
        &mut log,
        format!("leaked {SECRET} and secret_key={SECRET_KEY} end-of-leak\n").as_bytes(),
    )
    .expect("space");
    let tarball = cluster.folder().join("report.tar.gz");
    let said = cluster.cli().ok(&["admin", "collect", "--output", tarball.to_str().expect("ASCII")]);
    for name in ["configuration.toml", "doctor.json", "report.json", "log-master.txt", "log-worker.txt", "host.txt"] {
        assert!(said.contains(name), "{name} in:\n{said}");
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&tarball.metadata().expect("there"));
    assert_eq!(mode & 0o777, 0o600);
    let unpacked = cluster.folder().join("unpacked");
    std::fs::create_dir(&unpacked).expect("a directory");
    let files = unpack(&tarball, &unpacked);
    let text = |name: &str| files.iter().find(|(file, _)| file == name).map_or("", |(_, text)| text.as_str());
    assert!(text("log-master.txt").contains("end-of-leak") && text("log-master.txt").contains("***"), "{files:?}");
    assert!(text("log-worker.txt").contains("worker ready"));
    assert!(text("report.json").contains("s3://logs") && text("directories.txt").contains("cluster.json"));
    for (name, text) in &files {
        for secret in [SECRET, SECRET_KEY] {
            assert!(!text.contains(secret), "{name} holds a secret");
        }
    }

    let output = cluster.cli().run(&["admin", "collect", "--output", "/nonexistent/x.tar.gz"]);
    output.assert_refused(&[1], &["/nonexistent/x.tar.gz"]);
}

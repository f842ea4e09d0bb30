//! Wrong input of every kind: one line that says what is wrong, the documented exit code, and nothing half-done.

use forebay_tests::{CliOutput, Cluster, Options, Pattern, free_port};
use std::process::Command;
use std::time::Duration;

fn mounts(cluster: &Cluster) -> String {
    cluster.cli().ok(&["fs", "mounts", "--json"])
}

/// Arguments before the path, path, URI, the exit codes allowed, a word of the message.
type Case<'a> = (Vec<&'a str>, &'a str, &'a str, &'a [i32], &'a str);

#[test]
fn mounts_that_cannot_be() {
    let cluster = Cluster::start(Options::default().with_s3());
    let s3 = cluster.s3.as_ref().expect("it was asked for");
    s3.bucket("good").put("a/b", b"x").expect("stored");
    let folder = cluster.store("local");
    std::fs::create_dir(folder.join("inside")).expect("a directory");
    std::fs::write(folder.join("file"), b"x").expect("a file");
    cluster.mount_local("/data/local", &folder, &[]);
    let before = mounts(&cluster);
    let local_uri = format!("file://{}", folder.display());
    let missing = format!("file://{}/nothing-here", folder.display());
    let is_file = format!("file://{}/file", folder.display());
    let away = format!("endpoint=http://127.0.0.1:{}", free_port());
    let options = s3.mount_options();
    let good: Vec<&str> = options.iter().map(String::as_str).collect();
    let with = |more: &[&'static str]| -> Vec<&str> { good.iter().copied().chain(more.iter().copied()).collect() };
    // Later options win, so that one wrong one can be put behind the good ones.
    let cases: Vec<Case<'_>> = vec![
        (vec![], "/x", "not a uri", &[2], "not a uri"),
        (vec![], "/x", "ftp://host/path", &[2], "ftp"),
        (vec![], "/x", "s3://", &[2], "s3://"),
        (vec![], "/x", "file://relative/path", &[2], "file://relative"),
        (vec![], "/x", &missing, &[1, 3], "nothing-here"),
        (vec![], "/x", &is_file, &[1, 2], "file"),
        (vec![], "relative", &local_uri, &[2], "relative"),
        (vec![], "/a/../b", &local_uri, &[2], "/a/../b"),
        (with(&[]), "/x", "s3://no-such-bucket", &[1, 3], "no-such-bucket"),
        (with(&["--option", "acces_key=typo"]), "/x", "s3://good", &[2], "acces_key"),
        (with(&["--option", "deadline=soon"]), "/x", "s3://good", &[2], "deadline"),
        (with(&["--option", "novalue"]), "/x", "s3://good", &[2], "novalue"),
        (with(&["--freshness", "soon"]), "/x", "s3://good", &[2], "soon"),
        (vec![], "/data/local", &local_uri, &[1], "/data/local"),
        (vec![], "/data/local/inside/deeper", &local_uri, &[1, 2], "/data/local"),
        (vec![], "/data", &local_uri, &[1, 2], "/data"),
        (vec![], "/", &local_uri, &[1, 2], "/"),
    ];
    for (more, path, uri, codes, word) in cases {
        let arguments: Vec<&str> = [&["fs", "mount"], more.as_slice(), &[path, uri]].concat();
        let output = cluster.cli().run(&arguments);
        output.assert_refused(codes, &[word]);
        assert!(!output.stderr.contains(forebay_tests::SECRET_KEY), "a secret is shown: {output:?}");
        assert_eq!(mounts(&cluster), before, "{output:?} changed the mounts");
    }
    let keys = |access: &str, secret: &str, endpoint: &str| -> CliOutput {
        let pairs = [
            endpoint.to_string(),
            "region=us-east-1".into(),
            "path_style=true".into(),
            format!("access_key={access}"),
            format!("secret_key={secret}"),
            "deadline=3s".into(),
        ];
        let options: Vec<&str> = pairs.iter().flat_map(|pair| ["--option", pair.as_str()]).collect();
        cluster.cli().run(&[&["fs", "mount"], options.as_slice(), &["/x", "s3://good"]].concat())
    };
    let endpoint = format!("endpoint={}", s3.endpoint());
    keys("nobody", forebay_tests::SECRET_KEY, &endpoint).assert_refused(&[5], &["s3://good"]);
    let output = keys(forebay_tests::ACCESS_KEY, "a-wrong-secret", &endpoint);
    output.assert_refused(&[5], &["s3://good"]);
    assert!(!output.stderr.contains("a-wrong-secret"), "a secret is shown: {output:?}");
    let output = keys(forebay_tests::ACCESS_KEY, forebay_tests::SECRET_KEY, &away);
    output.assert_refused(&[1], &["s3://good"]);
    assert!(output.took < Duration::from_secs(6), "an endpoint that is not there took {:?}", output.took);
    s3.hang();
    let output = keys(forebay_tests::ACCESS_KEY, forebay_tests::SECRET_KEY, &endpoint);
    s3.go_on();
    output.assert_refused(&[1], &["s3://good"]);
    assert!(output.took < Duration::from_secs(6), "an endpoint that hangs took {:?}", output.took);
    assert_eq!(mounts(&cluster), before);
    assert!(!cluster.mountpoint().join("x").exists(), "a refused mount left its path");
    cluster.mount_s3("/x", "good", &[]);
    assert_eq!(std::fs::read(cluster.mountpoint().join("x/a/b")).expect("the right keys work"), b"x");
    let shown = mounts(&cluster) + &cluster.cli().ok(&["fs", "mounts"]);
    assert!(!shown.contains(forebay_tests::SECRET_KEY), "a secret is shown: {shown}");
}

#[test]
fn unmounts_that_cannot_be() {
    let cluster = Cluster::start(Options::default());
    let folder = cluster.store("data");
    Pattern(1).write(&folder.join("f"), 1 << 20).expect("space");
    cluster.mount_local("/data", &folder, &[]);
    let before = mounts(&cluster);
    cluster.cli().run(&["fs", "unmount", "/nothing"]).assert_refused(&[3], &["/nothing"]);
    cluster.cli().run(&["fs", "unmount", "/data/f"]).assert_refused(&[2, 3], &["/data/f"]);
    let path = cluster.mountpoint().join("data/f");
    let open = std::fs::File::open(&path).expect("it opens");
    // The FUSE process tells the master what is open within 5 s.
    std::thread::sleep(Duration::from_secs(6));
    cluster.cli().run(&["fs", "unmount", "/data"]).assert_refused(&[1], &["/data", "open"]);
    assert_eq!(mounts(&cluster), before);
    Pattern(1).check(&path, 1 << 20).expect("it still reads");
    drop(open);
    forebay_tests::eventually("the file to be let go", Duration::from_secs(20), || {
        (cluster.cli().run(&["fs", "unmount", "/data"]).code == 0).then_some(())
    });
    assert_eq!(mounts(&cluster).trim(), "[]");
    cluster.mount_local("/data", &folder, &[]);
    let _open = std::fs::File::open(&path).expect("it opens");
    cluster.cli().ok(&["fs", "unmount", "--force", "/data"]);
}

#[test]
fn paths_and_words_that_are_not() {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() });
    let folder = cluster.store("data");
    std::fs::write(folder.join("f"), b"x").expect("a file");
    cluster.mount_local("/data", &folder, &[]);
    let cli = cluster.cli();
    for verb in ["ls", "stat", "cat", "load", "free"] {
        cli.run(&["fs", verb, "/data/nothing"]).assert_refused(&[1, 3], &["/data/nothing"]);
        cli.run(&["fs", verb, "relative"]).assert_refused(&[2], &["relative"]);
    }
    cli.run(&["fs", "cat", "/data"]).assert_refused(&[1], &["/data"]);
    cli.run(&["fs", "wat"]).assert_refused(&[2], &["wat"]);
    cli.run(&["wat"]).assert_refused(&[2], &["wat"]);
    cli.run(&["--set", "worker.weight=x", "fs", "ls", "/"]).assert_refused(&[2], &["worker.weight", "x"]);
}

#[test]
fn clusters_that_are_not_there_or_not_ours() {
    let cluster = Cluster::start(Options { fuse: false, secret: true, ..Options::default() });
    let cli = cluster.cli();
    cli.ok(&["fs", "mounts"]);
    let other = cluster.folder().join("other-secret");
    std::fs::write(&other, "another secret altogether, also long").expect("a file");
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("an own file");
    let set = format!("cluster.secret_file={}", other.display());
    cli.run(&["--set", &set, "fs", "mounts"]).assert_refused(&[5], &["secret"]);
    cli.run(&["--set", "cluster.secret_file=", "fs", "mounts"]).assert_refused(&[5], &["secret"]);
    cli.run(&["--set", "cluster.secret_file=/nothing/here", "fs", "mounts"])
        .assert_refused(&[1, 2], &["/nothing/here"]);
    let away = format!("cluster.masters=127.0.0.1:{}", free_port());
    let output = cli.run(&["--set", &away, "--set", "cluster.rpc_timeout=1s", "fs", "mounts"]);
    output.assert_refused(&[4], &["127.0.0.1"]);
    assert!(output.took < Duration::from_secs(15), "{:?}", output.took);
}

/// Runs a role that must refuse to start.
fn refused(cluster: &Cluster, role: &str, sets: &[&str], code: i32, words: &[&str]) {
    let config = cluster.config().display().to_string();
    let mut arguments = vec!["--config", config.as_str()];
    for set in sets {
        arguments.extend(["--set", set]);
    }
    // `timeout` so that a role that starts after all ends the test with a message.
    let mut command = Command::new("timeout");
    command.arg("20").arg(forebay_tests::binary(&format!("forebay-{role}"))).args(&arguments);
    let output = command.output().expect("timeout(1) runs");
    let output = CliOutput {
        command: format!("forebay-{role} {}", arguments.join(" ")),
        code: output.status.code().unwrap_or(-1),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        took: Duration::ZERO,
    };
    assert_eq!(output.code, code, "{output:?}");
    // Log lines may come before; the error is the one line that is none.
    let errors: Vec<&str> = output.stderr.lines().filter(|line| !is_log_line(line)).collect();
    assert!(errors.len() == 1, "want one error line: {output:?}");
    for word in words {
        assert!(errors[0].contains(word), "want \"{word}\" in: {output:?}");
    }
}

fn is_log_line(line: &str) -> bool {
    line.len() > 20 && line.as_bytes()[4] == b'-' && line.as_bytes()[10] == b'T'
}

#[test]
fn roles_that_cannot_start() {
    let cluster = Cluster::start(Options::default());
    let text = std::fs::read_to_string(cluster.config()).expect("the configuration");
    let value = |section: &str, key: &str| -> String {
        let part = &text[text.find(&format!("[{section}]")).expect("the section")..];
        let line = part.lines().find(|line| line.starts_with(&format!("{key} = "))).expect("the key");
        line.split_once(" = ").expect("it has a value").1.trim_matches('"').to_string()
    };
    let at = |name: &str| cluster.folder().join(name).display().to_string();
    let (master_dir, worker_dir, cache) = (at("m2"), at("w2"), at("c2"));
    let master_port = value("master", "listen");
    let worker_port = value("worker", "listen");
    let new_master = format!("master.dir={master_dir}");
    let new_worker = [format!("worker.dir={worker_dir}"), format!("worker.ssd={cache}=64MiB")];
    let free = format!("127.0.0.1:{}", forebay_tests::free_ports(2));

    refused(&cluster, "master", &[&new_master], 1, &[&master_port]);
    refused(&cluster, "worker", &[&new_worker[0], &new_worker[1]], 1, &[&worker_port]);
    // Directories that are in use, although the port is free.
    let other_port = format!("master.listen={free}");
    refused(&cluster, "master", &[&other_port], 1, &[&at("master")]);
    let other_port = format!("worker.listen={free}");
    refused(&cluster, "worker", &[&other_port], 1, &[cluster.folder().to_str().expect("ASCII")]);
    // Directories that cannot be written, by root either.
    refused(&cluster, "master", &["master.dir=/proc/forebay", "master.listen=127.0.0.1:1"], 1, &["/proc/forebay"]);
    let listen = format!("worker.listen={free}");
    refused(&cluster, "worker", &[&listen, "worker.dir=/proc/forebay", &new_worker[1]], 1, &["/proc/forebay"]);
    refused(&cluster, "worker", &[&listen, &new_worker[0], "worker.ssd=/proc/forebay=64MiB"], 1, &["/proc/forebay"]);
    // A mountpoint that is no directory.
    let file = cluster.config().display().to_string();
    refused(&cluster, "fuse", &[&format!("fuse.mountpoint={file}")], 1, &[&file]);
    // A live mount stays with whom it serves.
    std::fs::read_dir(cluster.mountpoint()).expect("the mount still serves").for_each(drop);
    for role in ["master", "worker", "fuse"] {
        refused(&cluster, role, &["worker.wieght=3"], 2, &["worker.wieght"]);
        refused(&cluster, role, &["worker.mem_capacity=lots"], 2, &["worker.mem_capacity", "lots"]);
    }
    let open_bind = "worker.listen=0.0.0.0:7500";
    refused(&cluster, "worker", &[open_bind], 2, &["worker.listen", "cluster.secret_file"]);
    cluster.cli().ok(&["admin", "report"]);
}

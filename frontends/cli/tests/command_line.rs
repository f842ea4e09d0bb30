//! `forebay` as a process, without a cluster: what it refuses, in one line, with which exit code.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn forebay(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    for (name, _) in std::env::vars() {
        if name.starts_with("FOREBAY_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).env("HOME", home).stdin(Stdio::null()).output().expect("forebay runs")
}

/// The one line on standard error, after its exit code was checked.
fn refusal(output: &Output, code: i32) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert!(text.starts_with("forebay: ") && text.lines().count() == 1, "want one line: {text}");
    text
}

#[test]
fn bad_usage_is_one_line_and_code_2() {
    let home = tempfile::tempdir().expect("a directory");
    for (arguments, want) in [
        (&["fs", "mount", "/a"][..], "<URI>"),
        (&["fs", "mount", "--option", "novalue", "/a", "s3://b"], "want key=value"),
        (&["fs", "mount", "--freshness", "30", "/a", "s3://b"], "30s"),
        (&["fs", "frobnicate"], "frobnicate"),
        (&["up", "--port-base", "70000"], "70000"),
        (&["--config", "/nonexistent/x.toml", "fs", "ls"], "/nonexistent/x.toml"),
        (&["--set", "cluster.rpc_timout=1s", "fs", "ls"], "want cluster.rpc_timeout?"),
        (&["--set", "cluster.rpc_timeout=soon", "fs", "ls"], "got \"soon\""),
        (&["--set", "cluster.masters=nowhere", "fs", "ls"], "host:port"),
    ] {
        let line = refusal(&forebay(home.path(), arguments), 2);
        assert!(line.contains(want), "{arguments:?}: {line}");
    }
}

#[test]
fn every_problem_of_a_configuration_is_a_line() {
    let home = tempfile::tempdir().expect("a directory");
    let file = home.path().join("forebay.toml");
    std::fs::write(&file, "[worker]\nweight = 0\neviction = \"fifo\"\n").expect("written");
    let output = forebay(home.path(), &["--config", file.to_str().expect("UTF-8"), "admin", "report"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text.lines().count(), 2, "{text}");
    assert!(text.lines().all(|line| line.starts_with("forebay: ") && line.contains("want ")), "{text}");
}

#[test]
fn help_and_version_are_on_standard_output() {
    let home = tempfile::tempdir().expect("a directory");
    let help = forebay(home.path(), &["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Exit codes:"));
    let version = forebay(home.path(), &["--version"]);
    assert_eq!(String::from_utf8_lossy(&version.stdout).trim(), format!("forebay {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(forebay(home.path(), &[]).status.code(), Some(2));
}

#[test]
fn cluster_that_is_not_there_is_code_4() {
    let home = tempfile::tempdir().expect("a directory");
    // Bound and dropped: nobody listens there.
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let masters = format!("cluster.masters=127.0.0.1:{port}");
    let output = forebay(home.path(), &["--set", &masters, "--set", "cluster.rpc_timeout=500ms", "fs", "ls", "/"]);
    let line = refusal(&output, 4);
    assert!(line.contains(&port.to_string()) && line.contains("forebay up"), "{line}");
}

#[test]
fn role_without_its_binary_says_where_it_was_looked_for() {
    let home = tempfile::tempdir().expect("a directory");
    let alone = home.path().join("forebay");
    std::fs::copy(env!("CARGO_BIN_EXE_forebay"), &alone).expect("copied");
    let output = Command::new(&alone).args(["master", "--print-config"]).output().expect("it runs");
    let line = refusal(&output, 1);
    assert!(line.contains("forebay-master: not there"), "{line}");
}

#[test]
fn up_refuses_a_taken_port_before_it_writes_anything() {
    let home = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("bound").port().to_string();
    let dir = home.path().join("cluster");
    let output = forebay(home.path(), &["up", "--dir", dir.to_str().expect("UTF-8"), "--port-base", &port]);
    // Ports above 65000 are refused as an argument: the worker's ports would not fit.
    let code = if port.parse::<u16>().expect("a port") > 65_000 { 2 } else { 1 };
    let line = refusal(&output, code);
    assert!(line.contains(&port), "{line}");
    assert!(!dir.join("forebay.toml").exists(), "a refused up leaves no configuration");
}

#[test]
fn up_shows_the_log_of_a_role_that_fails_and_stops_what_it_started() {
    let home = tempfile::tempdir().expect("a directory");
    let forebay_here = home.path().join("forebay");
    std::fs::copy(env!("CARGO_BIN_EXE_forebay"), &forebay_here).expect("copied");
    for role in ["master", "worker", "fuse"] {
        let script = home.path().join(format!("forebay-{role}"));
        std::fs::write(&script, "#!/bin/sh\necho \"the disk is on fire: $*\" >&2\nexit 1\n").expect("written");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("changed");
    }
    let dir = home.path().join("cluster");
    let base = free_port_base();
    let output = Command::new(&forebay_here)
        .args(["up", "--dir", dir.to_str().expect("UTF-8"), "--port-base", &base.to_string()])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("up: master: it ended") && text.contains("the disk is on fire: --config /"), "{text}");
    assert!(!dir.join("run/master.pid").exists());

    let other = (base + 1).to_string();
    let again = forebay(home.path(), &["up", "--dir", dir.to_str().expect("UTF-8"), "--port-base", &other]);
    assert!(refusal(&again, 2).contains("already says master.listen"));
    let down = forebay(home.path(), &["down", "--dir", dir.to_str().expect("UTF-8")]);
    assert!(down.status.success());
    assert_eq!(String::from_utf8_lossy(&down.stdout).matches("not running").count(), 3);
}

#[test]
fn down_without_a_cluster_says_so() {
    let home = tempfile::tempdir().expect("a directory");
    let line = refusal(&forebay(home.path(), &["down", "--dir", "/nonexistent/forebay"]), 1);
    assert!(line.contains("/nonexistent/forebay"), "{line}");
}

#[test]
fn reader_that_leaves_is_no_error() {
    let home = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["--help"])
        .env("HOME", home.path())
        .stdout(closed_pipe())
        .stderr(Stdio::piped())
        .spawn()
        .expect("forebay runs");
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}");
}

fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

/// A base whose ports for the master, HTTP and the worker are free now.
fn free_port_base() -> u16 {
    (20_000..60_000)
        .step_by(317)
        .find(|base| (0..60).map(|n| base + 80 + n).chain([*base]).all(|p| TcpListener::bind(("127.0.0.1", p)).is_ok()))
        .expect("some ports are free")
}

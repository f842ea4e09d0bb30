//! Every verb that reads the namespace, on a real cluster: its good case, its wrong input, and what programs get.

use forebay_tests::{Cli, Cluster, Options, Pattern};
use serde_json::Value;

/// Bytes of each file of `/s3/dir`.
const SIZE: u64 = 2_500_000;

fn prepared() -> Cluster {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() }.with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    for index in 0..3 {
        bucket.put(&format!("dir/f{index}.bin"), &Pattern(index).bytes(SIZE as usize)).expect("stored");
    }
    bucket.put("dir/sub/empty", b"").expect("stored");
    let lines: String = (1..=20).map(|line| format!("line {line}\n")).collect();
    bucket.put("lines.txt", lines.as_bytes()).expect("stored");
    bucket.put(".hidden", b"x").expect("stored");
    cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
    cluster
}

fn lines(cli: &Cli, arguments: &[&str]) -> Vec<Value> {
    let text = cli.ok(arguments);
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn names(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_whitespace().last()).collect()
}

#[test]
fn listings() {
    let cluster = prepared();
    let cli = cluster.cli();
    cli.ok(&["fs", "load", "/s3/dir/f1.bin"]);
    assert_eq!(names(&cli.ok(&["fs", "ls", "/s3/dir/"])), ["f0.bin", "f1.bin", "f2.bin", "sub/"]);
    let by_cache = cli.ok(&["fs", "ls", "-l", "--sort=cached", "/s3/dir"]);
    assert_eq!(names(&by_cache)[0], "f1.bin", "{by_cache}");
    assert!(by_cache.lines().next().is_some_and(|line| line.contains("100%")), "{by_cache}");
    assert!(by_cache.contains("0.0%"), "{by_cache}");
    assert_eq!(names(&cli.ok(&["fs", "ls", "-r", "/s3/dir"]))[0], "sub/");
    assert_eq!(names(&cli.ok(&["fs", "ls", "-R", "--sort=size", "-r", "/s3"])).last(), Some(&"/s3/dir/f0.bin"));
    assert_eq!(names(&cli.ok(&["fs", "ls", "-d", "/s3/dir"])), ["/s3/dir/"]);
    assert_eq!(names(&cli.ok(&["fs", "ls", "/s3/dir/f?.bin"])), ["f0.bin", "f1.bin", "f2.bin"]);
    assert_eq!(names(&cli.ok(&["fs", "ls", "-d", "/s3/*"])), ["/s3/dir/", "/s3/lines.txt"], "no hidden names");
    let exact = cli.ok(&["fs", "ls", "--timestamp", "/s3/lines.txt"]);
    assert!(exact.contains('T') && exact.contains(".000Z"), "{exact}");
    let json = cli.json(&["fs", "ls", "-l", "--json", "/s3/dir"]);
    assert_eq!(json[1]["cached"]["any_bytes"].as_u64(), Some(SIZE), "{json}");
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    bucket.put("dir/new", b"new").expect("stored");
    assert!(!cli.ok(&["fs", "ls", "/s3/dir"]).contains("new"), "the mount is fresh for an hour");
    assert!(cli.ok(&["fs", "ls", "-f", "/s3/dir"]).contains("new"), "the store was asked");
    cli.run(&["fs", "ls", "--sort=colour", "/s3"]).assert_refused(&[2], &["colour", "cached"]);
    cli.run(&["fs", "ls", "/s3/none*"]).assert_refused(&[3], &["/s3/none*", "no path matches"]);
}

#[test]
fn attributes() {
    let cluster = prepared();
    let cli = cluster.cli();
    cli.ok(&["fs", "load", "/s3/dir/f0.bin"]);
    let text = cli.ok(&["fs", "stat", "-f", "%N|%n|%z|%c|%a|%m|%F|%b|%%", "/s3/dir/f0.bin", "/s3/dir"]);
    let want = format!("f0.bin|/s3/dir/f0.bin|{SIZE}|{SIZE}|644|/s3|file|1|%\ndir|/s3/dir|0|0|755|/s3|directory|0|%\n");
    assert_eq!(text, want);
    let ids = cli.ok(&["fs", "stat", "-f", "%i %v %u %g %y %Y", "/s3/dir/f0.bin"]);
    assert_eq!(ids.split_whitespace().count(), 6, "{ids}");
    assert_eq!(lines(&cli, &["fs", "stat", "--json", "/s3/dir/f*.bin"]).len(), 3);
    cli.run(&["fs", "stat", "-f", "%q", "/s3"]).assert_refused(&[2], &["%q", "%N %n"]);
    for (question, path, code) in [
        ("-d", "/s3/dir", 0),
        ("-d", "/s3/lines.txt", 1),
        ("-e", "/s3/none", 1),
        ("-e", "/s3", 0),
        ("-f", "/s3/lines.txt", 0),
        ("-s", "/s3/lines.txt", 0),
        ("-s", "/s3/dir/sub/empty", 1),
        ("-s", "/s3/dir", 0),
        ("-z", "/s3/dir/sub/empty", 0),
        ("-z", "/s3/dir", 1),
    ] {
        let output = cli.run(&["fs", "test", question, path]);
        assert_eq!((output.code, output.stderr.as_str()), (code, ""), "{output:?}");
    }
    cli.run(&["fs", "test", "/s3"]).assert_refused(&[2], &["-d"]);
    cli.run(&["fs", "test", "-e", "relative"]).assert_refused(&[2], &["relative"]);
}

#[test]
fn contents() {
    let cluster = prepared();
    let cli = cluster.cli();
    assert_eq!(cli.ok(&["fs", "head", "-n", "2", "/s3/lines.txt"]), "line 1\nline 2\n");
    assert_eq!(cli.ok(&["fs", "head", "/s3/lines.txt"]).lines().count(), 10);
    assert_eq!(cli.ok(&["fs", "head", "-c", "6", "/s3/lines.txt"]), "line 1");
    assert_eq!(cli.ok(&["fs", "tail", "-n", "2", "/s3/lines.txt"]), "line 19\nline 20\n");
    assert_eq!(cli.ok(&["fs", "tail", "-c", "3", "/s3/lines.txt"]), "20\n");
    assert_eq!(cli.ok(&["fs", "tail", "-n", "99", "/s3/lines.txt"]).lines().count(), 20);
    let end = cli.run(&["fs", "tail", "-c", "1500000", "/s3/dir/f1.bin"]);
    assert_eq!(Pattern(1).difference(1_000_000, &end.stdout), None);
    assert_eq!(end.stdout.len(), 1_500_000);
    assert!(cli.ok(&["fs", "head", "-c", "1", "/s3/dir/f0.bin", "/s3/lines.txt"]).contains("==> /s3/lines.txt <=="));
    cli.run(&["fs", "head", "-c", "lots", "/s3/lines.txt"]).assert_refused(&[2], &["lots"]);
    cli.run(&["fs", "tail", "/s3/dir"]).assert_refused(&[1], &["/s3/dir", "directory"]);
    let sums = lines(&cli, &["fs", "checksum", "-R", "--json", "/s3/dir"]);
    assert_eq!(sums.len(), 4, "{sums:?}");
    let empty = sums.iter().find(|sum| sum["path"] == "/s3/dir/sub/empty").expect("it is there");
    assert_eq!(empty["md5"], "d41d8cd98f00b204e9800998ecf8427e");
    assert_eq!(empty["crc32c"], "00000000");
    let said = cli.ok(&["fs", "checksum", "/s3/dir/f2.bin"]);
    let own = forebay_base::crc32c_append(0, &Pattern(2).bytes(SIZE as usize));
    assert!(said.contains(&format!("{own:08x}  /s3/dir/f2.bin")), "{said}");
    cli.run(&["fs", "checksum", "/s3/dir"]).assert_refused(&[2], &["/s3/dir", "-R"]);
}

#[test]
fn sums_and_places() {
    let cluster = prepared();
    let cli = cluster.cli();
    cli.ok(&["fs", "load", "/s3/dir/f0.bin"]);
    let sums = lines(&cli, &["fs", "du", "--json", "-g", "/s3"]);
    let root = sums.last().expect("a sum");
    assert_eq!((root["path"].as_str(), root["files"].as_u64()), (Some("/s3"), Some(6)), "{root}");
    assert_eq!(root["cached"]["any_bytes"].as_u64(), Some(SIZE));
    let workers = root["workers"].as_object().expect("workers");
    assert_eq!(workers.values().map(|held| held["any_bytes"].as_u64().unwrap_or(0)).sum::<u64>(), SIZE);
    assert_eq!(sums.len(), 3, "{sums:?}");
    assert_eq!(cli.ok(&["fs", "du", "-s", "-h", "/s3/dir", "/s3/lines.txt"]).lines().count(), 3);
    let count = &lines(&cli, &["fs", "count", "--json", "/s3/dir"])[0];
    assert_eq!((count["directories"].as_u64(), count["files"].as_u64()), (Some(2), Some(4)), "{count}");
    assert_eq!(count["bytes"].as_u64(), Some(3 * SIZE));
    assert!(cli.ok(&["fs", "count", "-h", "/s3"]).contains("MiB"));
    let place = &lines(&cli, &["fs", "location", "--json", "/s3/dir/f0.bin"])[0];
    let holder = &place["blocks"][0]["workers"][0];
    assert_eq!(
        (holder["owner"].as_bool(), holder["cached"]["any_bytes"].as_u64()),
        (Some(true), Some(SIZE)),
        "{place}"
    );
    assert!(cli.ok(&["fs", "location", "/s3/dir/f1.bin"]).contains("owner"));
    for verb in ["du", "count", "location"] {
        cli.run(&["fs", verb, "/s3/none"]).assert_refused(&[3], &["/s3/none"]);
    }
    cli.run(&["fs", "location", "/s3/dir"]).assert_refused(&[1], &["directory"]);
}

#[test]
fn searches() {
    let cluster = prepared();
    let cli = cluster.cli();
    cli.ok(&["fs", "load", "/s3/dir/f0.bin"]);
    let find = |more: &[&str]| cli.ok(&[&["fs", "find", "/s3"], more].concat());
    assert_eq!(names(&find(&["-name", "*.bin"])).len(), 3);
    assert_eq!(names(&find(&["-type", "d"])), ["/s3", "/s3/dir", "/s3/dir/sub"]);
    assert_eq!(names(&find(&["-size", "+1MiB", "--cached"])), ["/s3/dir/f0.bin"]);
    assert_eq!(names(&find(&["-name", "f*", "--uncached"])), ["/s3/dir/f1.bin", "/s3/dir/f2.bin"]);
    assert_eq!(names(&find(&["-size", "-1", "-type", "f"])), ["/s3/dir/sub/empty"]);
    assert_eq!(names(&find(&["-type", "f", "-mtime", "-1"])).len(), 6);
    assert_eq!(find(&["-type", "f", "-mtime", "+1"]), "");
    assert_eq!(find(&["-name", "*.bin", "-newer", "/s3/dir/f0.bin", "-size", "+9GiB"]), "");
    assert_eq!(find(&["-name", "lines.txt", "-print0"]), "/s3/lines.txt\0");
    assert_eq!(lines(&cli, &["fs", "find", "/s3", "--name", "f1*", "--json"])[0]["path"], "/s3/dir/f1.bin");
    cli.run(&["fs", "find", "/s3", "-type", "x"]).assert_refused(&[2], &["x"]);
    cli.run(&["fs", "find", "/s3", "-size", "big"]).assert_refused(&[2], &["big"]);
    cli.run(&["fs", "find", "/s3/none"]).assert_refused(&[3], &["/s3/none"]);
}

#[test]
fn copies() {
    let cluster = prepared();
    let cli = cluster.cli();
    let local = cluster.folder().join("copied");
    std::fs::create_dir(&local).expect("a directory");
    let to = local.display().to_string();
    let said = cli.json(&["fs", "copy-to", "-R", "--json", "/s3/dir", "/s3/lines.txt", &to]);
    assert_eq!((said["files"].as_u64(), said["failed"].as_u64()), (Some(5), Some(0)), "{said}");
    for index in 0..3 {
        Pattern(index).check(&local.join(format!("dir/f{index}.bin")), SIZE).expect("copied whole");
    }
    assert!(local.join("dir/sub/empty").exists() && local.join("lines.txt").exists());
    let one = local.join("one");
    assert!(cli.ok(&["fs", "copy-to", "/s3/dir/f1.bin", &one.display().to_string()]).starts_with("1 files copied, 0"));
    Pattern(1).check(&one, SIZE).expect("copied whole");
    cli.run(&["fs", "copy-to", "/s3/dir", &to]).assert_refused(&[2], &["/s3/dir", "-R"]);
    cli.run(&["fs", "copy-to", "/s3/none", &to]).assert_refused(&[3], &["/s3/none"]);
    // A directory in the way of a file: the others are copied, what failed is named, and nothing half is left.
    std::fs::remove_file(local.join("dir/f0.bin")).expect("removed");
    std::fs::create_dir(local.join("dir/f0.bin")).expect("a directory");
    let output = cli.run(&["fs", "copy-to", "-R", "/s3/dir", &to]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.text().starts_with("3 files copied, 1 failed") && output.stderr.contains("f0.bin"), "{output:?}");
    let left = std::fs::read_dir(local.join("dir")).expect("listed").flatten();
    assert!(!left.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("partial")));
}

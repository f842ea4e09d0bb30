//! The verbs that compare with the store or change how it is reached: refresh, check, mount --update, path policies.

use forebay_tests::{Cluster, Options, Pattern, eventually};
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

const SIZE: u64 = 3 << 20;

fn prepared(options: Options) -> Cluster {
    let cluster = Cluster::start(Options { fuse: false, ..options }.with_s3());
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    bucket.put("dir/same", &Pattern(1).bytes(SIZE as usize)).expect("stored");
    bucket.put("dir/grows", b"1").expect("stored");
    bucket.put("dir/goes", b"1").expect("stored");
    bucket.put("dir/sub/x", b"1").expect("stored");
    cluster.mount_s3("/s3", "data", &["--freshness", "never"]);
    cluster.cli().ok(&["fs", "ls", "-R", "/s3"]);
    cluster
}

fn change(cluster: &Cluster) {
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    bucket.put("dir/grows", b"123").expect("stored");
    bucket.put("dir/sub/new", b"1").expect("stored");
    bucket.delete("dir/goes").expect("removed");
}

#[test]
fn differences_are_told_and_taken_over() {
    let cluster = prepared(Options::default());
    let cli = cluster.cli();
    assert!(cli.ok(&["fs", "check", "-R", "/s3"]).contains("0 changed"));
    change(&cluster);
    let output = cli.run(&["fs", "check", "-R", "/s3"]);
    assert_eq!(output.code, 1, "{output:?}");
    let text = output.text();
    for line in ["changed  /s3/dir/grows (size, content", "added    /s3/dir/sub/new", "removed  /s3/dir/goes"] {
        assert!(text.contains(line), "no {line} in {text}");
    }
    assert!(cli.ok(&["fs", "ls", "/s3/dir"]).contains("goes"), "check changes nothing");
    let json = cli.run(&["fs", "check", "-R", "--json", "/s3"]);
    assert_eq!((json.code, json.text().lines().count()), (1, 4), "{json:?}");
    let top = cli.ok(&["fs", "refresh", "/s3/dir"]);
    assert!(top.contains("0 added, 1 changed, 1 removed"), "{top}");
    assert!(!cli.ok(&["fs", "ls", "/s3/dir"]).contains("goes"));
    let below = cli.ok(&["fs", "refresh", "-R", "--json", "/s3"]);
    assert!(below.contains("\"added\":1") && below.contains("/s3/dir/sub/new"), "{below}");
    cli.ok(&["fs", "check", "-R", "/s3"]);
    assert_eq!(cli.ok(&["fs", "cat", "/s3/dir/grows"]), "123");
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    bucket.put("dir/grows", b"1234").expect("stored");
    assert!(cli.ok(&["fs", "refresh", "/s3/dir/grows"]).contains("1 changed"), "one file");
    for verb in ["refresh", "check"] {
        cli.run(&["fs", verb, "/s3/none"]).assert_refused(&[3], &["/s3/none"]);
        cli.run(&["fs", verb, "relative"]).assert_refused(&[2], &["relative"]);
    }
}

#[test]
fn a_store_that_is_away_is_no_agreement() {
    let mut cluster = prepared(Options::default());
    cluster.s3.as_mut().expect("it was asked for").kill();
    for verb in ["refresh", "check"] {
        let output = cluster.cli().run(&["fs", verb, "/s3/dir"]);
        assert_eq!(output.code, 1, "{output:?}");
        assert!(output.stderr.contains("/s3/dir"), "{output:?}");
    }
}

/// With checksums off, only the comparison with the store can notice.
#[test]
fn other_bytes_in_the_cache_are_found_and_dropped() {
    let mut cluster = prepared(Options::default().set("worker.verify_reads", "false"));
    let cli = cluster.cli();
    cli.ok(&["fs", "load", "/s3/dir/same"]);
    let good = cli.ok(&["fs", "check", "--deep", "/s3/dir"]);
    assert!(good.contains("3MiB equal, 0B different"), "{good}");
    let _ = cluster.settled_ssd_bytes();
    let mut worker = cluster.workers[0].take().expect("it runs");
    assert!(worker.stop(Duration::from_secs(10)).is_some(), "the worker ends");
    let damaged = damage(&cluster.cache(), &Pattern(1).bytes(64));
    assert_eq!(damaged, 1, "the first bytes of the file lie in one place of the cache");
    cluster.start_worker(0);
    let output = cli.run(&["fs", "check", "--deep", "--json", "/s3/dir"]);
    assert_eq!(output.code, 1, "{output:?}");
    assert!(output.text().contains("\"different_bytes\":1048576"), "{output:?}");
    assert!(output.stderr.contains("/s3/dir/same"), "{output:?}");
    let output = cli.run(&["fs", "cat", "/s3/dir/same"]);
    assert_eq!(Pattern(1).difference(0, &output.stdout), None, "fetched again");
    cli.ok(&["fs", "check", "--deep", "/s3/dir"]);
}

/// Flips a byte in every place where a file below `folder` holds `mark` at a multiple of 4 KiB.
fn damage(folder: &std::path::Path, mark: &[u8]) -> u32 {
    let (mut found, mut folders) = (0, vec![folder.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("listed").flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path).expect("read");
            for at in (0..bytes.len().saturating_sub(mark.len())).step_by(4096) {
                if bytes[at..].starts_with(mark) {
                    let mut file = std::fs::File::options().write(true).open(&path).expect("opened");
                    file.seek(SeekFrom::Start(at as u64 + 5)).expect("positioned");
                    file.write_all(&[!bytes[at + 5]]).expect("written");
                    found += 1;
                }
            }
        }
    }
    found
}

#[test]
fn a_mount_is_changed_and_keeps_the_rest() {
    let mut cluster = prepared(Options::default());
    let cli = cluster.cli();
    let mount = || cli.json(&["fs", "mounts", "--json"])[0].clone();
    let before = mount();
    cli.ok(&["fs", "mount", "--update", "/s3", "--freshness", "7s", "--readonly", "--option", "concurrency=3"]);
    let after = mount();
    assert_eq!((after["freshness_ms"].as_u64(), after["readonly"].as_bool()), (Some(7000), Some(true)), "{after}");
    assert_eq!(after["options"]["concurrency"], "3");
    assert_eq!(after["options"]["secret_key"], before["options"]["secret_key"], "still there, still hidden");
    assert_eq!(after["mount_id"], before["mount_id"]);
    assert_eq!(cli.ok(&["fs", "cat", "/s3/dir/sub/x"]), "1", "the workers still have the secret");
    // Wrong keys are tried first and change nothing; right ones from a file reach the workers.
    let wrong = cli.run(&["fs", "mount", "--update", "/s3", "--option", "secret_key=wrong"]);
    wrong.assert_refused(&[5], &["s3://data"]);
    assert_eq!(cli.ok(&["fs", "cat", "/s3/dir/grows"]), "1");
    let keys = cluster.folder().join("keys");
    std::fs::write(&keys, format!("secret_key={}\ndeadline=4s\n", forebay_tests::SECRET_KEY)).expect("a file");
    cli.ok(&["fs", "mount", "--update", "/s3", "--option-file", &keys.display().to_string(), "--read-write"]);
    cli.ok(&["fs", "mount", "--update", "/s3", "--remove-option", "concurrency"]);
    let last = mount();
    assert_eq!((last["options"]["deadline"].as_str(), last["readonly"].as_bool()), (Some("4s"), Some(false)), "{last}");
    assert!(last["options"].get("concurrency").is_none(), "{last}");
    cluster.master.take().expect("it runs").kill();
    cluster.start_master();
    assert_eq!(mount()["options"], last["options"], "journaled");
    assert_eq!(cli.ok(&["fs", "cat", "/s3/dir/goes"]), "1");
    for (arguments, codes, words) in [
        (&["/none", "--freshness", "1s"][..], &[3][..], &["/none"][..]),
        (&["/s3"], &[2], &["nothing to change", "--option"]),
        (&["/s3", "--remove-option", "nothing"], &[2], &["nothing", "secret_key"]),
        (&["/s3", "--option", "acces_key=x"], &[2], &["acces_key"]),
        (&["/s3", "s3://other"], &[2], &["--update"]),
    ] {
        cli.run(&[&["fs", "mount", "--update"], arguments].concat()).assert_refused(codes, words);
    }
    assert!(!cluster.logs().contains(forebay_tests::SECRET_KEY), "a secret is logged");
}

#[test]
fn policies_act_below_their_path() {
    let mut cluster = prepared(Options::default());
    let cli = cluster.cli();
    change(&cluster);
    assert!(!cli.ok(&["fs", "ls", "/s3/dir/sub"]).contains("new"), "never asked again");
    cli.ok(&["admin", "path-policy", "set", "/s3/dir/sub", "freshness=0s"]);
    assert!(cli.ok(&["fs", "ls", "/s3/dir/sub"]).contains("new"), "asked each time");
    assert!(cli.ok(&["fs", "ls", "/s3/dir"]).contains("goes"), "the directory above is as it was");
    cli.ok(&["admin", "path-policy", "set", "/s3/dir", "freshness=0s"]);
    assert!(!cli.ok(&["fs", "ls", "/s3/dir"]).contains("goes"));
    cli.ok(&["admin", "path-policy", "set", "/s3/dir/sub", "freshness=never"]);
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    bucket.put("dir/sub/later", b"1").expect("stored");
    assert!(!cli.ok(&["fs", "ls", "/s3/dir/sub"]).contains("later"), "the longest path wins");
    cluster.master.take().expect("it runs").kill();
    cluster.start_master();
    let shown = cli.json(&["admin", "path-policy", "show", "--json"]);
    assert_eq!(shown.as_array().map(Vec::len), Some(2), "{shown}");
    assert_eq!((shown[1]["path"].as_str(), shown[1]["freshness"].as_str()), (Some("/s3/dir/sub"), Some("never")));
    assert!(cli.ok(&["admin", "path-policy", "show"]).contains("freshness=0s"));
    cli.ok(&["admin", "path-policy", "remove", "/s3/dir/sub"]);
    eventually("the policy above to act", Duration::from_secs(5), || {
        cli.ok(&["fs", "ls", "/s3/dir/sub"]).contains("later").then_some(())
    });
    cli.run(&["admin", "path-policy", "remove", "/s3/dir/sub"]).assert_refused(&[3], &["/s3/dir/sub"]);
    cli.run(&["admin", "path-policy", "set", "/none", "freshness=0s"]).assert_refused(&[2], &["/none", "/s3"]);
    cli.run(&["admin", "path-policy", "set", "/s3", "colour=red"]).assert_refused(&[2], &["colour", "freshness=TIME"]);
}

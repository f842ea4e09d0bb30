//! The verbs that change names: mkdir, mv, chmod, touch, rm; the stores have what they did when they end.

use forebay_tests::{Cluster, Options};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_directory_has_what_the_verbs_did() {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() });
    let (folder, cli) = (cluster.store("data"), cluster.cli());
    cluster.mount_local("/data", &folder, &[]);
    cli.run(&["fs", "mkdir", "/data/a/b"]).assert_refused(&[3], &["/data/a"]);
    cli.ok(&["fs", "mkdir", "-p", "/data/a/b", "/data/a/b"]);
    cli.run(&["fs", "mkdir", "/data/a"]).assert_refused(&[1], &["exists already"]);
    assert!(folder.join("a/b").is_dir());
    cli.ok(&["fs", "touch", "/data/a/b/f"]);
    assert_eq!(std::fs::read(folder.join("a/b/f")).expect("it is there"), b"");
    cli.ok(&["fs", "chmod", "-R", "750", "/data/a/b"]);
    assert_eq!(std::fs::metadata(folder.join("a/b/f")).expect("it is there").permissions().mode() & 0o7777, 0o750);
    cli.run(&["fs", "chmod", "rw", "/data/a"]).assert_refused(&[2], &["octal"]);
    cli.ok(&["fs", "mv", "/data/a", "/data/c"]);
    assert!(folder.join("c/b/f").is_file() && !folder.join("a").exists());
    cli.ok(&["fs", "mv", "/data/c/b/f", "/data"]);
    cli.ok(&["fs", "touch", "/data/g"]);
    cli.run(&["fs", "mv", "/data/f", "/data/g"]).assert_refused(&[1], &["exists already"]);
    cli.ok(&["fs", "mv", "--overwrite", "/data/f", "/data/g"]);
    cli.run(&["fs", "mv", "/data/g", "/data/c", "/data/none"]).assert_refused(&[2], &["want a directory"]);
    cli.run(&["fs", "rm", "/data/c"]).assert_refused(&[2], &["-R"]);
    cli.ok(&["fs", "rm", "-R", "/data/c", "/data/g"]);
    assert_eq!(std::fs::read_dir(&folder).expect("listed").count(), 0);
    cli.run(&["fs", "rm", "/data/g"]).assert_refused(&[3], &["/data/g"]);
    cli.ok(&["fs", "mount", "--update", "/data", "--readonly"]);
    cli.run(&["fs", "mkdir", "/data/x"]).assert_refused(&[1], &["read-only", "--read-write"]);
}

#[test]
fn a_bucket_has_what_the_verbs_did() {
    let cluster = Cluster::start(Options { fuse: false, ..Options::default() }.with_s3());
    let server = cluster.s3.as_ref().expect("it was asked for");
    let bucket = server.bucket("data");
    for key in ["tree/a", "tree/sub/b"] {
        bucket.put(key, key.as_bytes()).expect("stored");
    }
    cluster.mount_s3("/s3", "data", &[]);
    let (cli, folder) = (cluster.cli(), server.folder_of("data"));
    cli.ok(&["fs", "mkdir", "-p", "/s3/new/deep"]);
    cli.ok(&["fs", "mv", "/s3/tree", "/s3/new/deep"]);
    assert_eq!(std::fs::read(folder.join("new/deep/tree/sub/b")).expect("stored"), b"tree/sub/b");
    assert!(!folder.join("tree/a").exists());
    assert_eq!(cli.ok(&["fs", "cat", "/s3/new/deep/tree/a"]), "tree/a");
    cli.ok(&["fs", "rm", "/s3/new/deep/tree/sub/b"]);
    cli.ok(&["fs", "refresh", "-R", "/s3"]);
    assert!(cli.ok(&["fs", "ls", "/s3/new/deep/tree"]).contains("sub"), "a directory outlives its last file");
    cli.ok(&["fs", "chmod", "600", "/s3/new/deep/tree/a"]);
    cli.ok(&["fs", "refresh", "-R", "/s3"]);
    assert!(cli.ok(&["fs", "ls", "/s3/new/deep/tree"]).contains("-rw-------"), "the namespace keeps what S3 cannot");
    cli.ok(&["fs", "touch", "/s3/new/_SUCCESS"]);
    assert_eq!(std::fs::read(folder.join("new/_SUCCESS")).expect("stored"), b"");
    cli.ok(&["fs", "rm", "-R", "/s3/new"]);
    cli.ok(&["fs", "refresh", "-R", "/s3"]);
    assert_eq!(cli.ok(&["fs", "ls", "/s3"]).trim(), "");
}

//! `fs copy-from`: local files into stores, whole or not at all, whoever is killed meanwhile, and seen at once by every
//! reader of the namespace.

use forebay_tests::{Cluster, Options, Pattern, Process, binary, eventually};
use rustix::process::Signal;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
const SIZES: [usize; 6] = [0, 1, MIB - 1, MIB, MIB + 1, 100 * MIB];
const LARGE: u64 = 768 << 20;
const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster with a directory and a bucket, mounted so that nothing is asked again by itself.
fn prepared(options: Options) -> Cluster {
    let cluster = Cluster::start(options.with_s3().with_audit());
    let folder = cluster.store("data");
    let _ = cluster.s3.as_ref().expect("it was asked for").bucket("data");
    cluster.mount_local("/local", &folder, &["--freshness", "1h"]);
    cluster.mount_s3("/s3", "data", &["--freshness", "1h"]);
    cluster
}

fn without_fuse() -> Cluster {
    prepared(Options { fuse: false, ..Options::default() })
}

/// A local directory outside of all stores.
fn sources(cluster: &Cluster) -> PathBuf {
    let folder = cluster.folder().join("sources");
    fs::create_dir_all(&folder).expect("made");
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Files that a local store has below `folder` and shows to nobody.
fn temporaries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            found.extend(temporaries(&entry.path()));
        } else if entry.file_name().to_string_lossy().starts_with(".forebay-put-") {
            found.push(entry.path());
        }
    }
    found
}

/// Multipart uploads that the S3 server knows: it keeps a directory for each.
fn multipart_uploads(cluster: &Cluster) -> usize {
    let folder = cluster.s3.as_ref().expect("it was asked for").folder_of("data").join(".sgwtmp/multipart");
    let objects = fs::read_dir(folder).into_iter().flatten().flatten();
    objects.map(|object| fs::read_dir(object.path()).map_or(0, Iterator::count)).sum()
}

/// A copy that goes on beside the test.
fn copying(cluster: &Cluster, arguments: &[&str]) -> Process {
    let mut command = Command::new(binary("forebay"));
    command.arg("--config").arg(cluster.config()).args(["fs", "copy-from"]).args(arguments);
    Process::start("copy", &mut command, &cluster.folder().join("copy.log"))
}

#[test]
fn trees_arrive_byte_for_byte_and_are_seen_at_once() {
    let cluster = without_fuse();
    let cli = cluster.cli();
    let from = sources(&cluster).join("tree");
    for (index, size) in SIZES.into_iter().enumerate() {
        let folder = from.join(["", "sub", "sub/deep"][index % 3]);
        fs::create_dir_all(&folder).expect("made");
        Pattern(index as u64).write(&folder.join(format!("f{index}")), size as u64).expect("space");
    }
    fs::create_dir(from.join("empty")).expect("made");
    for mount in ["/local", "/s3"] {
        assert_eq!(cli.ok(&["fs", "ls", mount]), "", "listed, and not asked again for an hour");
        let done = cli.json(&["fs", "copy-from", "-R", "--json", text(&from), &format!("{mount}/in/")]);
        let total: usize = SIZES.iter().sum();
        assert_eq!((done["files"].as_u64(), done["failed"].as_u64()), (Some(6), Some(0)), "{done}");
        assert_eq!(done["bytes"].as_u64(), Some(total as u64));
        assert!(cli.ok(&["fs", "ls", mount]).contains("in"), "{mount}");
        for (index, size) in SIZES.into_iter().enumerate() {
            let path = format!("{mount}/in/tree{}/f{index}", ["", "/sub", "/sub/deep"][index % 3]);
            let output = cli.run(&["fs", "cat", &path]);
            assert_eq!((output.code, output.stdout.len()), (0, size), "{path}: {}", output.stderr);
            assert_eq!(Pattern(index as u64).difference(0, &output.stdout), None, "{path}");
        }
        assert!(cli.run(&["fs", "test", "-e", &format!("{mount}/in/tree/empty")]).code != 0);
        // The same again: everything is there already, and is named.
        let again = cli.run(&["fs", "copy-from", "-R", text(&from), &format!("{mount}/in")]);
        assert_eq!((again.code, again.stderr.lines().count()), (1, 7), "{again:?}");
        assert!(again.stderr.contains("/in/tree/sub/deep/f2: ") && again.stderr.contains("--overwrite"), "{again:?}");
    }
    // A directory's own time changes with each file in it: that is seen when its freshness is over.
    cli.ok(&["fs", "check", "-R", "/s3"]);
    assert_eq!(temporaries(&cluster.store("data")), Vec::<PathBuf>::new());
    assert_eq!(multipart_uploads(&cluster), 0);
    let audit = fs::read_to_string(cluster.folder().join("audit.log")).expect("the audit log");
    for words in ["GrantWrite", "RecordWrite", "/s3/in/tree/sub/f1"] {
        assert!(audit.contains(words), "{words} in {audit}");
    }
    assert!(cluster.logs().contains("FinishUpload"), "the worker writes down what it wrote");
    let port = cluster.http_ports().workers[0];
    let metrics = forebay_tests::http(port, "GET", "/metrics", "");
    assert!(metrics.body.contains("forebay_worker_uploads_total{end=\"done\"} 12"), "{}", metrics.body);
}

#[test]
fn what_is_replaced_is_seen_by_readers_at_once() {
    let cluster = prepared(Options::default());
    let cli = cluster.cli();
    let bucket = cluster.s3.as_ref().expect("it was asked for").bucket("fresh");
    bucket.put("f", b"before").expect("stored");
    cluster.mount_s3("/fresh", "fresh", &["--freshness", "0s"]);
    let from = sources(&cluster);
    let (first, second) = (from.join("first"), from.join("second"));
    Pattern(1).write(&first, 3 << 20).expect("space");
    Pattern(2).write(&second, 3 << 20).expect("space");
    for path in ["/local/f", "/s3/f", "/fresh/f"] {
        let mounted = cluster.mountpoint().join(&path[1..]);
        cli.ok(&["fs", "copy-from", "--overwrite", text(&first), path]);
        assert_eq!(Pattern(1).difference(0, &cli.run(&["fs", "cat", path]).stdout), None, "{path}");
        let version = cli.ok(&["fs", "stat", "-f", "%v", path]);
        if path == "/fresh/f" {
            Pattern(1).check(&mounted, 3 << 20).expect("the first content through the mount");
        }
        cli.run(&["fs", "copy-from", text(&second), path])
            .assert_refused(&[1], &[path, "exists already", "--overwrite"]);
        cli.ok(&["fs", "copy-from", "--overwrite", text(&second), path]);
        assert_eq!(Pattern(2).difference(0, &cli.run(&["fs", "cat", path]).stdout), None, "{path}");
        assert_ne!(cli.ok(&["fs", "stat", "-f", "%v", path]), version, "another content is another version");
        if path == "/fresh/f" {
            Pattern(2).check(&mounted, 3 << 20).expect("the second content through the mount");
        }
    }
}

#[test]
fn wrong_input_is_named() {
    let cluster = without_fuse();
    let cli = cluster.cli();
    let from = sources(&cluster);
    let (file, folder) = (from.join("file"), from.join("folder"));
    fs::write(&file, "x").expect("written");
    fs::create_dir_all(folder.join("below")).expect("made");
    fs::write(folder.join("below/y"), "y").expect("written");
    let (file, folder) = (text(&file), text(&folder));
    cluster.mount_local("/ro", &cluster.store("ro"), &["--readonly"]);
    cli.ok(&["fs", "copy-from", file, "/local/there"]);
    cli.ok(&["fs", "copy-from", "-R", folder, "/local/dir"]);
    assert_eq!(cli.ok(&["fs", "cat", "/local/dir/below/y"]), "y");
    let none = text(&from).to_string() + "/none";
    for (arguments, code, words) in [
        (&[none.as_str(), "/local/x"][..], 3, &["sources/none", "No such file"][..]),
        (&[folder, "/local/x"], 2, &["folder", "is a directory", "-R"]),
        (&[file, "relative"], 2, &["relative", "absolute"]),
        (&[file], 2, &["PATH"]),
        (&[file, "/nowhere/x"], 2, &["/nowhere/x", "no mount", "/local"]),
        (&[file, "/ro/x"], 1, &["/ro/x", "read-only", "--read-write"]),
        (&[file, "/local/there"], 1, &["/local/there", "exists already", "--overwrite"]),
        (&[file, "/local/there/below"], 1, &["/local/there/below", "file"]),
        (&[file, "/local/there/"], 1, &["/local/there", "is a file"]),
        (&["-R", folder, "/local/there"], 1, &["/local/there", "is a file"]),
        (&[file, file, "/local/new"], 2, &["/local/new", "directory"]),
        (&["--overwrite", file, "/local/.forebay-put-1"], 2, &[".forebay-put-", "reserved"]),
        (&["/dev/null", "/local/null"], 2, &["/dev/null", "neither"]),
    ] {
        cli.run(&[&["fs", "copy-from"], arguments].concat()).assert_refused(&[code], words);
    }
    // A directory where a file would go.
    fs::create_dir_all(cluster.store("data").join("taken/file")).expect("made");
    let taken = cli.run(&["fs", "copy-from", "--overwrite", file, "/local/taken/"]);
    taken.assert_refused(&[1], &["/local/taken/file", "is a directory"]);
    let mut cluster = cluster;
    cluster.s3.as_mut().expect("it was asked for").kill();
    let away = cli.run(&["fs", "copy-from", file, "/s3/x"]);
    away.assert_refused(&[1], &["/s3/x", "s3://data"]);
}

#[test]
fn a_worker_killed_in_the_middle_leaves_nothing_and_the_copy_begins_again() {
    let mut cluster = without_fuse();
    let cli = cluster.cli();
    let from = sources(&cluster).join("large");
    Pattern(7).write(&from, LARGE).expect("space");
    let store = cluster.store("data");
    for path in ["/local/deep/large", "/s3/deep/large"] {
        let mut copy = copying(&cluster, &[text(&from), path]);
        eventually("half a file", PATIENCE, || {
            let is_half = |file: &PathBuf| file.metadata().is_ok_and(|meta| meta.len() > 8 << 20);
            (temporaries(&store).iter().any(is_half) || multipart_uploads(&cluster) > 0).then_some(())
        });
        cluster.workers[0].as_mut().expect("it runs").kill();
        assert!(copy.ended().is_none(), "it was killed too late to show anything");
        assert!(
            !temporaries(&store).is_empty() || multipart_uploads(&cluster) > 0,
            "it leaves something to be removed"
        );
        assert_eq!(cli.run(&["fs", "test", "-e", path]).code, 1, "half a file is shown");
        cli.ok(&["fs", "refresh", path.split_at(path.rfind("/deep").expect("it is there")).0]);
        assert_eq!(cli.run(&["fs", "test", "-e", path]).code, 1, "half a file is shown");
        cluster.start_worker(0);
        let ended = copy.wait_end(Duration::from_secs(120));
        assert!(ended.success(), "{ended}: {}", copy.log());
        let local = cluster.folder().join("back");
        cli.ok(&["fs", "copy-to", path, text(&local)]);
        Pattern(7).check(&local, LARGE).expect("what arrived");
        eventually("what the killed worker left to be removed", PATIENCE, || {
            (temporaries(&store).is_empty() && multipart_uploads(&cluster) == 0).then_some(())
        });
    }
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    let cluster = without_fuse();
    let cli = cluster.cli();
    let from = sources(&cluster).join("large");
    fs::File::create(&from).and_then(|file| file.set_len(LARGE)).expect("a sparse file");
    let store = cluster.store("data");
    for (path, signal) in
        [("/local/large", Signal::KILL), ("/s3/large", Signal::KILL), ("/local/stopped", Signal::STOP)]
    {
        let mut copy = copying(&cluster, &[text(&from), path]);
        eventually("half a file", PATIENCE, || {
            (!temporaries(&store).is_empty() || multipart_uploads(&cluster) > 0).then_some(())
        });
        copy.signal(signal);
        assert!(copy.ended().is_none_or(|status| !status.success()), "it was stopped too late to show anything");
        eventually("what it left to be removed", PATIENCE, || {
            (temporaries(&store).is_empty() && multipart_uploads(&cluster) == 0).then_some(())
        });
        cli.ok(&["fs", "refresh", &path[..path.rfind('/').expect("a slash")]]);
        cli.run(&["fs", "stat", path]).assert_refused(&[3], &[path]);
        copy.kill();
    }
    assert!(fs::read_dir(&store).expect("listed").next().is_none());
}

/// A way to `to` on which no more than `bytes_per_second` go there, over all connections; its `host:port`. It ends with the
/// process.
fn slow_way(to: String, bytes_per_second: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address").to_string();
    let free_at = Arc::new(Mutex::new(Instant::now()));
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = TcpStream::connect(&to) else { continue };
            let (mut back, mut forth) = (server.try_clone().expect("a copy"), client.try_clone().expect("a copy"));
            let (mut client, mut server, free_at) = (client, server, free_at.clone());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut back, &mut forth);
                let _ = forth.shutdown(Shutdown::Both);
            });
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(length @ 1..) = client.read(&mut buffer) {
                    let until = {
                        let mut free_at = free_at.lock().expect("a lock");
                        let took = Duration::from_secs_f64(length as f64 / bytes_per_second as f64);
                        *free_at = (*free_at).max(Instant::now()) + took;
                        *free_at
                    };
                    std::thread::sleep(until.saturating_duration_since(Instant::now()));
                    if server.write_all(&buffer[..length]).is_err() {
                        break;
                    }
                }
                let _ = server.shutdown(Shutdown::Both);
            });
        }
    });
    address
}

#[test]
fn more_large_files_than_fit_into_a_worker_all_arrive_in_the_end() {
    // A client that is less patient than the first files take.
    let options = Options { fuse: false, ..Options::default() };
    let cluster = prepared(options.set("fuse.io_timeout", "\"3s\"").set("cluster.rpc_timeout", "\"3s\""));
    let cli = cluster.cli();
    let way = slow_way(cluster.s3.as_ref().expect("it was asked for").address(), 8 << 20);
    let _ = cluster.s3.as_ref().expect("it was asked for").bucket("slow");
    let mount = forebay_tests::S3Server::mount_options_at(format!("http://{way}"));
    let mount: Vec<&str> = mount.iter().map(String::as_str).collect();
    cli.ok(&[&["fs", "mount"], &mount[..], &["/slow", "s3://slow"]].concat());
    let from = sources(&cluster).join("many");
    fs::create_dir_all(&from).expect("made");
    for index in 0..12 {
        Pattern(index).write(&from.join(format!("f{index}")), 20 << 20).expect("space");
    }
    let done = cli.json(&["fs", "copy-from", "-R", "--threads", "8", "--json", text(&from), "/slow/"]);
    assert_eq!((done["files"].as_u64(), done["failed"].as_u64()), (Some(12), Some(0)), "{done}");
    let folder = cluster.s3.as_ref().expect("it was asked for").folder_of("slow").join("many");
    for index in 0..12 {
        Pattern(index).check(&folder.join(format!("f{index}")), 20 << 20).expect("what arrived");
    }
}

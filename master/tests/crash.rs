//! A master process killed again and again while it is driven over the wire: what it acknowledged is there again.

#![expect(clippy::unwrap_used, reason = "a test ends where it goes wrong")]

use forebay_base::ClusterId;
use forebay_net::message::handshake::Role;
use forebay_net::message::namespace::{ListMounts, Mount, ReadDir, Resolve, Unmount};
use forebay_net::transport::tokio::Connection;
use forebay_net::{Endpoint, Identity, Message, Secret};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(directory: &Path, port: u16) -> Process {
    let at = directory.display();
    let sets = [
        format!("cluster.socket_dir={at}/s"),
        format!("master.listen=127.0.0.1:{port}"),
        "master.http=off".into(),
        format!("master.dir={at}/master"),
        "master.cores=2".into(),
        // Cuts fall everywhere between commands.
        "master.flush_interval=20ms".into(),
        format!("worker.dir={at}/worker"),
        format!("worker.ssd={at}/cache=1GiB"),
        format!("fuse.mountpoint={at}/mnt"),
        "log.level=warn".into(),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay-master"));
    for set in sets {
        command.args(["--set", &set]);
    }
    Process(command.stdin(Stdio::null()).spawn().unwrap())
}

async fn connect(port: u16) -> Connection {
    let identity = Identity { role: Role::Admin, cluster_id: ClusterId(0), secret: Secret::none() };
    let endpoint = Endpoint::Tcp(format!("127.0.0.1:{port}"));
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match Connection::connect(&endpoint, &identity, Duration::from_secs(2)).await {
            Ok(connection) => return connection,
            Err(error) if Instant::now() > until => panic!("the master did not come back: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn ask<M: Message>(connection: &Connection, request: &M) -> Result<M::Reply, forebay_base::KindError> {
    connection.call(request, Duration::from_secs(20)).await
}

/// Path -> (`FileId`, `Version`) as acknowledged.
type Known = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

/// Mounts, looks up, lists and unmounts until the master dies; records what was answered.
async fn drive(connection: Connection, data: String, round: usize, known: Known, mounted: Arc<Mutex<Vec<String>>>) {
    for step in 0.. {
        let path = format!("/r{round}/m{step}");
        let uri = format!("file://{data}");
        let mount = Mount { path: path.clone(), uri, options: vec![], freshness_ms: 3_600_000, readonly: true };
        let Ok(info) = ask(&connection, &mount).await else { return };
        mounted.lock().unwrap().push(path.clone());
        let Ok(root) = ask(&connection, &Resolve { path: path.clone().into_bytes() }).await else { return };
        assert_eq!(root.mount_id, info.mount_id);
        let list = ReadDir::part(root.file_id, b"", 1000);
        let Ok(part) = ask(&connection, &list).await else { return };
        assert_eq!(part.entries.len(), 24);
        let named = part.entries.into_iter().map(|entry| {
            let name = String::from_utf8(entry.name).unwrap();
            (format!("{path}/{name}"), (entry.attr.file_id, entry.attr.version))
        });
        known.lock().unwrap().extend(named.chain([(path.clone(), (root.file_id, 0))]));
        if step % 3 == 2 {
            let gone = mounted.lock().unwrap().last().cloned().unwrap();
            // In doubt from here on: neither its presence nor its absence is promised until the answer.
            mounted.lock().unwrap().pop();
            if ask(&connection, &Unmount { path: gone, force: false }).await.is_err() {
                return;
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_sigkill() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    std::fs::create_dir(&data).unwrap();
    for number in 0..16 {
        std::fs::write(data.join(format!("f{number}")), number.to_string()).unwrap();
    }
    for number in 0..8 {
        std::fs::create_dir(data.join(format!("d{number}"))).unwrap();
    }
    let port = free_port();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (known, mounted): (Known, _) = (Known::default(), Arc::new(Mutex::new(Vec::new())));
    for round in 0..8 {
        let mut process = start(directory.path(), port);
        runtime.block_on(async {
            let connection = connect(port).await;
            let mounts = ask(&connection, &ListMounts::default()).await.unwrap().mounts;
            let paths: Vec<String> = mounts.into_iter().map(|mount| mount.path).collect();
            let wanted = mounted.lock().unwrap().clone();
            for path in &wanted {
                assert!(paths.contains(path), "round {round}: mount {path} is lost, there are {paths:?}");
            }
            let expected: Vec<(String, (u64, u64))> = {
                let known = known.lock().unwrap();
                let lives =
                    |path: &str| wanted.iter().any(|mount| path == mount || path.starts_with(&format!("{mount}/")));
                known.iter().filter(|(path, _)| lives(path)).map(|(path, ids)| (path.clone(), *ids)).collect()
            };
            for (path, ids) in expected {
                let attr = ask(&connection, &Resolve { path: path.clone().into_bytes() }).await.unwrap();
                assert_eq!((attr.file_id, attr.version), ids, "round {round}: {path}");
            }
            let driven = drive(connection, data.display().to_string(), round, Arc::clone(&known), Arc::clone(&mounted));
            let driver = tokio::spawn(driven);
            tokio::time::sleep(Duration::from_millis(150 + 130 * round as u64)).await;
            process.0.kill().unwrap();
            process.0.wait().unwrap();
            driver.await.unwrap();
        });
    }
    assert!(known.lock().unwrap().len() > 100, "the master was killed before it did anything");
}

#[test]
fn refusals_are_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let at = directory.path().display();
    let output = Command::new(env!("CARGO_BIN_EXE_forebay-master"))
        .args(["--set", &format!("master.dir={at}/master"), "--set", &format!("cluster.socket_dir={at}/s")])
        .args([
            "--set",
            &format!("master.listen=127.0.0.1:{port}"),
            "--set",
            "master.http=off",
            "--set",
            "log.level=error",
        ])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().count() == 1 && text.contains(&port.to_string()), "{text}");
    let output = Command::new(env!("CARGO_BIN_EXE_forebay-master")).args(["--set", "master.port=1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

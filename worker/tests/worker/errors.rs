//! What a worker says when it cannot start: one line that names the setting, and exit code 1.

use crate::cluster::Cluster;

/// Starts a worker that must refuse, and yields what it said.
async fn refusal(cluster: &Cluster, more: &[String]) -> String {
    let mut settings = cluster.settings.clone();
    settings.extend_from_slice(more);
    settings.push("log.level=error".into());
    let mut command = cluster.command(&settings);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_one_line_that_names_the_setting() {
    let mut cluster = Cluster::new().await;
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("worker.listen={}", holder.local_addr().unwrap());
    let text = refusal(&cluster, &[taken]).await;
    assert!(text.contains("worker.listen") && text.contains("in use"), "{text}");

    let file = cluster.dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    let text = refusal(&cluster, &[format!("worker.ssd={}=64MiB", file.display())]).await;
    assert!(text.contains("worker.ssd[0]") && text.contains("file"), "{text}");
    let text = refusal(&cluster, &[format!("worker.dir={}", file.display())]).await;
    assert!(text.contains("worker.dir"), "{text}");

    let text = refusal(&cluster, &[format!("worker.hdd={}=64MiB", file.display())]).await;
    assert!(text.contains("worker.hdd[0]") && text.contains("file"), "{text}");

    cluster.start().await;
    let text = refusal(&cluster, &[]).await;
    assert!(text.contains("held by another running worker"), "{text}");
    cluster.end_worker().await;

    // Another cluster's cache: refused, until the operator has it emptied.
    let cache = cluster.dir.path().join("cache");
    let superblock = cache.join("shard-0/superblock");
    let mut bytes = std::fs::read(&superblock).unwrap();
    bytes[16] ^= 1;
    let crc = forebay_base::crc32c(&bytes[..4092]);
    bytes[4092..].copy_from_slice(&crc.to_le_bytes());
    std::fs::write(&superblock, bytes).unwrap();
    let text = refusal(&cluster, &[]).await;
    assert!(text.contains("holds the cache of cluster") && text.contains("--wipe-cache"), "{text}");
    let wiped = cluster.command(&cluster.settings).arg("--wipe-cache").arg(&cache).output().unwrap();
    assert!(wiped.status.success() && String::from_utf8_lossy(&wiped.stdout).contains("begins empty"), "{wiped:?}");
    let relative = cluster.command(&cluster.settings).args(["--wipe-cache", "cache"]).output().unwrap();
    assert_eq!(relative.status.code(), Some(2), "{relative:?}");
    cluster.start().await;
    cluster.end_worker().await;

    let foreign = cluster.dir.path().join("worker/cluster");
    assert!(foreign.exists());
    std::fs::write(&foreign, format!("{:032x}\n", 99)).unwrap();
    let text = refusal(&cluster, &[]).await;
    assert!(text.contains("cluster"), "{text}");
}

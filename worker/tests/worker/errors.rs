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

    cluster.start().await;
    let text = refusal(&cluster, &[]).await;
    assert!(text.contains("held by another running worker"), "{text}");
    cluster.end_worker().await;

    let foreign = cluster.dir.path().join("worker/cluster");
    assert!(foreign.exists());
    std::fs::write(&foreign, format!("{:032x}\n", 99)).unwrap();
    let text = refusal(&cluster, &[]).await;
    assert!(text.contains("cluster"), "{text}");
}

//! Uploads as a client sends them, right and wrong, to a real worker with a local directory behind it.

use crate::cluster::{Client, Cluster, LOCAL, WAIT};
use forebay_base::{ErrorKind, KindError, limits, unix_now_ms};
use forebay_net::message::handshake::Role;
use forebay_net::message::write::{
    BeginUpload, FinishUpload, PIECE_BYTES_MAX, PIECES_WAITING_MAX, SIZE_UNKNOWN, UploadPiece,
};
use forebay_net::write_ticket::WriteTicket;

async fn begin(cluster: &Cluster, client: &Client, upload_id: u64, key: &str, size: u64) -> Result<(), KindError> {
    let expires_unix_ms = unix_now_ms() + limits::TICKET_LIFE_MS;
    let ticket = WriteTicket {
        mount_id: LOCAL,
        store_key: key.into(),
        file_id: 0,
        client_id: 0,
        create_only: false,
        replaces: String::new(),
        expires_unix_ms,
    };
    let ticket = cluster.signed_write(&ticket);
    client.cores[0].call(&BeginUpload { upload_id, ticket, size }, WAIT).await.map(drop)
}

async fn piece(client: &Client, upload_id: u64, offset: u64, length: usize) -> Result<(), KindError> {
    client.cores[0].call(&UploadPiece { upload_id, offset, bytes: vec![7; length] }, WAIT).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_hold() {
    let mut cluster = Cluster::new().await;
    cluster.start().await;
    let client = cluster.client(Role::Admin).await;
    let endless = begin(&cluster, &client, 1, "endless", limits::FILE_BYTES_MAX + 1).await.unwrap_err();
    assert_eq!(endless.kind, ErrorKind::Invalid, "{endless}");
    begin(&cluster, &client, 2, "exact", 10).await.unwrap();
    piece(&client, 2, 0, 10).await.unwrap();
    let size = client.cores[0].call(&FinishUpload { upload_id: 2, size: 10 }, WAIT).await.unwrap().size;
    assert_eq!((size, std::fs::read(cluster.data().join("exact")).unwrap().len()), (10, 10));

    // Beyond the size, also where it would have to wait: the upload has ended.
    for (upload_id, offset) in [(3, 0), (4, 5), (5, u64::MAX)] {
        begin(&cluster, &client, upload_id, "beyond", 10).await.unwrap();
        let refused = piece(&client, upload_id, offset, 11).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Invalid, "{refused}");
        assert_eq!(piece(&client, upload_id, 0, 1).await.unwrap_err().kind, ErrorKind::Closed);
    }
    assert!(!cluster.data().join("beyond").exists());

    // No more wait for those before them than are counted.
    begin(&cluster, &client, 6, "holes", SIZE_UNKNOWN).await.unwrap();
    let wait = |at: usize| piece(&client, 6, (at * PIECE_BYTES_MAX) as u64, PIECE_BYTES_MAX);
    let waiting = futures::future::join_all((1..=PIECES_WAITING_MAX + 1).map(wait));
    let first = async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        wait(0).await
    };
    let (answers, first) = futures::join!(waiting, first);
    first.unwrap();
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    assert_eq!(refused.len(), 1, "{refused:?}");
    assert_eq!(refused[0].kind, ErrorKind::Invalid, "{}", refused[0]);
    cluster.end_worker().await;
}

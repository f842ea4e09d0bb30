//! S3 servers that misbehave: bodies that break and stall, conditions and ranges ignored, answers that are no S3.

mod scripted_server;

use bytes::Bytes;
use forebay_base::{ErrorKind, Fingerprint};
use forebay_ufs::{ObjectKind, StoreError, StoreLimits, UnderStore, WriteMode, open};
use futures::StreamExt;
use scripted_server::{ScriptedServer, answer};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LIMITS: StoreLimits = StoreLimits { concurrency: 4, deadline: Duration::from_secs(3), retries: 3 };
const OBJECT: &[u8] = b"0123456789abcdef";
const META: &str = "ETag: \"good\"\r\nLast-Modified: Mon, 23 Nov 2026 20:00:00 GMT\r\n";

fn store(server: &ScriptedServer) -> Arc<dyn UnderStore> {
    store_with(server, "false")
}

fn store_with(server: &ScriptedServer, recheck: &str) -> Arc<dyn UnderStore> {
    let options = [("endpoint", server.endpoint()), ("anonymous", "true".into()), ("recheck", recheck.into())];
    let options = options.map(|(name, value)| (name.to_string(), value));
    open("s3://bucket", &options, LIMITS).expect("good options")
}

fn good() -> Fingerprint {
    Fingerprint("etag:\"good\"".into())
}

/// The answer to `bytes=first-last` of `OBJECT`, of which the last `missing` bytes do not come.
fn partial(range: &str, meta: &str, missing: usize) -> (String, Vec<u8>) {
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).expect("a range");
    let (first, last): (usize, usize) = (first.parse().expect("first"), last.parse().expect("last"));
    let body = OBJECT[first..=last].to_vec();
    let headers =
        format!("{meta}Content-Length: {}\r\nContent-Range: bytes {first}-{last}/{}\r\n", body.len(), OBJECT.len());
    let sent = body.len().saturating_sub(missing);
    (headers, body[..sent].to_vec())
}

async fn read(store: &Arc<dyn UnderStore>, fingerprint: &Fingerprint) -> Result<Vec<u8>, StoreError> {
    let mut stream = store.read("k", 2..14, fingerprint).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = stream.next().await {
        bytes.extend_from_slice(&piece?);
    }
    Ok(bytes)
}

#[tokio::test]
async fn a_broken_body_is_taken_up_where_it_ended_under_the_same_condition() {
    let server = ScriptedServer::start(|number, request, mut stream| async move {
        assert_eq!(request.header("if-match"), "\"good\"");
        let (headers, body) = partial(request.header("range"), META, if number < 2 { 4 - number } else { 0 });
        assert_eq!(request.header("range"), ["bytes=2-13", "bytes=10-13", "bytes=11-13"][number]);
        answer(&mut stream, "206 Partial Content", &headers, &body).await;
    })
    .await;
    assert_eq!(read(&store(&server), &good()).await.unwrap(), &OBJECT[2..14]);
}

#[tokio::test]
async fn a_stalled_body_is_taken_up_and_one_that_stays_silent_ends_in_time() {
    let server = ScriptedServer::start(|number, request, mut stream| async move {
        let (headers, body) = partial(request.header("range"), META, if number == 0 { 5 } else { 0 });
        answer(&mut stream, "206 Partial Content", &headers, &body).await;
        if number == 0 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    })
    .await;
    assert_eq!(read(&store(&server), &good()).await.unwrap(), &OBJECT[2..14]);

    let silent = ScriptedServer::start(|number, request, mut stream| async move {
        if number == 0 {
            let (headers, body) = partial(request.header("range"), META, 5);
            answer(&mut stream, "206 Partial Content", &headers, &body).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    let started = Instant::now();
    let error = read(&store(&silent), &good()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(started.elapsed() < LIMITS.deadline + Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn content_that_changes_between_two_parts_is_stale() {
    let server = ScriptedServer::start(|number, request, mut stream| async move {
        if number == 0 {
            let (headers, body) = partial(request.header("range"), META, 5);
            answer(&mut stream, "206 Partial Content", &headers, &body).await;
        } else {
            answer(&mut stream, "412 Precondition Failed", "Content-Length: 0\r\n", b"").await;
        }
    })
    .await;
    assert_eq!(read(&store(&server), &good()).await.unwrap_err().kind, ErrorKind::Stale);
}

#[tokio::test]
async fn servers_that_ignore_what_they_are_asked_are_found_out() {
    let other = META.replace("good", "other");
    let ignores_condition = ScriptedServer::start(move |_, request, mut stream| {
        let (headers, body) = partial(request.header("range"), &other, 0);
        async move { answer(&mut stream, "206 Partial Content", &headers, &body).await }
    })
    .await;
    assert_eq!(read(&store(&ignores_condition), &good()).await.unwrap_err().kind, ErrorKind::Stale);

    let ignores_range = ScriptedServer::start(|_, _, mut stream| async move {
        answer(&mut stream, "200 OK", &format!("{META}Content-Length: 16\r\n"), OBJECT).await;
    })
    .await;
    let error = read(&store(&ignores_range), &good()).await.unwrap_err();
    assert!(error.kind == ErrorKind::Corrupt && error.to_string().contains("2-13"), "{error}");

    let other_range = ScriptedServer::start(|_, _, mut stream| async move {
        let (headers, body) = partial("bytes=3-14", META, 0);
        answer(&mut stream, "206 Partial Content", &headers, &body).await;
    })
    .await;
    assert_eq!(read(&store(&other_range), &good()).await.unwrap_err().kind, ErrorKind::Corrupt);

    let no_etag = ScriptedServer::start(|_, request, mut stream| async move {
        assert_eq!(request.header("if-match"), "");
        let (headers, body) = partial(request.header("range"), META.split_once("\r\n").expect("two lines").1, 0);
        answer(&mut stream, "206 Partial Content", &headers, &body).await;
    })
    .await;
    let meta = Fingerprint("meta:16:1795464000".into());
    assert_eq!(read(&store(&no_etag), &meta).await.unwrap(), &OBJECT[2..14]);
    let before = Fingerprint("meta:16:1795463999".into());
    assert_eq!(read(&store(&no_etag), &before).await.unwrap_err().kind, ErrorKind::Stale);
}

#[tokio::test]
async fn a_server_whose_condition_is_not_atomic_is_found_out() {
    for (now, is_good) in [("good", true), ("other", false)] {
        let server = ScriptedServer::start(move |_, request, mut stream| async move {
            if request.line.starts_with("HEAD") {
                let headers = format!("{}Content-Length: 16\r\n", META.replace("good", now));
                return answer(&mut stream, "200 OK", &headers, b"").await;
            }
            let (headers, body) = partial(request.header("range"), META, 0);
            answer(&mut stream, "206 Partial Content", &headers, &body).await;
        })
        .await;
        match read(&store_with(&server, "true"), &good()).await {
            Ok(bytes) => assert!(is_good && bytes == OBJECT[2..14]),
            Err(error) => assert!(!is_good && error.kind == ErrorKind::Stale, "{error}"),
        }
    }
}

/// Whoever fetches a long range keeps the first pages of it before the last ones are there.
#[tokio::test]
async fn not_even_the_first_bytes_of_another_content_are_handed_on() {
    let server = ScriptedServer::start(|_, request, mut stream| async move {
        if request.line.starts_with("HEAD") {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let headers = format!("{}Content-Length: 16\r\n", META.replace("good", "other"));
            return answer(&mut stream, "200 OK", &headers, b"").await;
        }
        let (headers, body) = partial(request.header("range"), META, 0);
        answer(&mut stream, "206 Partial Content", &headers, &body[..4]).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = stream.write_all(&body[4..]).await;
    })
    .await;
    let mut stream = store_with(&server, "true").read("k", 2..14, &good()).await.expect("the answer begins well");
    let first = stream.next().await.expect("it does not just end");
    assert_eq!(first.expect_err("these are bytes of another content").kind, ErrorKind::Stale);
}

#[tokio::test]
async fn what_passes_is_tried_again_and_what_does_not_is_not() {
    let busy = ScriptedServer::start(|number, _, mut stream| async move {
        match number {
            0 => answer(&mut stream, "503 Slow Down", "Content-Length: 0\r\n", b"").await,
            1 => drop(stream),
            _ => answer(&mut stream, "200 OK", &format!("{META}Content-Length: 16\r\n"), b"").await,
        }
    })
    .await;
    assert_eq!(store(&busy).stat("k").await.unwrap().size, 16);

    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let drops = ScriptedServer::start(move |_, request, stream| {
        counted.fetch_add(usize::from(request.line.starts_with("PUT")), Ordering::SeqCst);
        async move { drop(stream) }
    })
    .await;
    let error = store(&drops).put("k", Bytes::from_static(b"x"), true).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert_eq!(count.load(Ordering::SeqCst), 1, "a creation whose answer was lost is not sent again");

    let always = ScriptedServer::start(|_, _, mut stream| async move {
        answer(&mut stream, "500 Internal Server Error", "Content-Length: 0\r\n", b"").await;
    })
    .await;
    assert_eq!(store(&always).check().await.unwrap_err().kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn answers_that_are_no_s3_are_errors() {
    for body in ["<html><body>hello</body></html>", "", "\u{0}\u{1}", "<ListBucketResult><Contents>"] {
        let server = ScriptedServer::start(move |_, _, mut stream| async move {
            answer(&mut stream, "200 OK", &format!("Content-Length: {}\r\n", body.len()), body.as_bytes()).await;
        })
        .await;
        let error = store(&server).check().await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Corrupt, "{body:?}: {error}");
    }
    let endless = ScriptedServer::start(|_, _, mut stream| async move {
        answer(&mut stream, "200 OK", "", b"<ListBucketResult>").await;
        while stream.write_all(&[b' '; 65536]).await.is_ok() {}
    })
    .await;
    assert_eq!(store(&endless).check().await.unwrap_err().kind, ErrorKind::Corrupt);
}

#[tokio::test]
async fn an_object_wins_over_the_prefix_of_its_name_on_a_later_page() {
    let server = ScriptedServer::start(|_, request, mut stream| async move {
        let content = |key: &str| {
            format!(
                "<Contents><Key>{key}</Key><Size>1</Size><ETag>\"e\"</ETag>\
                 <LastModified>2026-11-23T20:00:00Z</LastModified></Contents>"
            )
        };
        let prefix = |key: &str| format!("<CommonPrefixes><Prefix>{key}</Prefix></CommonPrefixes>");
        let body = if request.line.starts_with("HEAD /bucket/d/a ") {
            return answer(&mut stream, "200 OK", &format!("{META}Content-Length: 1\r\n"), b"").await;
        } else if request.line.starts_with("HEAD") {
            return answer(&mut stream, "404 Not Found", "Content-Length: 0\r\n", b"").await;
        } else if request.line.contains("continuation-token=t%2F1") {
            format!("{}{}{}", content("d/a-b"), prefix("d/a-/"), prefix("d/a/"))
        } else {
            let next = "<IsTruncated>true</IsTruncated><NextContinuationToken>t/1</NextContinuationToken>";
            format!("{}{}{next}", content("d/"), content("d/a"))
        };
        let body = format!("<ListBucketResult>{body}</ListBucketResult>");
        answer(&mut stream, "200 OK", &format!("Content-Length: {}\r\n", body.len()), body.as_bytes()).await;
    })
    .await;
    let store = store(&server);
    let first = store.list("d", None).await.unwrap();
    let second = store.list("d", first.next.as_deref()).await.unwrap();
    let names: Vec<_> =
        first.entries.iter().chain(&second.entries).map(|meta| (meta.name.as_str(), meta.kind)).collect();
    assert_eq!(names, [("a", ObjectKind::File), ("a-b", ObjectKind::File), ("a-", ObjectKind::Directory)]);
    assert!(second.next.is_none());
}

/// Takes a request's body, with a pause behind each 256 KiB.
async fn take_body(request: &scripted_server::Request, stream: &mut TcpStream, pause: Duration) {
    let mut left: usize = request.header("content-length").parse().unwrap_or(0);
    let mut buffer = vec![0; 256 << 10];
    while left > 0 {
        let length = left.min(buffer.len());
        stream.read_exact(&mut buffer[..length]).await.expect("the whole body");
        left -= length;
        tokio::time::sleep(pause).await;
    }
}

const INITIATED: &str = "<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>";

/// Uploads 9 MiB to a server that ends the upload with `end`; how it went, and the lines of all requests.
async fn upload_ending_with(end: &'static str, pause: Duration) -> (Result<u64, StoreError>, Vec<String>) {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let lines = Arc::clone(&seen);
    let server = ScriptedServer::start(move |_, request, mut stream| {
        lines.lock().expect("a lock").push(request.line.clone());
        async move {
            take_body(&request, &mut stream, pause).await;
            let body = match request.line.split(' ').next().unwrap_or_default() {
                "POST" if request.line.contains("?uploads=") => INITIATED,
                "POST" => end,
                _ => "",
            };
            let size = if request.line.starts_with("HEAD") { 9 << 20 } else { body.len() };
            let headers = format!("{META}Content-Length: {size}\r\n");
            answer(&mut stream, "200 OK", &headers, body.as_bytes()).await;
        }
    })
    .await;
    let store = store(&server);
    let mut upload = store.begin_upload("k", WriteMode::Replace, Some(9 << 20)).await.expect("begun");
    let written = upload.write(Bytes::from(vec![7; 9 << 20])).await;
    let ended = match written {
        Ok(()) => upload.finish().await.map(|meta| meta.size),
        Err(error) => Err(error),
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    let lines = seen.lock().expect("a lock").clone();
    (ended, lines)
}

const COMPLETED: &str = "<CompleteMultipartUploadResult><ETag>&quot;good&quot;</ETag></CompleteMultipartUploadResult>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_the_store_fails_at_its_end_is_an_error_and_taken_back() {
    let (ended, lines) = upload_ending_with(COMPLETED, Duration::ZERO).await;
    assert_eq!(ended.expect("a good end"), 9 << 20);
    assert!(!lines.iter().any(|line| line.starts_with("DELETE")), "{lines:?}");
    let failure = "<Error><Code>InternalError</Code><Message>we are sorry</Message></Error>";
    for end in [failure, "", "<html>"] {
        let (ended, lines) = upload_ending_with(end, Duration::ZERO).await;
        let error = ended.expect_err("the status says nothing, the document does");
        assert!(matches!(error.kind, ErrorKind::Unavailable | ErrorKind::Corrupt), "{error}");
        assert_eq!(
            lines.iter().filter(|line| line.starts_with("DELETE /bucket/k?uploadId=id ")).count(),
            1,
            "{lines:?}"
        );
    }
}

/// Parts take longer than an attempt may stay silent; they are on their way all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_line_is_no_silent_store() {
    let (ended, lines) = upload_ending_with(COMPLETED, Duration::from_millis(120)).await;
    assert_eq!(ended.expect("slow, but it arrives"), 9 << 20);
    assert_eq!(lines.iter().filter(|line| line.starts_with("PUT")).count(), 2, "sent once each: {lines:?}");
}

/// A server that answers what `is_meant` with `statuses` in turn, then well; and the lines of what was meant.
async fn failing(
    is_meant: fn(&str) -> bool,
    statuses: &'static [(&'static str, &'static str)],
) -> (ScriptedServer, Arc<std::sync::Mutex<Vec<String>>>) {
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let lines = Arc::clone(&seen);
    let server = ScriptedServer::start(move |_, request, mut stream| {
        let status = is_meant(&request.line).then(|| {
            let mut lines = lines.lock().expect("a lock");
            lines.push(request.line.clone());
            statuses.get(lines.len() - 1).copied()
        });
        async move {
            take_body(&request, &mut stream, Duration::ZERO).await;
            if let Some((status, body)) = status.flatten() {
                let headers = format!("Content-Length: {}\r\n", body.len());
                return answer(&mut stream, status, &headers, body.as_bytes()).await;
            }
            let body = match request.line.split(' ').next().unwrap_or_default() {
                "POST" if request.line.contains("?uploads=") => INITIATED,
                "POST" => COMPLETED,
                _ => "",
            };
            answer(&mut stream, "200 OK", &format!("{META}Content-Length: {}\r\n", body.len()), body.as_bytes()).await;
        }
    })
    .await;
    (server, seen)
}

async fn upload_of(server: &ScriptedServer, bytes: usize) -> Result<(), StoreError> {
    let store = store(server);
    let mut upload = store.begin_upload("k", WriteMode::Replace, Some(bytes as u64)).await?;
    upload.write(Bytes::from(vec![7; bytes])).await?;
    upload.finish().await.map(drop)
}

const NO_SUCH_UPLOAD: &str = "<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_be_done_twice_is_not_asked_twice() {
    let is_put: fn(&str) -> bool = |line| line.starts_with("PUT");
    let is_begin: fn(&str) -> bool = |line| line.starts_with("POST") && line.contains("?uploads=");
    let is_complete: fn(&str) -> bool = |line| line.starts_with("POST") && line.contains("?uploadId=");
    for status in ["500 Oops", "502 Bad Gateway", "504 Gateway Timeout", "409 Conflict"] {
        // Each answer is another static text, since the server outlives this loop's turn.
        let statuses: &'static [(&str, &str)] = Box::leak(Box::new([(status, "")]));
        let (server, seen) = failing(is_put, statuses).await;
        let error = store(&server).put("k", Bytes::from_static(b"x"), true).await.expect_err("a doubtful answer");
        assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        assert!(error.message.contains("not known"), "{error}");
        assert_eq!(seen.lock().expect("a lock").len(), 1, "a creation after {status}");
        let (server, seen) = failing(is_put, statuses).await;
        store(&server).put("k", Bytes::from_static(b"x"), false).await.expect("replaced twice is replaced");
        assert_eq!(seen.lock().expect("a lock").len(), 2, "a replacement after {status}");
        for is_meant in [is_begin, is_complete] {
            let (server, seen) = failing(is_meant, statuses).await;
            let error = upload_of(&server, 9 << 20).await.expect_err("a doubtful answer");
            assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
            assert_eq!(seen.lock().expect("a lock").len(), 1, "an upload after {status}: {error}");
        }
    }
    // A store that is too busy has not begun.
    for is_meant in [is_begin, is_complete] {
        let (server, seen) = failing(is_meant, &[("503 Slow Down", ""), ("429 Too Many Requests", "")]).await;
        upload_of(&server, 9 << 20).await.expect("busy, then not");
        assert_eq!(seen.lock().expect("a lock").len(), 3);
    }
    let (server, _) = failing(is_complete, &[("503 Slow Down", ""), ("404 Not Found", NO_SUCH_UPLOAD)]).await;
    let error = upload_of(&server, 9 << 20).await.expect_err("it may have been put together");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waits_for_any_more_is_not_put_together() {
    for bytes in [1, 9 << 20] {
        let (server, lines) = failing(|_| true, &[]).await;
        let store = store(&server);
        let mut upload = store.begin_upload("k", WriteMode::Replace, Some(bytes)).await.expect("begun");
        upload.write(Bytes::from(vec![7; bytes as usize])).await.expect("taken");
        upload.unless(Arc::new(AtomicBool::new(true)));
        assert_eq!(upload.finish().await.expect_err("nobody waits").kind, ErrorKind::Closed);
        let lines = lines.lock().expect("a lock").clone();
        let named = |line: &&String| line.starts_with("PUT /bucket/k ") || line.starts_with("POST /bucket/k?uploadId=");
        assert_eq!(lines.iter().filter(named).count(), 0, "{lines:?}");
        let aborted = lines.iter().filter(|line| line.starts_with("DELETE /bucket/k?uploadId=id ")).count();
        assert_eq!(aborted, usize::from(bytes > 1), "{lines:?}");
    }
}

#[tokio::test]
async fn sizes_that_no_object_has_are_refused_before_anything_is_sent() {
    let (server, lines) = failing(|_| true, &[]).await;
    let store = store(&server);
    let refused =
        store.begin_upload("k", WriteMode::Replace, Some((5 << 40) + 1)).await.map(drop).expect_err("too long");
    assert_eq!(refused.kind, ErrorKind::Unsupported, "{refused}");
    let mut upload = store.begin_upload("k", WriteMode::Replace, Some(3)).await.expect("begun");
    let more = upload.write(Bytes::from_static(b"1234")).await.expect_err("more than was announced");
    assert_eq!(more.kind, ErrorKind::Invalid, "{more}");
    drop(upload);
    assert!(lines.lock().expect("a lock").is_empty());
}

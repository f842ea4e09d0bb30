//! The HTTP server over real sockets: what it answers, what it refuses, and its limits.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use forebay_net::http::{
    BODY_BYTES_MAX, CONNECTIONS_MAX, HEAD_BYTES_MAX, HttpMethod, HttpRequest, HttpResponse, HttpServer, HttpService,
    HttpToken,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LONG: Duration = Duration::from_secs(30);

/// Says what it was asked.
#[derive(Default)]
struct Echo {
    asked: AtomicUsize,
}

impl HttpService for Echo {
    async fn answer(&self, request: HttpRequest) -> HttpResponse {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match request.path.as_str() {
            "/panic" => panic!("the service has a bug"),
            "/slow" => tokio::time::sleep(Duration::from_secs(3600)).await,
            "/styled" => return HttpResponse::new(200, "text/css", "x").with_header("cache-control", "max-age=60"),
            _ => {}
        }
        let HttpRequest { method, path, query, bearer, body } = request;
        HttpResponse::text(200, &format!("{method:?} {path} {query:?} {bearer:?} {}", body.len()))
    }

    fn is_public(&self, path: &str) -> bool {
        path == "/public"
    }
}

async fn server(address: &str, token: Option<HttpToken>) -> (HttpServer, String, Arc<Echo>) {
    let echo = Arc::new(Echo::default());
    let server = HttpServer::bind("master.http", address, token, Arc::clone(&echo)).await.unwrap();
    let port = server.local_address().rsplit(':').next().unwrap().to_string();
    (server, format!("127.0.0.1:{port}"), echo)
}

/// Sends bytes and reads to the end.
async fn exchange(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may refuse before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("an answer in time");
    String::from_utf8(answer).unwrap()
}

async fn get(address: &str, path: &str, headers: &str) -> String {
    exchange(address, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").as_bytes()).await
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("none")
}

#[tokio::test]
async fn requests_are_answered_with_headers_that_protect() {
    let (server, address, _) = server("127.0.0.1:0", None).await;
    let answer = get(&address, "/a%20b?x=%C3%A9&y", "Authorization: Bearer t\r\n").await;
    assert_eq!(status(&answer), "200");
    assert!(answer.ends_with("Get /a b [(\"x\", \"\u{e9}\"), (\"y\", \"\")] Some(\"t\") 0\n"), "{answer}");
    for header in ["x-content-type-options: nosniff", "frame-ancestors 'none'", "default-src 'self'", "no-store"] {
        assert!(answer.contains(header), "{header}: {answer}");
    }
    let answer = get(&address, "/styled", "").await;
    assert!(answer.contains("cache-control: max-age=60") && !answer.contains("no-store"), "{answer}");
    let answer = exchange(&address, b"HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(status(&answer) == "200" && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = exchange(&address, b"POST /p HTTP/1.1\r\nHost: [::1]:1\r\nContent-Length: 3\r\n\r\nabc").await;
    assert!(answer.ends_with(&format!("{:?} /p [] None 3\n", HttpMethod::Post)), "{answer}");
    server.shutdown().await;
    assert!(TcpStream::connect(&address).await.is_err(), "it still listens");
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_never_reaches_the_service() {
    let (_server, address, echo) = server("127.0.0.1:0", None).await;
    let post = |length: usize| format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    let large = [post(BODY_BYTES_MAX + 1).into_bytes(), vec![b'x'; BODY_BYTES_MAX + 1]].concat();
    let wide = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX));
    let many = format!("GET / HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "X: y\r\n".repeat(100));
    let cases: [(&str, &[u8], &str); 8] = [
        ("another site's name", b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "421"),
        ("no host", b"GET / HTTP/1.0\r\n\r\n", "421"),
        ("a method", b"DELETE / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
        ("no text", b"GET /%ff HTTP/1.1\r\nHost: localhost\r\n\r\n", "400"),
        ("no HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"),
        ("a large body", &large, "413"),
        ("a long header", wide.as_bytes(), "431"),
        ("many headers", many.as_bytes(), "431"),
    ];
    for (what, bytes, wanted) in cases {
        let answer = exchange(&address, bytes).await;
        assert_eq!(status(&answer), wanted, "{what}: {answer}");
    }
    assert_eq!(echo.asked.load(Ordering::SeqCst), 0);
    let whole = [post(BODY_BYTES_MAX).into_bytes(), vec![b'x'; BODY_BYTES_MAX]].concat();
    assert_eq!(status(&exchange(&address, &whole).await), "200", "the largest body is let in");
}

#[tokio::test]
async fn a_panic_is_one_answer() {
    let (_server, address, _) = server("127.0.0.1:0", None).await;
    assert_eq!(status(&get(&address, "/panic", "").await), "500");
    assert_eq!(status(&get(&address, "/", "").await), "200");
}

#[tokio::test]
async fn beyond_loopback_only_the_token_opens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "0123456789abcdef").unwrap();
    let token = HttpToken::load(Some(&path)).unwrap();
    let (_server, address, echo) = server("0.0.0.0:0", token).await;
    for wrong in ["", "Authorization: Bearer 0123456789abcdee\r\n", "Authorization: Basic 0123456789abcdef\r\n"] {
        let answer = get(&address, "/", wrong).await;
        assert!(status(&answer) == "401" && answer.contains("www-authenticate: Bearer"), "{answer}");
    }
    assert_eq!(echo.asked.load(Ordering::SeqCst), 0);
    assert_eq!(status(&get(&address, "/", "Authorization: Bearer 0123456789abcdef\r\n").await), "200");
    assert_eq!(status(&get(&address, "/public", "").await), "200");
    let (_server, address, _) = server("0.0.0.0:0", None).await;
    assert_eq!(status(&get(&address, "/", "Authorization: Bearer \r\n").await), "401", "no token lets nobody in");
}

#[tokio::test]
async fn a_taken_port_names_the_setting() {
    let (first, address, _) = server("127.0.0.1:0", None).await;
    let Err(error) = HttpServer::bind("master.http", &address, None, Arc::new(Echo::default())).await else {
        panic!("two servers on one port");
    };
    assert_eq!(error.message, format!("master.http {address}: is taken by another process: change master.http"));
    first.shutdown().await;
    let Err(error) = HttpServer::bind("master.http", "203.0.113.1:1", None, Arc::new(Echo::default())).await else {
        panic!("that address is no address of this host");
    };
    assert!(error.message.starts_with("master.http 203.0.113.1:1: cannot listen there"), "{error}");
}

/// Silent and slow connections fill the server; none is served beyond its number, and time frees it.
#[tokio::test]
async fn silent_connections_are_cut() {
    let (_server, address, echo) = server("127.0.0.1:0", None).await;
    let slow = tokio::spawn({
        let address = address.clone();
        async move { get(&address, "/slow", "").await }
    });
    while echo.asked.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut silent = Vec::new();
    for number in 0..CONNECTIONS_MAX {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap(),
            _ => stream.write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nx").await.unwrap(),
        }
        silent.push(stream);
    }
    // Waits in the kernel until one of the others is cut.
    assert_eq!(status(&get(&address, "/", "").await), "200");
    assert_eq!(echo.asked.load(Ordering::SeqCst), 2);
    for mut stream in silent {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut rest)).await.expect("it was cut");
    }
    let answer = tokio::time::timeout(LONG, slow).await.expect("an end").unwrap();
    assert_eq!(status(&answer), "504");
}

//! A bucket of an S3-compatible store as far as reads need it: HEAD and ranged, conditional GET over HTTP/1.1. It counts
//! requests and can go wrong on demand.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// How the bucket behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mood {
    /// As it should.
    Well,
    /// Takes requests and never answers.
    Silent,
    /// Ends the first answer of an object after a page and a half, and those that go on from there at once.
    Short,
    /// 403 for everything.
    Forbidding,
}

struct State {
    objects: BTreeMap<String, (Vec<u8>, u32)>,
    mood: Mood,
    gets: Vec<(u64, u64)>,
}

/// The bucket; it ends with this value.
pub(crate) struct Bucket {
    state: Arc<Mutex<State>>,
    port: u16,
    accepting: JoinHandle<()>,
}

impl Bucket {
    pub(crate) async fn new() -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { objects: BTreeMap::new(), mood: Mood::Well, gets: Vec::new() }));
        let shared = state.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Bucket { state, port, accepting }
    }

    /// Options of a mount on it.
    pub(crate) fn options(&self) -> Vec<(String, String)> {
        let endpoint = format!("http://127.0.0.1:{}", self.port);
        [("endpoint", endpoint.as_str()), ("access_key", "a"), ("secret_key", "b")]
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .to_vec()
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap();
        let revision = state.objects.get(key).map_or(1, |(_, revision)| revision + 1);
        state.objects.insert(key.into(), (bytes.to_vec(), revision));
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// First byte and length of each GET until now.
    pub(crate) fn gets(&self) -> Vec<(u64, u64)> {
        self.state.lock().unwrap().gets.clone()
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(request)) = lines.next_line().await {
        let mut headers = BTreeMap::new();
        while let Ok(Some(line)) = lines.next_line().await {
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.trim().to_ascii_lowercase(), value.trim().to_string());
        }
        let mood = state.lock().unwrap().mood;
        if mood == Mood::Silent {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        let (head, body) = answer(&request, &headers, &state);
        let short = mood == Mood::Short && !body.is_empty();
        let left = if headers.get("range").is_some_and(|range| range.starts_with("bytes=0-")) { 3 << 19 } else { 0 };
        let sent = if short { &body[..left.min(body.len())] } else { &body[..] };
        if write.write_all(head.as_bytes()).await.is_err() || write.write_all(sent).await.is_err() || short {
            return;
        }
    }
}

fn answer(request: &str, headers: &BTreeMap<String, String>, state: &Mutex<State>) -> (String, Vec<u8>) {
    let mut state = state.lock().unwrap();
    let status = |line: &str| (format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n"), Vec::new());
    if state.mood == Mood::Forbidding {
        return status("403 Forbidden");
    }
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let key = path.split('?').next().unwrap_or("").trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
    let Some((bytes, revision)) = state.objects.get(key).cloned() else { return status("404 Not Found") };
    let etag = format!("\"r{revision}\"");
    if headers.get("if-match").is_some_and(|wanted| *wanted != etag) {
        return status("412 Precondition Failed");
    }
    let facts = format!("etag: {etag}\r\nlast-modified: Mon, 06 Jan 2025 10:00:00 GMT\r\n");
    if method == "HEAD" {
        return (format!("HTTP/1.1 200 OK\r\n{facts}content-length: {}\r\n\r\n", bytes.len()), Vec::new());
    }
    let range = headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let (first, last) = match range {
        Some((first, last)) => (first.parse().unwrap(), last.parse::<usize>().unwrap().min(bytes.len() - 1)),
        None => (0, bytes.len() - 1),
    };
    let part = bytes[first..=last].to_vec();
    state.gets.push((first as u64, part.len() as u64));
    let head = format!(
        "HTTP/1.1 206 Partial Content\r\n{facts}content-range: bytes {first}-{last}/{}\r\ncontent-length: {}\r\n\r\n",
        bytes.len(),
        part.len()
    );
    (head, part)
}

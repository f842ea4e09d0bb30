//! An HTTP server that answers as a test tells it to: for what no well-behaved store does.

use std::{future::Future, net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A request's first line and headers, in lower case but for the first line.
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// A header; empty if it is missing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// Listens until it is dropped.
pub(crate) struct ScriptedServer {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl ScriptedServer {
    /// `answer` gets each request with its number, from 0, and the connection, which is closed when it returns.
    pub(crate) async fn start<F, T>(answer: F) -> ScriptedServer
    where
        F: Fn(usize, Request, TcpStream) -> T + Send + Sync + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let answer = Arc::new(answer);
        let task = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((mut stream, _)) = listener.accept().await {
                let Some(request) = read_request(&mut stream).await else { continue };
                tokio::spawn(answer(number, request, stream));
                number += 1;
            }
        });
        ScriptedServer { address, task }
    }

    /// `http://127.0.0.1:port`.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for ScriptedServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let line = lines.next()?.to_string();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_string())).collect();
    Some(Request { line, headers })
}

/// Writes a whole answer; `headers` are lines with their line ends.
pub(crate) async fn answer(stream: &mut TcpStream, status: &str, headers: &str, body: &[u8]) {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(body).await;
    let _ = stream.flush().await;
}

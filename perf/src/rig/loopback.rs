//! The limit of the wire: a process that answers a fixed request with as many bytes as it was asked for, over plain
//! loopback TCP with Nagle off.

use super::{Rig, WireTarget};
use anyhow::{Context, Result};
use forebay_tests::{Process, free_port};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Bytes of a request: about what a Forebay read takes. The first four say how many bytes to answer.
pub(crate) const REQUEST_BYTES: usize = 96;

pub(crate) struct Loopback {
    process: Process,
    address: String,
}

impl Loopback {
    pub(crate) fn start(folder: &Path) -> Result<Self> {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(std::env::current_exe().context("own executable")?);
        command.args(["answer", &address]);
        let mut process = Process::start("loopback", &mut command, &folder.join("loopback.log"));
        process.wait_for_log("ready", Duration::from_secs(10));
        Ok(Self { process, address })
    }
}

impl Rig for Loopback {
    fn name(&self) -> &str {
        "loopback TCP"
    }

    fn version(&self) -> String {
        "the harness's own answerer, a thread a connection, nothing checked".into()
    }

    fn commands(&self) -> Vec<String> {
        vec!["forebay-perf answer 127.0.0.1:PORT".into()]
    }

    fn processes(&self) -> Vec<(String, u32)> {
        vec![("answerer".into(), self.process.pid())]
    }

    fn wire(&self) -> Option<WireTarget> {
        Some(WireTarget::Plain { address: self.address.clone() })
    }

    fn empty(&mut self) -> Result<()> {
        Ok(())
    }
}

/// Serves until it is killed.
pub(crate) fn answer(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| address.to_string())?;
    println!("ready");
    for stream in listener.incoming() {
        let stream = stream?;
        std::thread::spawn(move || answer_one(stream));
    }
    Ok(())
}

fn answer_one(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut request = [0u8; REQUEST_BYTES];
    let mut bytes = vec![7u8; 1 << 20];
    loop {
        stream.read_exact(&mut request)?;
        let length = u32::from_le_bytes([request[0], request[1], request[2], request[3]]) as usize;
        if length > bytes.len() {
            bytes.resize(length, 7);
        }
        stream.write_all(&bytes[..length])?;
    }
}

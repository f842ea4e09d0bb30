//! A worker's protocol spoken directly: one call at a time on each connection, every unit checked, as the client does
//! over TCP. Beside it the same sizes over plain TCP.

use crate::data_set::{DataSet, MIDDLE_BYTES, MIDDLE_FILES};
use crate::results::Sample;
use crate::rig::WireTarget;
use crate::rig::loopback::REQUEST_BYTES;
use anyhow::{Context, Result, bail};
use forebay_base::settings::{Overrides, load};
use forebay_base::{ClusterId, FileId, placement, unit_checksums};
use forebay_client::{Client, ClientConfig};
use forebay_net::message::data::{Read, ReadItem};
use forebay_net::message::handshake::Role;
use forebay_net::message::namespace::OpenRead;
use forebay_net::transport::tokio::Connection;
use forebay_net::{Endpoint, Identity};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const DEADLINE: Duration = Duration::from_secs(10);

/// One connection that answers calls.
enum Lane {
    Plain { stream: TcpStream, buffer: Vec<u8> },
    Forebay { connection: Connection, file_id: u64, version: u64, ticket: Vec<u8> },
}

impl Lane {
    async fn call(&mut self, offset: u64, bytes: u32) -> Result<()> {
        match self {
            Self::Plain { stream, buffer } => {
                let mut request = [0u8; REQUEST_BYTES];
                request[..4].copy_from_slice(&bytes.to_le_bytes());
                stream.write_all(&request).await?;
                buffer.resize(bytes as usize, 0);
                stream.read_exact(buffer).await?;
            }
            Self::Forebay { connection, file_id, version, ticket } => {
                let item = ReadItem {
                    file_id: *file_id,
                    version: *version,
                    offset,
                    length: bytes,
                    // Once a connection.
                    ticket: std::mem::take(ticket),
                };
                let request = Read { items: vec![item], want_checksums: true, waited_ms: 0 };
                let (reply, payload) = connection.call_payload(&request, DEADLINE).await?;
                let status = reply.results.first().map(|result| (result.status, result.message.clone()));
                if status.as_ref().is_none_or(|(status, _)| *status != 0) || payload.len() != bytes as usize {
                    bail!("a read of {bytes} bytes at {offset}: {status:?}, {} bytes", payload.len());
                }
                if !unit_checksums(&payload).eq(reply.checksums.iter().copied()) {
                    bail!("a read of {bytes} bytes at {offset} does not match its checksums");
                }
            }
        }
        Ok(())
    }
}

async fn forebay_lanes(config: &Path, count: usize) -> Result<Vec<Lane>> {
    let text = std::fs::read_to_string(config)?;
    let settings = load(&text, &Overrides::default())?.settings;
    let client_config = ClientConfig::new(&settings, Role::Frontend)?;
    let secret = client_config.secret.clone();
    let client = Client::connect(client_config).await?;
    let map = client.cluster_map().await;
    let worker = map.workers.first().context("a worker")?;
    let identity = Identity { role: Role::Frontend, cluster_id: ClusterId(map.cluster_id), secret };
    let mut lanes = Vec::new();
    for index in 0..count {
        let path = format!("/data/{}", DataSet::middle_name(index % MIDDLE_FILES));
        let attr = client.resolve(path.as_bytes()).await?;
        let opened = client.master(&OpenRead { files: vec![(attr.file_id, attr.version)] }).await?;
        let opened = opened.files.into_iter().next().context("an answer for the file")?;
        let shard = placement::shard_of(FileId(attr.file_id), worker.shards.len() as u16);
        let endpoint = Endpoint::Tcp(worker.shards[usize::from(shard.0)].tcp.clone());
        let connection = Connection::connect(&endpoint, &identity, DEADLINE).await?;
        lanes.push(Lane::Forebay { connection, file_id: attr.file_id, version: attr.version, ticket: opened.ticket });
    }
    Ok(lanes)
}

async fn plain_lanes(address: &str, count: usize) -> Result<Vec<Lane>> {
    let mut lanes = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        lanes.push(Lane::Plain { stream, buffer: Vec::new() });
    }
    Ok(lanes)
}

pub(crate) async fn measure(target: &WireTarget, bytes: u32, connections: usize, seconds: u64) -> Result<Sample> {
    let lanes = match target {
        WireTarget::Plain { address } => plain_lanes(address, connections).await?,
        WireTarget::Forebay { config } => forebay_lanes(config, connections).await?,
    };
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let running = lanes.into_iter().enumerate().map(|(number, mut lane)| {
        tokio::spawn(async move {
            let (mut took_us, mut word) = (Vec::new(), number as u64 + 1);
            let places = MIDDLE_BYTES as u64 / u64::from(bytes);
            while Instant::now() < until {
                word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let asked = Instant::now();
                lane.call((word >> 33) % places * u64::from(bytes), bytes).await?;
                took_us.push(asked.elapsed().as_secs_f64() * 1e6);
            }
            anyhow::Ok(took_us)
        })
    });
    let mut took_us = Vec::new();
    for lane in futures::future::join_all(running).await {
        took_us.extend(lane??);
    }
    took_us.sort_by(f64::total_cmp);
    let at = |share: f64| took_us.get((took_us.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let operations = took_us.len() as u64;
    let mut sample = Sample {
        seconds: started.elapsed().as_secs_f64(),
        operations,
        bytes: operations * u64::from(bytes),
        ..Sample::default()
    };
    sample.more.insert("p50_us".into(), at(0.5));
    sample.more.insert("p99_us".into(), at(0.99));
    Ok(sample)
}

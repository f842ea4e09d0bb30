//! `fs location`: which workers and cores own the blocks of files, and who holds how much of them.

use super::list::cached_json;
use super::paths::{Named, files};
use crate::arguments::Location;
use crate::failure::Failure;
use crate::output::{Output, table};
use forebay_base::{BlockIndex, ByteSize, FileId, ShardId, Version, WorkerId};
use forebay_client::Client;
use forebay_client::message::data::{BlockBytes, CachedBytes};
use serde_json::{Value, json};

const WHAT: &str = "fs location";

struct Holder {
    worker: WorkerId,
    shard: ShardId,
    address: String,
    owner: bool,
    cached: CachedBytes,
}

/// Shows where files are and belong.
pub(crate) async fn location(client: &Client, arguments: Location) -> Result<(), Failure> {
    let all = files(client, WHAT, &arguments.paths).await?;
    let mut output = Output::open();
    for (index, named) in all.iter().enumerate() {
        let file = FileId(named.attr.file_id);
        let held = client.cached_blocks(file, Version(named.attr.version)).await;
        let held = held.map_err(|error| Failure::of(WHAT, &named.shown(), &error))?;
        let blocks = named.attr.size.div_ceil(named.attr.block_bytes.max(1)).max(1);
        let placed = (0..blocks as u32).map(|block| (block, holders(client, file, BlockIndex(block), &held)));
        if arguments.json {
            let blocks: Vec<Value> = placed.map(|(block, holders)| json_block(named, block, &holders)).collect();
            let value = json!({ "path": String::from_utf8_lossy(&named.path), "blocks": blocks });
            output.line(&value.to_string())?;
        } else {
            let rows: Vec<_> = placed.flat_map(|(block, holders)| text_rows(block, &holders)).collect();
            let gap = if index > 0 { "\n" } else { "" };
            output.line(&format!("{gap}{}  {} in {blocks} blocks", named.shown(), ByteSize(named.attr.size)))?;
            let heading = ["BLOCK", "WORKER", "CORE", "ADDRESS", "", "HOLDS", "MEM", "SSD", "HDD"];
            table(&mut output, &heading, &[0, 2, 5, 6, 7, 8], &rows)?;
        }
    }
    output.flush()
}

fn holders(client: &Client, file: FileId, block: BlockIndex, held: &[(WorkerId, Vec<BlockBytes>)]) -> Vec<Holder> {
    let ranked = client.owners(file, block);
    let all = ranked.into_iter().enumerate().map(|(rank, (worker, shard, address))| {
        let blocks = held.iter().find(|(id, _)| *id == worker).map_or(&[][..], |(_, blocks)| blocks);
        let cached = blocks.iter().find(|held| held.block == block.0).map(|held| held.cached).unwrap_or_default();
        Holder { worker, shard, address, owner: rank == 0, cached }
    });
    all.filter(|holder| holder.owner || holder.cached.any_bytes > 0).collect()
}

fn text_rows(block: u32, holders: &[Holder]) -> Vec<Vec<String>> {
    let row = |holder: &Holder| {
        vec![
            block.to_string(),
            format!("{:016x}", holder.worker.0),
            holder.shard.to_string(),
            holder.address.clone(),
            if holder.owner { "owner" } else { "holds" }.into(),
            ByteSize(holder.cached.any_bytes).to_string(),
            ByteSize(holder.cached.mem_bytes).to_string(),
            ByteSize(holder.cached.ssd_bytes).to_string(),
            ByteSize(holder.cached.hdd_bytes).to_string(),
        ]
    };
    holders.iter().map(row).collect()
}

fn json_block(named: &Named, block: u32, holders: &[Holder]) -> Value {
    let start = u64::from(block) * named.attr.block_bytes;
    let bytes = named.attr.size.saturating_sub(start).min(named.attr.block_bytes);
    let holder = |holder: &Holder| {
        json!({
            "worker_id": format!("{:016x}", holder.worker.0),
            "core": holder.shard.0,
            "address": holder.address,
            "owner": holder.owner,
            "cached": cached_json(&holder.cached),
        })
    };
    let holders: Vec<_> = holders.iter().map(holder).collect();
    json!({ "block": block, "offset": start, "bytes": bytes, "workers": holders })
}

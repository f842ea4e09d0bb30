//! Records of the journal's files (docs/formats/journal.md). Pure.
//!
//! A record: body length (u32), CRC32C of the body (u32), body; the body's first byte is its kind. Little-endian.

use super::consensus::{Batch, Entry, LogId, Vote};
use crate::namespace::Command;
use forebay_base::crc32c;
use forebay_net::message::Wire;
use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use rkyv::{Archive, Deserialize, Serialize};
use std::sync::Arc;

/// Bytes before a record's body.
pub(super) const RECORD_HEADER_BYTES: usize = 8;
/// Longest body: a batch of commands of at most 1,000 names each stays far below.
pub(super) const BODY_BYTES_MAX: usize = 256 << 20;

/// A record's content.
#[derive(Debug)]
pub(super) enum Record {
    Entry(Entry),
    Vote(Vote),
    Committed(Option<LogId>),
    /// Entries behind this one are void.
    TruncateAfter(Option<LogId>),
    /// Entries up to this one are in the flushed state.
    Purge(LogId),
}

#[derive(Archive, Serialize, Deserialize)]
struct Commands {
    commands: Vec<Command>,
}

const BLANK: u8 = 1;
const COMMANDS: u8 = 2;
const MEMBERSHIP: u8 = 3;
const VOTE: u8 = 4;
const COMMITTED: u8 = 5;
const TRUNCATE: u8 = 6;
const PURGE: u8 = 7;

fn put_log_id(out: &mut Vec<u8>, log_id: &LogId) {
    for number in [log_id.leader_id.term, log_id.leader_id.node_id, log_id.index] {
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn put_optional(out: &mut Vec<u8>, log_id: Option<&LogId>) {
    out.push(u8::from(log_id.is_some()));
    if let Some(log_id) = log_id {
        put_log_id(out, log_id);
    }
}

fn take_log_id(bytes: &[u8]) -> Result<(LogId, &[u8]), String> {
    let (head, rest) = bytes.split_first_chunk::<24>().ok_or("the log id is cut off")?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let leader_id = LeaderId { term: number(0), node_id: number(8) };
    Ok((LogId { leader_id, index: number(16) }, rest))
}

fn take_optional(bytes: &[u8]) -> Result<Option<LogId>, String> {
    match bytes {
        [0] => Ok(None),
        [1, rest @ ..] => Ok(Some(take_log_id(rest)?.0)),
        _ => Err("the optional log id is malformed".into()),
    }
}

impl Record {
    /// Appends the record, header and all.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER_BYTES]);
        match self {
            Record::Entry(entry) => match &entry.payload {
                EntryPayload::Blank => {
                    out.push(BLANK);
                    put_log_id(out, &entry.log_id);
                }
                EntryPayload::Normal(batch) => {
                    out.push(COMMANDS);
                    put_log_id(out, &entry.log_id);
                    let commands = Commands { commands: batch.commands.to_vec() };
                    out.extend_from_slice(&commands.to_bytes());
                }
                EntryPayload::Membership(membership) => {
                    out.push(MEMBERSHIP);
                    put_log_id(out, &entry.log_id);
                    out.extend(serde_json::to_vec(membership).expect("a membership is plain data"));
                }
            },
            Record::Vote(vote) => {
                out.push(VOTE);
                out.extend(serde_json::to_vec(vote).expect("a vote is plain data"));
            }
            Record::Committed(log_id) => {
                out.push(COMMITTED);
                put_optional(out, log_id.as_ref());
            }
            Record::TruncateAfter(log_id) => {
                out.push(TRUNCATE);
                put_optional(out, log_id.as_ref());
            }
            Record::Purge(log_id) => {
                out.push(PURGE);
                put_log_id(out, log_id);
            }
        }
        let body = &out[start + RECORD_HEADER_BYTES..];
        let (length, crc) = (body.len() as u32, crc32c(body));
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a body whose CRC was right.
    pub(super) fn decode(body: &[u8]) -> Result<Record, String> {
        let (kind, rest) = body.split_first().ok_or("the record is empty")?;
        Ok(match *kind {
            BLANK => Record::Entry(Entry { log_id: take_log_id(rest)?.0, payload: EntryPayload::Blank }),
            COMMANDS => {
                let (log_id, bytes) = take_log_id(rest)?;
                let commands = Commands::from_bytes(bytes).map_err(|error| error.to_string())?.commands;
                Record::Entry(Entry { log_id, payload: EntryPayload::Normal(Batch { commands: Arc::new(commands) }) })
            }
            MEMBERSHIP => {
                let (log_id, bytes) = take_log_id(rest)?;
                let membership = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
                Record::Entry(Entry { log_id, payload: EntryPayload::Membership(membership) })
            }
            VOTE => Record::Vote(serde_json::from_slice(rest).map_err(|error| error.to_string())?),
            COMMITTED => Record::Committed(take_optional(rest)?),
            TRUNCATE => Record::TruncateAfter(take_optional(rest)?),
            PURGE => Record::Purge(take_log_id(rest)?.0),
            other => return Err(format!("unknown record kind {other}")),
        })
    }
}

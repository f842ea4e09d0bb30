//! Calls of programs that change something, from mounts; each runs to its end once it has begun.

use super::{MasterService, bounded, ids, to_its_end};
use forebay_base::{ErrorKind, FileId, KindError};
use forebay_net::message::change::{
    CreateFile, GrantSession, HoldSessions, MakeDirectory, RecordSaved, Remove, Rename, SetAttr,
};
use forebay_net::message::handshake::Role;
use forebay_net::message::{Empty, Wire};
use forebay_net::{Op, Peer, decode};
use rkyv::util::AlignedVec;
use std::sync::Arc;

impl MasterService {
    pub(super) async fn answer_changes(&self, peer: &Peer, op: Op, body: &[u8]) -> Result<AlignedVec, KindError> {
        let is_saver = peer.role == Role::Worker && op == Op::RecordSaved;
        if !matches!(peer.role, Role::Frontend | Role::Admin) && !is_saver {
            let message = format!("{op:?}: the role {:?} may not do this", peer.role);
            return Err(KindError::new(ErrorKind::Denied, message));
        }
        let tree = Arc::clone(&self.tree);
        Ok(match op {
            Op::CreateFile => {
                let request: CreateFile = decode(body)?;
                to_its_end(async move { tree.create_file(&request).await }).await?.to_bytes()
            }
            Op::GrantSession => {
                let request: GrantSession = decode(body)?;
                tree.grant_session(FileId(request.file_id), request.client_id, request.base_version).await?.to_bytes()
            }
            Op::RecordSaved => {
                let request: RecordSaved = decode(body)?;
                let RecordSaved { file_id, fingerprint } = request;
                to_its_end(async move { tree.record_saved(FileId(file_id), &fingerprint).await }).await?.to_bytes()
            }
            Op::HoldSessions => {
                let request: HoldSessions = decode(body)?;
                bounded(request.file_ids.len(), op)?;
                tree.sessions.renew(&ids(&request.file_ids), request.client_id);
                Empty::default().to_bytes()
            }
            Op::MakeDirectory => {
                let request: MakeDirectory = decode(body)?;
                to_its_end(async move { tree.make_directory(&request).await }).await?.to_bytes()
            }
            Op::Remove => {
                let request: Remove = decode(body)?;
                to_its_end(async move { tree.remove(&request).await }).await?;
                Empty::default().to_bytes()
            }
            Op::Rename => {
                let request: Rename = decode(body)?;
                to_its_end(async move { tree.rename(&request).await }).await?.to_bytes()
            }
            _ => {
                let request: SetAttr = decode(body)?;
                to_its_end(async move { tree.set_attr(&request).await }).await?.to_bytes()
            }
        })
    }
}

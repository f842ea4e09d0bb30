//! Calls of the operator about paths: looks at the store on demand, changes of mounts, policies.

use super::{MasterService, require, to_its_end};
use forebay_base::{FileId, KindError};
use forebay_net::message::handshake::Role;
use forebay_net::message::namespace::{
    ListPathPolicies, ListPathPoliciesReply, ListPins, ListPinsReply, Refresh, RemovePathPolicy, SetPathPolicy,
    UpdateMount,
};
use forebay_net::message::{Empty, Wire};
use forebay_net::{Op, Peer, decode};
use rkyv::util::AlignedVec;
use std::sync::Arc;

impl MasterService {
    pub(super) async fn answer_paths(&self, peer: &Peer, op: Op, body: &[u8]) -> Result<AlignedVec, KindError> {
        let policies = &self.tree.policies;
        if op == Op::ListPathPolicies {
            let _: ListPathPolicies = decode(body)?;
            return Ok(ListPathPoliciesReply { policies: policies.list() }.to_bytes());
        }
        if op == Op::ListPins {
            let _: ListPins = decode(body)?;
            return Ok(ListPinsReply { pins: self.pins.list() }.to_bytes());
        }
        require(peer, Role::Admin, op)?;
        match op {
            Op::Refresh => {
                let request: Refresh = decode(body)?;
                Ok(self.tree.refresh(FileId(request.file_id), request.apply).await?.to_bytes())
            }
            Op::UpdateMount => {
                let (request, mounts) = (decode::<UpdateMount>(body)?, Arc::clone(&self.mounts));
                Ok(to_its_end(async move { mounts.update(request).await }).await?.to_bytes())
            }
            Op::SetPathPolicy => {
                let request: SetPathPolicy = decode(body)?;
                let (policies, mounts) = (Arc::clone(policies), Arc::clone(&self.mounts));
                Ok(to_its_end(async move { policies.set(&mounts, request.policy).await }).await?.to_bytes())
            }
            _ => {
                let request: RemovePathPolicy = decode(body)?;
                let policies = Arc::clone(policies);
                to_its_end(async move { policies.remove(request.path).await }).await?;
                Ok(Empty::default().to_bytes())
            }
        }
    }
}

//! What went wrong, as an errno for the caller and a line for a person. Shared by all threads.

use super::log_gate::LogGate;
use super::node_table::NodeTable;
use crate::errno::errno_of;
use crate::handler::Errno;
use forebay_base::KindError;
use std::sync::Arc;

/// Says it, not too often.
pub(super) struct Failures {
    nodes: Arc<NodeTable>,
    gate: LogGate,
}

impl Failures {
    pub(super) fn new(nodes: Arc<NodeTable>) -> Self {
        Self { nodes, gate: LogGate::new() }
    }

    /// The errno for a failure of `what` on a node; says in the log what a person should know.
    pub(super) fn errno(&self, what: &str, node: u64, error: &KindError) -> Errno {
        let errno = errno_of(error.kind);
        if matches!(errno, Errno::IO | Errno::STALE | Errno::NOSPC)
            && let Some(left_out) = self.gate.pass()
        {
            let path = self.nodes.path(node);
            let file_id = self.nodes.with(node, |node| node.file_id.0).unwrap_or(0);
            if errno == Errno::STALE {
                tracing::info!(path, file_id, left_out, "the file changed, {what} answers ESTALE: {error}");
            } else {
                tracing::warn!(path, file_id, left_out, "{what} failed ({}): {error}", error.kind);
            }
        }
        errno
    }
}

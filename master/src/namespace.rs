//! The namespace: partitions that each hold directories, their entries and inodes, and the commands that change them.
//!
//! Pure and deterministic: no clock, no randomness, no I/O. The same commands in the same order give the same state,
//! whatever the number of cores (`cores.rs` runs it; a property test holds it to that).

mod apply;
mod change;
pub(crate) mod command;
mod inode;
mod job;
mod partition;
#[cfg(test)]
mod tests;

pub(crate) use apply::apply;
pub(crate) use apply::{lies_in, mount_conflict};
pub(crate) use command::{
    Command, MountRecord, Move, NewAttributes, NewFile, NewKey, Outcome, PolicyRecord, Reap, Removal, Step,
    SyncDirectory, Upsert,
};
pub(crate) use inode::{Dentry, Inode};
pub(crate) use job::{JobFailure, JobPlace, JobRecord, JobSpec, JobStep, JobTally};
pub(crate) use partition::{DirtyRow, Partition, Partitions};

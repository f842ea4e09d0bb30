//! A whole cluster on this host in one directory: `up` and `down`.
//!
//! Invariants: a process is signalled only after its executable and its configuration show that it is ours; what `up`
//! did not start, a failing `up` does not stop.

mod down;
mod layout;
mod log_file;
pub(crate) mod mountinfo;
mod process;
mod up;

pub(crate) use down::down;
pub(crate) use up::up;

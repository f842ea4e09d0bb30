//! The worker as clients and the master see it: a real process, read over its real ports.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should fail where it stands")]

mod bucket;
mod cluster;
mod errors;
mod handout;
mod life;
mod object_store;
mod reads;
mod sessions;
mod uploads;

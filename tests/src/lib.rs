//! What the tests of the whole system stand on: real processes of every role, a real S3 server, a real browser,
//! loop-mounted disks that can break, and data that can be checked byte for byte without keeping a copy.
//!
//! One cluster runs at a time on a machine, whatever the number of test processes (`turn`). Everything started is
//! stopped when the test ends, also when it panics.

mod binaries;
mod browser;
mod cli;
mod cluster;
mod disk;
mod http;
mod mapping;
mod pattern;
mod ports;
mod process;
pub mod prometheus;
mod report;
mod s3_put;
mod s3_server;
mod tree;
mod turn;
mod wait;

pub use binaries::binary;
pub use browser::Browser;
pub use cli::{Cli, CliOutput};
pub use cluster::{Cluster, HttpPorts, Options};
pub use disk::LoopDisk;
pub use http::{HttpAnswer, http};
pub use mapping::Mapping;
pub use pattern::Pattern;
pub use ports::{free_port, free_ports};
pub use process::Process;
pub use report::{Report, TierUse, WorkerUse};
pub use s3_put::Bucket;
pub use s3_server::{ACCESS_KEY, S3Server, SECRET_KEY};
pub use tree::{disk_use_bytes, drop_cached, each_file, spread};
pub use turn::Turn;
pub use wait::{eventually, within};

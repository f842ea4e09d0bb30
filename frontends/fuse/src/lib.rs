//! The FUSE frontend: a mount of the whole namespace, read and written through the kernel.
//!
//! `wire` is the kernel's protocol (pure), `device` and `mount` are the only places that touch /dev/fuse and mount(2),
//! `session` moves requests between the kernel and a `Handler`, and `fs` is Forebay's handler. Nothing in `fs` knows of
//! the transport, and nothing in `session` knows of Forebay (docs/decisions/0007-fuse-transport.md).

mod buffers;
mod device;
mod dispatch;
mod errno;
mod error;
pub mod fs;
pub mod handler;
mod interrupts;
mod metrics;
pub mod mount;
mod run;
pub mod session;
pub mod wire;

pub use errno::errno_of;
pub use error::FuseError;
pub use metrics::FuseMetrics;
/// Every metric of a mount but those of its process and its client.
pub const METRICS: &[forebay_base::metrics::MetricDef] = <FuseMetrics as forebay_base::metrics::Table>::DEFS;
pub use run::run;

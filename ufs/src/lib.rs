//! Under stores behind one trait. The only home of tokio storage libraries; nothing here runs on a worker's core.
//!
//! Every backend passes `conformance`, which is exported so that others can be held to it.

pub mod conformance;
mod failure;
mod gate;
mod key;
mod local;
mod open;
mod options;
mod s3;
mod under_store;
mod upload;
mod uri;

pub use open::open;
pub use options::{StoreLimits, StoreOption, is_secret_option, known_options};
pub use under_store::{AttributeChange, ListPage, ObjectKind, ObjectMeta, ReadStream, StoreError, UnderStore};
pub use upload::{Upload, WriteMode};
pub use uri::{StoreUri, parse_uri};

//! Under stores behind one trait. The only home of tokio storage libraries; nothing here runs on a worker's core.
//!
//! Every backend passes `conformance`, which is exported so that others can be held to it.

mod under_store;

pub use under_store::{ListPage, ObjectKind, ObjectMeta, ReadStream, StoreError, UnderStore};

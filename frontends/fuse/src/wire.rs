//! The FUSE protocol as the kernel speaks it (include/uapi/linux/fuse.h, 7.31 and later). Pure: bytes in, bytes out.
//!
//! Invariant: `decode` never panics, whatever the bytes, and never reads behind the length in the header.

mod abi;
mod decode;
mod encode;
mod operation;

pub use abi::{
    FOPEN_DIRECT_IO, FOPEN_KEEP_CACHE, FOPEN_NOFLUSH, FOPEN_PASSTHROUGH, GETATTR_FH, INIT_FLAGS_WANTED, KERNEL_MAJOR,
    KERNEL_MINOR, KERNEL_MINOR_MIN, PASSTHROUGH, ROOT_NODE,
};
pub use decode::{DecodeError, decode};
pub use encode::{
    DirBuffer, InitReply, attr_reply, create_reply, entry_reply, init_reply, open_reply, out_header, stat_fs_reply,
    write_reply,
};
pub use operation::{AttrChange, Caller, Init, Operation, Request, SetTime, refusal};

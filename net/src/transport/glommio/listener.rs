//! A glommio TCP listener on a port that is this process's alone.
//!
//! glommio's own `bind` sets SO_REUSEPORT, with which two processes share a port and each gets half of the other's
//! clients. Binding with the standard library and handing the socket over leaves no moment in which that can happen.
#![expect(unsafe_code, reason = "glommio takes a listening socket only as a raw descriptor")]

use crate::transport::{listen_error, set_tcp_options};
use forebay_base::KindError;
use glommio::net::TcpListener;
use std::os::fd::{FromRawFd, IntoRawFd};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens; gives the listener and its `host:port` with the real port.
pub(super) fn listen(address: &str) -> Result<(TcpListener, String), KindError> {
    let failed = |error: std::io::Error| listen_error(address, &error);
    let socket = std::net::TcpListener::bind(address).map_err(failed)?;
    set_tcp_options(&socket).map_err(failed)?;
    rustix::net::listen(&socket, BACKLOG).map_err(|error| failed(error.into()))?;
    let local = socket.local_addr().map_err(failed)?.to_string();
    // SAFETY: the descriptor is an open listening TCP socket, and `into_raw_fd` gives up its only owner.
    let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
    Ok((listener, local))
}

//! The wire over real sockets. Each runtime has its own module and appears in no other file of this crate.
//!
//! `tokio` serves clients and masters, `glommio` the workers' cores (docs/decisions/0001-runtimes.md).

pub mod descriptors;
pub mod glommio;
mod reply;
mod socket_path;
pub mod tokio;

use forebay_base::KindError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Requests of one connection that run at once; beyond it the server stops reading from that connection.
pub const IN_FLIGHT_MAX: usize = 256;
/// Connections of one server; a further one is told `Overloaded`.
pub const CONNECTIONS_MAX: usize = 4096;
/// How long a client may take over its handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A request's deadline is at most this, and exactly this where the frame says 0.
pub const DEADLINE_MAX: Duration = Duration::from_secs(600);

/// How long one write may wait for a peer that does not read before the connection is given up.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Receive buffer of a connection, in bytes; what does not fit is read straight to where it belongs.
const RECEIVE_BUFFER_BYTES: usize = 16 << 10;
/// A received payload begins at a multiple of this, in bytes.
const PAYLOAD_ALIGN_BYTES: usize = 4096;
/// Pieces up to this many bytes are copied together into one write.
const COALESCE_BYTES_MAX: usize = 16 << 10;
/// Largest body before the handshake is done, in bytes: strangers get no large buffers.
const HANDSHAKE_BODY_BYTES_MAX: u32 = 4096;
/// Dead peers are noticed after about a minute without an answer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;
/// Data that nobody acknowledges for this long breaks the connection.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(30);

fn next_connection_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A request's deadline from its header.
fn deadline_of(deadline_ms: u32) -> Duration {
    match deadline_ms {
        0 => DEADLINE_MAX,
        ms => Duration::from_millis(u64::from(ms)).min(DEADLINE_MAX),
    }
}

/// Socket options of a TCP socket; accepted sockets inherit them from their listener.
fn set_tcp_options(socket: impl std::os::fd::AsFd) -> std::io::Result<()> {
    use rustix::net::sockopt;
    let socket = socket.as_fd();
    sockopt::set_tcp_nodelay(socket, true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?;
    sockopt::set_tcp_user_timeout(socket, UNACKNOWLEDGED_TIMEOUT.as_millis() as u32)?;
    Ok(())
}

fn listen_error(address: &str, error: &std::io::Error) -> KindError {
    use crate::NetError;
    match error.kind() {
        std::io::ErrorKind::AddrInUse => NetError::PortInUse { address: address.into() }.into(),
        std::io::ErrorKind::InvalidInput => {
            NetError::Address { address: address.into(), error: error.to_string() }.into()
        }
        _ => NetError::Listen { address: address.into(), error: error.to_string() }.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_are_capped() {
        assert_eq!(deadline_of(0), DEADLINE_MAX);
        assert_eq!(deadline_of(5), Duration::from_millis(5));
        assert_eq!(deadline_of(u32::MAX), DEADLINE_MAX);
    }
}

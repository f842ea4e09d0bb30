//! Choosing the ports of a worker's cores before anything else is started, and the address that others reach them at.

use crate::error::WorkerError;
use std::net::{TcpListener, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

const PORT_FREE_WITHIN: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One port per core: neighbours from the one that is set, or any free ones for port 0. A port that is taken is refused
/// here, before the master hears of this worker.
pub(crate) fn choose_ports(listen: &str, shards: u16) -> Result<Vec<u16>, WorkerError> {
    let refused = |address: &str, reason: String| WorkerError::Listen { address: address.into(), reason };
    let (host, port) = listen.rsplit_once(':').unwrap_or((listen, "0"));
    let first: u16 = port.parse().map_err(|_| refused(listen, "the port is no number".into()))?;
    // All are held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    for shard in 0..shards {
        let port = match first {
            0 => 0,
            first => first.checked_add(shard).ok_or_else(|| {
                refused(listen, format!("core {shard} would need port {}", u32::from(first) + u32::from(shard)))
            })?,
        };
        let address = format!("{host}:{port}");
        let listener = bind(&address).map_err(|error| refused(&address, error.to_string()))?;
        let chosen = listener.local_addr().map_err(|error| refused(&address, error.to_string()))?.port();
        held.push((chosen, listener));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

/// Binds; a taken port is waited for a little, because the kernel closes the sockets of a killed process only when its
/// rings are torn down, a moment after the process is gone.
fn bind(address: &str) -> std::io::Result<TcpListener> {
    let until = Instant::now() + PORT_FREE_WITHIN;
    loop {
        match TcpListener::bind(address) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(LOOK_EVERY);
            }
            bound => return bound,
        }
    }
}

/// The host part of the addresses given to others: as set, or for a wildcard the address of the way to the masters.
pub(crate) fn advertised(listen: &str, masters: &[String]) -> String {
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    if !matches!(host, "0.0.0.0" | "[::]") {
        return host.into();
    }
    let found = masters.iter().flat_map(|master| master.to_socket_addrs().into_iter().flatten()).find_map(|master| {
        let any = if master.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(master).ok()?;
        socket.local_addr().ok().map(|own| own.ip())
    });
    match found {
        Some(std::net::IpAddr::V6(ip)) => format!("[{ip}]"),
        Some(ip) => ip.to_string(),
        None => host.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_differ_and_taken_ones_are_named() {
        let ports = choose_ports("127.0.0.1:0", 4).expect("there are free ports");
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!((ports.len(), distinct.len()), (4, 4));
        let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let taken = holder.local_addr().expect("bound");
        let error = choose_ports(&taken.to_string(), 1).expect_err("it is taken").to_string();
        assert!(error.contains(&taken.to_string()) && error.starts_with("worker.listen"), "{error}");
        assert!(choose_ports("127.0.0.1:65535", 2).is_err());
    }

    #[test]
    fn wildcards_become_addresses_that_can_be_reached() {
        assert_eq!(advertised("127.0.0.1:7500", &[]), "127.0.0.1");
        assert_eq!(advertised("0.0.0.0:7500", &["127.0.0.1:7400".into()]), "127.0.0.1");
    }
}

//! Who holds the ports that this host's roles listen on.

use crate::doctor::facts::{Port, PortState, RoleFacts};
use forebay_base::settings::{KEYS, Loaded, Value};
use std::io::ErrorKind;
use std::net::TcpListener;

/// LISTEN, in the kernel's table of sockets.
const LISTENING: &str = "0A";

/// Looks at each port of the roles given.
pub(crate) fn look(loaded: &Loaded, roles: &[RoleFacts]) -> Vec<Port> {
    let worker_cores = {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        loaded.settings.worker.cores.count(available)
    };
    let mut ports = Vec::new();
    for key in KEYS {
        let Some((section, field)) = key.name.split_once('.') else { continue };
        let Some(facts) = roles.iter().find(|facts| facts.role == section) else { continue };
        let Some((Value::Text(address), _)) = loaded.values.get(key.name) else { continue };
        if !matches!(field, "listen" | "http") || address == "off" {
            continue;
        }
        let count = if key.name == "worker.listen" { worker_cores } else { 1 };
        ports.extend(addresses(address, count).into_iter().map(|address| Port {
            setting: key.name.into(),
            role: facts.role,
            state: state(&address),
            address,
        }));
    }
    ports
}

/// `count` neighbours from `first` on; none for port 0, which takes any.
fn addresses(first: &str, count: usize) -> Vec<String> {
    let Some((host, port)) = first.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)))
    else {
        return Vec::new();
    };
    if port == 0 {
        return Vec::new();
    }
    (0..count)
        .filter_map(|core| port.checked_add(u16::try_from(core).ok()?))
        .map(|port| format!("{host}:{port}"))
        .collect()
}

fn state(address: &str) -> PortState {
    match TcpListener::bind(address) {
        Ok(_) => PortState::Free,
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(0);
            holder(port).map_or(PortState::HeldUnseen, |(pid, name)| PortState::Held(pid, name))
        }
        Err(error) => PortState::Refused(error.to_string()),
    }
}

fn holder(port: u16) -> Option<(i32, String)> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .flat_map(|table| listening(&std::fs::read_to_string(table).unwrap_or_default(), port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(open) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds = open.flatten().any(|link| {
            std::fs::read_link(link.path()).is_ok_and(|to| inodes.iter().any(|inode| to.as_os_str() == inode.as_str()))
        });
        if holds {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some((pid, name.trim().to_string()));
        }
    }
    None
}

/// Inodes of the sockets that listen on `port`: `sl local_address rem_address st ... inode`, addresses in hexadecimal.
fn listening(table: &str, port: u16) -> Vec<String> {
    let ending = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let matches = fields.get(1)?.ends_with(&ending) && *fields.get(3)? == LISTENING;
            matches.then(|| fields.get(9).map(ToString::to_string))?
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holder_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        assert!(matches!(state(&address), PortState::Held(pid, _) if pid == std::process::id() as i32));
        drop(listener);
        assert!(matches!(state("203.0.113.1:7400"), PortState::Refused(_)));
        assert_eq!(addresses("h:65535", 2), ["h:65535"]);
        assert!(addresses("h:0", 2).is_empty());
    }
}

//! Free ports below the range from which the kernel gives out ephemeral ones, so that no client takes them meanwhile.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// The first of `count` ports in a row that nobody listens on.
#[must_use]
pub fn free_ports(count: u16) -> u16 {
    let start = (std::process::id().wrapping_mul(97) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(count, Ordering::Relaxed) % COUNT;
        let base = FIRST + (start + step) % COUNT;
        if (base..base + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return base;
        }
    }
    panic!("no {count} free ports in a row from {FIRST} to {}", FIRST + COUNT);
}

/// A port that nobody listens on.
#[must_use]
pub fn free_port() -> u16 {
    free_ports(1)
}

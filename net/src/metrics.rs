//! What the servers of this process count, all ports and cores together. Touched when a connection opens or ends, and
//! never for a request.

use forebay_base::metrics::Metric;
use std::sync::LazyLock;

forebay_base::metrics_table! {
    /// Counters of the servers.
    pub struct NetMetrics {
        connections: Gauge = "forebay_net_connections", "connections that passed the handshake and are open";
        opened: Counter = "forebay_net_opened_connections_total", "connections that passed the handshake";
        refused: Counter = "forebay_net_refused_connections_total", "connections refused because too many were open";
        failed_handshakes: Counter = "forebay_net_failed_handshakes_total",
            "connections whose handshake failed: wrong secret, wrong cluster, no common version, or no word in time";
    }
}

/// This process's.
pub static NET_METRICS: LazyLock<NetMetrics> = LazyLock::new(NetMetrics::default);

/// Counts a connection for as long as what this returns lives.
pub(crate) fn connected() -> forebay_base::metrics::Entered<'static> {
    NET_METRICS.opened.add(1);
    let open: &'static Metric = &NET_METRICS.connections;
    open.enter()
}

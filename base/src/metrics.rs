//! Metrics: each crate declares one table of counters and gauges; a table instance belongs to one core and is summed
//! when it is read. Text is the Prometheus exposition format, version 0.0.4.
//!
//! Invariant: a counter only grows; both are plain relaxed atomics, so that another thread may read them at any time.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a metric behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One row of a crate's table.
#[derive(Debug)]
pub struct MetricDef {
    /// Full name with unit, e.g. `forebay_worker_read_bytes_total`.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// One line for people.
    pub help: &'static str,
}

/// One value.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// Adds `amount`.
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Declares a crate's table: a struct with one `Metric` per row, its definitions, and their values in the same order.
#[macro_export]
macro_rules! metrics_table {
    ($(#[$doc:meta])* $vis:vis struct $table:ident { $($field:ident: $kind:ident = $name:literal, $help:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        $vis struct $table { $(#[doc = $help] $vis $field: $crate::metrics::Metric,)+ }

        impl $table {
            /// Every row of the table.
            $vis const DEFS: &'static [$crate::metrics::MetricDef] = &[$($crate::metrics::MetricDef {
                name: $name, kind: $crate::metrics::MetricKind::$kind, help: $help,
            },)+];

            /// The values now, in the order of `DEFS`.
            #[must_use]
            $vis fn values(&self) -> Vec<u64> { vec![$(self.$field.get(),)+] }
        }
    };
}

/// Prometheus text of a table whose `instances` (one per core) are summed.
#[must_use]
pub fn exposition(defs: &[MetricDef], instances: &[Vec<u64>]) -> String {
    let mut text = String::new();
    for (index, def) in defs.iter().enumerate() {
        let sum: u64 = instances.iter().filter_map(|values| values.get(index)).sum();
        let kind = if def.kind == MetricKind::Counter { "counter" } else { "gauge" };
        let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} {kind}\n{0} {sum}", def.name, def.help);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    metrics_table! {
        /// A table.
        struct Sample { hits: Counter = "forebay_sample_hits_total", "hits"; used: Gauge = "forebay_sample_used_bytes", "bytes used"; }
    }

    #[test]
    fn cores_are_summed() {
        let (a, b) = (Sample::default(), Sample::default());
        a.hits.add(2);
        b.hits.add(3);
        b.used.set(7);
        let text = exposition(Sample::DEFS, &[a.values(), b.values()]);
        assert!(
            text.contains("forebay_sample_hits_total 5\n") && text.contains("# TYPE forebay_sample_used_bytes gauge")
        );
    }
}

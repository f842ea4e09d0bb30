//! Metrics: each crate declares one table of counters, gauges and histograms; an instance belongs to one core and all
//! instances are summed when they are read. The text is the Prometheus exposition format, version 0.0.4.
//!
//! Invariants: a table is the only list of its crate's metrics, and what documents and checks them reads it; cells are
//! relaxed atomics, so that any thread may read them at any time; recording never allocates and never waits.

mod cell;
mod exposition;
mod histogram;
mod per_core;
pub mod process;

pub use cell::{Cell, Entered, Family, Metric};
pub use exposition::{CONTENT_TYPE, Exposition};
pub use histogram::{BUCKETS, Histogram, bound_seconds};
pub use per_core::PerCore;

/// How a metric behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts durations by size.
    Histogram,
}

impl MetricKind {
    /// As the exposition format spells it.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One row of a crate's table.
#[derive(Clone, Copy, Debug)]
pub struct MetricDef {
    /// Full name with unit, e.g. `forebay_worker_read_bytes_total`.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// One line for people.
    pub help: &'static str,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Values of its only label where they are fixed; else they are found when the metric is read.
    pub values: &'static [&'static str],
    /// Whether it has no cell and is found when it is read.
    pub computed: bool,
}

/// A crate's table.
pub trait Table {
    /// Its rows: those with cells, in the order of `read`, then those that are computed.
    const DEFS: &'static [MetricDef];
    /// Appends the values of all cells.
    fn read(&self, out: &mut Vec<u64>);
}

/// Declares a crate's table: a struct with one cell for each row, and for each computed row a constant of its own.
/// `name: Kind ["label" in VALUES] = "full_name", "help";` has one cell for each of the label's values.
#[macro_export]
macro_rules! metrics_table {
    ($(#[$doc:meta])* $vis:vis struct $table:ident {
        $($field:ident: $kind:ident $([$($label:tt)+])? = $name:literal, $help:literal;)*
    } $(computed {
        $($row:ident: $row_kind:ident $([$($row_label:literal),+])? = $row_name:literal, $row_help:literal;)+
    })?) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        $vis struct $table { $(#[doc = $help] $vis $field: $crate::metrics_cell!($kind $($($label)+)?),)* }

        $($(
            #[doc = $row_help]
            $vis const $row: $crate::metrics::MetricDef = $crate::metrics::MetricDef {
                name: $row_name,
                kind: $crate::metrics::MetricKind::$row_kind,
                help: $row_help,
                labels: &[$($($row_label),+)?],
                values: &[],
                computed: true,
            };
        )+)?

        impl $crate::metrics::Table for $table {
            const DEFS: &'static [$crate::metrics::MetricDef] = &[
                $($crate::metrics_row!($kind, $name, $help $(, $($label)+)?),)*
                $($($row),+)?
            ];

            #[allow(unused_variables, reason = "a table may have computed rows only")]
            fn read(&self, out: &mut Vec<u64>) {
                $($crate::metrics::Cell::read(&self.$field, out);)*
            }
        }
    };
}

/// The type of a row's cell.
#[doc(hidden)]
#[macro_export]
macro_rules! metrics_cell {
    (Counter) => { $crate::metrics::Metric };
    (Gauge) => { $crate::metrics::Metric };
    (Histogram) => { $crate::metrics::Histogram };
    ($kind:ident $label:literal in $values:expr) => {
        $crate::metrics::Family<$crate::metrics_cell!($kind), { $values.len() }>
    };
}

/// The definition of a row with cells.
#[doc(hidden)]
#[macro_export]
macro_rules! metrics_row {
    ($kind:ident, $name:literal, $help:literal) => {
        $crate::metrics_row!(@ $kind, $name, $help, &[], &[])
    };
    ($kind:ident, $name:literal, $help:literal, $label:literal in $values:expr) => {
        $crate::metrics_row!(@ $kind, $name, $help, &[$label], &$values)
    };
    (@ $kind:ident, $name:literal, $help:literal, $labels:expr, $values:expr) => {
        $crate::metrics::MetricDef {
            name: $name,
            kind: $crate::metrics::MetricKind::$kind,
            help: $help,
            labels: $labels,
            values: $values,
            computed: false,
        }
    };
}

//! What Prometheus expects to hear of any process, from /proc. Names are the usual ones, without our prefix.

use super::{Exposition, MetricDef, Table};

crate::metrics_table! {
    /// Holds nothing: all rows are computed.
    pub struct ProcessMetrics {}
    computed {
        BUILD: Gauge["version", "role"] = "forebay_build_info", "always 1; its labels say what runs";
        RESIDENT: Gauge = "process_resident_memory_bytes", "resident memory";
        CPU: Counter = "process_cpu_seconds_total", "CPU time of user and system";
        OPEN_FILES: Gauge = "process_open_fds", "open file descriptors";
        THREADS: Gauge = "process_threads", "threads";
        START: Gauge = "process_start_time_seconds", "when the process started, seconds since 1970";
    }
}

/// All rows.
pub const DEFS: &[MetricDef] = ProcessMetrics::DEFS;

/// The kernel counts CPU time for /proc in hundredths of a second on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds this process's rows.
pub fn expose(text: &mut Exposition, role: &str) {
    text.computed(&BUILD, [(&[env!("CARGO_PKG_VERSION"), role][..], 1.0)]);
    text.number(&RESIDENT, resident_bytes() as f64);
    let fields = stat();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0.0);
    text.number(&CPU, cpu_seconds());
    text.number(&OPEN_FILES, std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as f64);
    text.number(&THREADS, field(20));
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let uptime: f64 = uptime.split_ascii_whitespace().next().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let now = crate::unix_now_ms() as f64 / 1000.0;
    let started = now - uptime + field(22) / TICKS_PER_SECOND;
    text.number(&START, (started * 100.0).round() / 100.0);
}

/// /proc/self/stat from its third field on.
fn stat() -> Vec<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in brackets, may hold anything.
    let rest = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    rest.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect()
}

/// CPU time of all threads of this process, user and system, to a hundredth of a second.
#[must_use]
pub fn cpu_seconds() -> f64 {
    stat().get(11..13).unwrap_or_default().iter().sum::<f64>() / TICKS_PER_SECOND
}

/// Resident memory of this process; 0 where the kernel does not say.
#[must_use]
pub fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0);
    kib * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let mut text = Exposition::default();
        expose(&mut text, "test");
        let text = text.finish();
        let number = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("a sample");
            line.rsplit(' ').next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
        };
        assert!(number("process_resident_memory_bytes") > 1e6, "{text}");
        assert!(number("process_open_fds") >= 3.0 && number("process_threads") >= 1.0, "{text}");
        let now = crate::unix_now_ms() as f64 / 1000.0;
        // The kernel's clock of starts is coarse.
        assert!((-2.0..600.0).contains(&(now - number("process_start_time_seconds"))), "{text}");
        assert_eq!(number("forebay_build_info"), 1.0);
    }
}

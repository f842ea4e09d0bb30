//! Writes the Prometheus text format, version 0.0.4.

use super::histogram::{BUCKETS, bound_seconds};
use super::{MetricDef, MetricKind, Table};
use std::fmt::{Display, Write};

/// What the text is served as.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that grows table by table.
#[derive(Debug, Default)]
pub struct Exposition(String);

impl Exposition {
    /// Adds a table's rows with cells; its instances are summed. A histogram's label value that nothing was recorded
    /// for is left out.
    pub fn table<'a, T: Table + 'a>(&mut self, instances: impl IntoIterator<Item = &'a T>) {
        let (mut sums, mut numbers) = (Vec::new(), Vec::new());
        for instance in instances {
            numbers.clear();
            instance.read(&mut numbers);
            sums.resize(numbers.len(), 0u64);
            // A gauge may have gone up in one instance and down in another.
            sums.iter_mut().zip(&numbers).for_each(|(sum, number)| *sum = sum.wrapping_add(*number));
        }
        let mut rest = &sums[..];
        for def in T::DEFS.iter().filter(|def| !def.computed) {
            self.head(def);
            let width = if def.kind == MetricKind::Histogram { BUCKETS + 2 } else { 1 };
            for index in 0..def.values.len().max(1) {
                let Some((own, later)) = rest.split_at_checked(width) else { return };
                rest = later;
                let label = def.labels.first().zip(def.values.get(index)).map(|(name, value)| (*name, *value));
                match own {
                    [value] => self.sample(def.name, "", label, value),
                    numbers => self.histogram(def.name, label, numbers),
                }
            }
        }
    }

    /// Adds a computed row with its samples: the values of its labels, in order, and a number.
    pub fn computed<'a, V>(&mut self, def: &MetricDef, samples: impl IntoIterator<Item = (&'a [V], f64)>)
    where
        V: AsRef<str> + 'a,
    {
        self.head(def);
        for (values, number) in samples {
            let labels = def.labels.iter().copied().zip(values.iter().map(AsRef::as_ref));
            self.sample(def.name, "", labels, number);
        }
    }

    /// Adds a computed row without labels.
    pub fn number(&mut self, def: &MetricDef, number: f64) {
        self.computed(def, [(&[] as &[&str], number)]);
    }

    /// The whole text.
    #[must_use]
    pub fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, def: &MetricDef) {
        let _ = write!(self.0, "# HELP {} ", def.name);
        self.escaped(def.help, false);
        let _ = writeln!(self.0, "\n# TYPE {} {}", def.name, def.kind.text());
    }

    fn sample<'a>(
        &mut self,
        name: &str,
        suffix: &str,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        number: impl Display,
    ) {
        let _ = write!(self.0, "{name}{suffix}");
        let mut open = '{';
        for (label, value) in labels {
            let _ = write!(self.0, "{open}{label}=\"");
            self.escaped(value, true);
            self.0.push('"');
            open = ',';
        }
        let close = if open == ',' { "}" } else { "" };
        let _ = writeln!(self.0, "{close} {number}");
    }

    fn histogram(&mut self, name: &str, label: Option<(&str, &str)>, numbers: &[u64]) {
        let Some((sum_ns, buckets)) = numbers.split_last() else { return };
        let count: u64 = buckets.iter().sum();
        if count == 0 && label.is_some() {
            return;
        }
        let mut reached = 0;
        for (bucket, number) in buckets.iter().enumerate() {
            reached += number;
            let bound = if bucket < BUCKETS { bound_seconds(bucket).to_string() } else { "+Inf".into() };
            self.sample(name, "_bucket", label.into_iter().chain([("le", &*bound)]), reached);
        }
        self.sample(name, "_sum", label, *sum_ns as f64 / 1e9);
        self.sample(name, "_count", label, count);
    }

    fn escaped(&mut self, text: &str, quoted: bool) {
        for letter in text.chars() {
            match letter {
                '\\' => self.0.push_str("\\\\"),
                '\n' => self.0.push_str("\\n"),
                '"' if quoted => self.0.push_str("\\\""),
                other => self.0.push(other),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::PerCore;
    use super::*;
    use crate::metrics_table;
    use std::time::Duration;

    const SOURCES: [&str; 2] = ["mem", "ssd"];

    metrics_table! {
        /// A table.
        struct Sample {
            hits: Counter = "sample_hits_total", "hits";
            bytes: Counter["source" in SOURCES] = "sample_bytes_total", "bytes by source";
            open: Gauge = "sample_open", "open files";
            seconds: Histogram["source" in SOURCES] = "sample_seconds", "how long";
        }
        computed {
            USED: Gauge["tier", "directory"] = "sample_used_bytes", "a \\ and a\nline";
        }
    }

    #[test]
    fn instances_are_summed_and_labels_shown() {
        let (a, b) = (Sample::default(), Sample::default());
        a.hits.add(2);
        b.hits.add(3);
        b.bytes.at(1).add(7);
        a.open.add(1);
        a.open.add(1);
        b.open.sub(1);
        let mut text = Exposition::default();
        text.table([&a, &b]);
        let text = text.finish();
        for want in [
            "# HELP sample_hits_total hits\n# TYPE sample_hits_total counter\nsample_hits_total 5\n",
            "sample_bytes_total{source=\"mem\"} 0\nsample_bytes_total{source=\"ssd\"} 7\n",
            "# TYPE sample_open gauge\nsample_open 1\n",
        ] {
            assert!(text.contains(want), "{want} in\n{text}");
        }
        assert!(!text.contains("sample_used_bytes"), "computed rows come from elsewhere:\n{text}");
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_infinity() {
        let table = Sample::default();
        for ns in [1, 1024, 1025, 30_000_000_000] {
            table.seconds.at(0).record(Duration::from_nanos(ns));
        }
        let mut text = Exposition::default();
        text.table([&table]);
        let text = text.finish();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("sample_seconds")).collect();
        assert_eq!(lines.len(), BUCKETS + 3, "{text}");
        assert_eq!(lines[0], "sample_seconds_bucket{source=\"mem\",le=\"0.000001024\"} 2");
        assert_eq!(lines[1], "sample_seconds_bucket{source=\"mem\",le=\"0.000002048\"} 3");
        assert_eq!(lines[24], "sample_seconds_bucket{source=\"mem\",le=\"17.179869184\"} 3");
        assert_eq!(lines[25], "sample_seconds_bucket{source=\"mem\",le=\"+Inf\"} 4");
        assert_eq!(
            lines[26..],
            ["sample_seconds_sum{source=\"mem\"} 30.00000205", "sample_seconds_count{source=\"mem\"} 4"]
        );
    }

    #[test]
    fn what_is_odd_is_escaped() {
        let mut text = Exposition::default();
        text.computed(&USED, [(&["SSD", "/a \"b\"\\\n"][..], 1.5)]);
        assert_eq!(
            text.finish(),
            "# HELP sample_used_bytes a \\\\ and a\\nline\n# TYPE sample_used_bytes gauge\n\
             sample_used_bytes{tier=\"SSD\",directory=\"/a \\\"b\\\"\\\\\\n\"} 1.5\n"
        );
    }

    #[test]
    fn threads_record_apart_and_nothing_is_lost() {
        let table: PerCore<Sample> = PerCore::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| table.here().hits.add(1)));
            }
        });
        assert_eq!(table.sum(|own| own.hits.get()), 8000);
        assert!(table.all().count().is_power_of_two());
    }
}

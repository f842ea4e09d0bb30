//! What a run measured. Plain data; `perf/out/report.json` is this.

use serde::Serialize;
use std::collections::BTreeMap;

/// What a rate counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) enum Unit {
    /// Megabytes (10^6) a second.
    MegabytesPerSecond,
    /// Operations a second.
    PerSecond,
    /// Files a second.
    FilesPerSecond,
    /// Milliseconds: less is better.
    Milliseconds,
}

impl Unit {
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::MegabytesPerSecond => "MB/s",
            Self::PerSecond => "op/s",
            Self::FilesPerSecond => "files/s",
            Self::Milliseconds => "ms",
        }
    }
}

/// One measurement.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// How long it took.
    pub(crate) seconds: f64,
    /// What was done.
    pub(crate) operations: u64,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Latencies in microseconds and other figures, by name.
    pub(crate) more: BTreeMap<String, f64>,
    /// CPU seconds of each process of the rig.
    pub(crate) cpu_s: BTreeMap<String, f64>,
    /// CPU seconds of the reader.
    pub(crate) reader_cpu_s: f64,
    /// Resident bytes of each process at the end.
    pub(crate) resident_bytes: BTreeMap<String, u64>,
    /// What was run, where it is a command.
    pub(crate) command: String,
}

impl Sample {
    pub(crate) fn value(&self, unit: Unit) -> f64 {
        let seconds = self.seconds.max(1e-9);
        match unit {
            Unit::MegabytesPerSecond => self.bytes as f64 / 1e6 / seconds,
            Unit::PerSecond | Unit::FilesPerSecond => self.operations as f64 / seconds,
            Unit::Milliseconds => seconds * 1e3,
        }
    }
}

/// All measurements of one job on one rig.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Series {
    pub(crate) job: String,
    pub(crate) rig: String,
    pub(crate) unit: Unit,
    pub(crate) group: String,
    pub(crate) samples: Vec<Sample>,
}

/// Least, middle and most.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

/// The spread of some figures; `None` for none.
pub(crate) fn spread(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median =
        if sorted.len().is_multiple_of(2) { f64::midpoint(sorted[middle - 1], sorted[middle]) } else { sorted[middle] };
    Some(Spread { min, median, max })
}

impl Series {
    pub(crate) fn spread(&self) -> Option<Spread> {
        spread(self.samples.iter().map(|sample| sample.value(self.unit)))
    }

    /// The middle of some figure of each sample.
    pub(crate) fn median_of(&self, figure: impl Fn(&Sample) -> f64) -> f64 {
        spread(self.samples.iter().map(figure)).map_or(0.0, |spread| spread.median)
    }
}

/// A rig that did not run, or a job that failed on it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) rig: String,
    /// Empty: the rig did not start.
    pub(crate) job: String,
    pub(crate) reason: String,
}

/// A rig as it ran.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RigFacts {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) commands: Vec<String>,
    /// Resident bytes by process, before any work.
    pub(crate) idle_resident_bytes: BTreeMap<String, u64>,
}

/// A whole run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Results {
    pub(crate) host: Vec<String>,
    pub(crate) rigs: Vec<RigFacts>,
    pub(crate) series: Vec<Series>,
    pub(crate) failures: Vec<Failure>,
}

impl Results {
    /// The series of a job on a rig, made when it is new.
    pub(crate) fn series_mut(&mut self, job: &str, rig: &str, unit: Unit, group: &str) -> &mut Series {
        let at = self.series.iter().position(|series| series.job == job && series.rig == rig).unwrap_or_else(|| {
            let (job, rig, group) = (job.to_string(), rig.to_string(), group.to_string());
            self.series.push(Series { job, rig, unit, group, samples: Vec::new() });
            self.series.len() - 1
        });
        &mut self.series[at]
    }

    /// Job names in the order in which they first ran.
    pub(crate) fn jobs(&self) -> Vec<&str> {
        let mut jobs: Vec<&str> = Vec::new();
        for series in &self.series {
            if !jobs.contains(&series.job.as_str()) {
                jobs.push(&series.job);
            }
        }
        jobs
    }

    /// What was measured of a job, by rig.
    pub(crate) fn of_job(&self, job: &str) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(move |series| series.job == job && !series.samples.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_and_units() {
        assert_eq!(spread([]), None);
        assert_eq!(spread([3.0, 1.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        let sample = Sample { seconds: 2.0, operations: 10, bytes: 4_000_000, ..Sample::default() };
        assert_eq!(sample.value(Unit::MegabytesPerSecond), 2.0);
        assert_eq!(sample.value(Unit::FilesPerSecond), 5.0);
        assert_eq!(sample.value(Unit::Milliseconds), 2000.0);
    }
}

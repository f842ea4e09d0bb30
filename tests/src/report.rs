//! What `forebay admin report --json` says, as far as tests look at it.

use crate::cli::Cli;
use serde_json::Value;

/// One tier directory.
#[derive(Clone, Debug)]
pub struct TierUse {
    /// MEM or SSD.
    pub tier: String,
    /// Path; empty for memory.
    pub directory: String,
    /// Bytes it may hold.
    pub capacity_bytes: u64,
    /// Bytes it holds.
    pub used_bytes: u64,
    /// Empty when healthy.
    pub trouble: String,
}

/// One worker.
#[derive(Clone, Debug)]
pub struct WorkerUse {
    /// In the map.
    pub live: bool,
    /// Its tiers.
    pub tiers: Vec<TierUse>,
    /// Bytes read from stores since it started.
    pub store_read_bytes: u64,
}

/// The report.
#[derive(Clone, Debug)]
pub struct Report {
    /// All workers the master knows.
    pub workers: Vec<WorkerUse>,
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("the report has no number {key} in {value}"))
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("the report has no text {key} in {value}")).into()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a Vec<Value> {
    value[key].as_array().unwrap_or_else(|| panic!("the report has no list {key} in {value}"))
}

impl Report {
    /// Asks for it; `None` when the command fails, for example while the master is away.
    #[must_use]
    pub fn ask(cli: &Cli) -> Option<Self> {
        let output = cli.run(&["admin", "report", "--json"]);
        if output.code != 0 {
            return None;
        }
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        let workers = list(&value, "workers").iter().map(|worker| WorkerUse {
            live: worker["live"].as_bool().unwrap_or_else(|| panic!("no live in {worker}")),
            store_read_bytes: number(&worker["counters"], "store_read_bytes"),
            tiers: list(worker, "tiers")
                .iter()
                .map(|tier| TierUse {
                    tier: text(tier, "tier"),
                    directory: text(tier, "directory"),
                    capacity_bytes: number(tier, "capacity_bytes"),
                    used_bytes: number(tier, "used_bytes"),
                    trouble: tier["trouble"].as_str().unwrap_or_default().into(),
                })
                .collect(),
        });
        Some(Self { workers: workers.collect() })
    }

    /// Bytes held in a tier by all workers.
    #[must_use]
    pub fn used_bytes(&self, tier: &str) -> u64 {
        self.tiers(tier).map(|tier| tier.used_bytes).sum()
    }

    /// All directories of a tier.
    pub fn tiers<'a>(&'a self, tier: &'a str) -> impl Iterator<Item = &'a TierUse> {
        self.workers.iter().flat_map(|worker| &worker.tiers).filter(move |found| found.tier == tier)
    }

    /// Bytes read from stores by the running workers.
    #[must_use]
    pub fn store_read_bytes(&self) -> u64 {
        self.workers.iter().map(|worker| worker.store_read_bytes).sum()
    }
}

//! Documents that are made from tables in the code, and the board that may only ask for metrics that exist. With
//! `FOREBAY_TEST_WRITE=1` (`make fix`) the documents are written; without, they must be as they would be written.

use forebay_base::metrics::{MetricDef, MetricKind, Table, process};
use forebay_base::settings::KEYS;
use forebay_client::ClientMetrics;
use forebay_net::NetMetrics;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the workspace").to_path_buf()
}

/// Longer lists are those of the wire's operations.
const VALUES_SHOWN: usize = 20;

/// Heading, who serves it, and the rows.
fn tables() -> Vec<(&'static str, &'static str, &'static [MetricDef])> {
    vec![
        ("Master", "the master", forebay_master::METRICS),
        ("Worker", "each worker", forebay_worker::METRICS),
        ("FUSE", "each mount", forebay_fuse::METRICS),
        ("Client library", "each mount", ClientMetrics::DEFS),
        ("Servers", "the master and each worker", NetMetrics::DEFS),
        ("Process", "every role", process::DEFS),
    ]
}

fn unit(def: &MetricDef) -> &'static str {
    match def.name.trim_end_matches("_total") {
        name if name.ends_with("_seconds") => "seconds",
        name if name.ends_with("_bytes") => "bytes",
        _ => "",
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn metrics_document() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade from the tables in the code by `make fix`; do not edit. Each role serves them as Prometheus text at\n\
         `/metrics` of its `http` setting (`master.http`, `worker.http`, `fuse.http`), and `/healthz` says `ok` while it serves.\n\
         Counters and histograms start at 0 with the process. A histogram is `NAME_bucket{le=...}` with bounds from 1 us to\n\
         17 s, each twice the one before, `NAME_sum` and `NAME_count`; one of a label value that nothing was recorded for is left\n\
         out. A label `mount` has at most 100 values. What they mean for an operator: [operations.md](operations.md).\n",
    );
    for (heading, who, defs) in tables() {
        text.push_str(&format!(
            "\n## {heading}\nServed by {who}.\n\n| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n"
        ));
        for def in defs {
            let labels = match (def.labels, def.values) {
                ([label], values) if values.len() > VALUES_SHOWN => format!("{label}: see [wire.md](formats/wire.md)"),
                ([label], values) if !values.is_empty() => format!("{label}: {}", values.join(", ")),
                (labels, _) => labels.join(", "),
            };
            let (name, kind) = (def.name, def.kind.text());
            text.push_str(&format!("| `{name}` | {kind} | {} | {} | {} |\n", unit(def), cell(&labels), cell(def.help)));
        }
    }
    text
}

fn config_document() -> String {
    let mut text = String::from(
        "# Configuration\n\nMade from the table in the code by `make fix`; do not edit. One TOML file for a cluster; a flag `--set section.key=value`\n\
         beats the environment (`FOREBAY_SECTION_KEY`) beats the file beats the default. Which to think of first:\n\
         [operations.md](operations.md).\n",
    );
    let mut section = "";
    for key in KEYS {
        let (name, field) = key.name.split_once('.').expect("every key has a section");
        if name != section {
            section = name;
            text.push_str(&format!("\n## [{name}]\n\n| key | default | accepts | meaning |\n|---|---|---|---|\n"));
        }
        let default = if key.default.is_empty() { "none".into() } else { format!("`{}`", key.default) };
        text.push_str(&format!("| `{field}` | {default} | {} | {} |\n", cell(&key.kind.want()), cell(key.doc)));
    }
    text
}

fn hold(name: &str, wanted: &str) {
    let path = root().join("docs").join(name);
    if std::env::var_os("FOREBAY_TEST_WRITE").is_some() {
        std::fs::write(&path, wanted).expect("a document in the checkout");
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(found == wanted, "docs/{name} is not what the code says, run `make fix`: {differs:?}");
}

#[test]
fn documents_are_what_the_code_says() {
    hold("metrics.md", &metrics_document());
    hold("config.md", &config_document());
}

#[test]
fn metrics_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for (heading, _, defs) in tables() {
        for def in defs {
            let name = def.name;
            assert!(seen.insert(name), "{name} is there twice");
            let total = name.ends_with("_total");
            assert_eq!(def.kind == MetricKind::Counter, total, "{name}: counters, and only they, end in _total");
            assert!(
                def.kind != MetricKind::Histogram || name.ends_with("_seconds"),
                "{name}: durations are in seconds"
            );
            assert!(name.starts_with("forebay_") || heading == "Process", "{name}: wants our prefix");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
                "{name}"
            );
            assert!(!def.help.is_empty() && !def.help.ends_with('.'), "{name}: one line without a full stop");
            for unit in ["_ms", "_us", "_ns", "_kib", "_mib", "_kb", "_mb"] {
                assert!(!name.trim_end_matches("_total").ends_with(unit), "{name}: base units only");
            }
        }
    }
}

/// The names of metrics in an expression of PromQL: words with our prefixes.
fn names(expression: &str) -> Vec<String> {
    let words = expression.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("forebay_") || word.starts_with("process_")).map(String::from).collect()
}

fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        // Which Prometheus to ask, not what to ask it.
        Value::Object(fields) if fields.get("type").is_some_and(|kind| kind == "datasource") => {}
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "expr" || name == "query" => found.push(text.clone()),
                    other => expressions(other, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| expressions(item, found)),
        _ => {}
    }
}

#[test]
fn the_board_asks_for_metrics_that_exist() {
    let text = std::fs::read_to_string(root().join("deploy/grafana/forebay.json")).expect("the board");
    let board: Value = serde_json::from_str(&text).expect("JSON");
    let rows = board["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] == "row");
    let rows: Vec<&str> = rows.map(|row| row["title"].as_str().expect("a title")).collect();
    assert_eq!(rows, ["Overview", "Workers", "Master", "FUSE"]);
    let mut asked = Vec::new();
    expressions(&board, &mut asked);
    assert!(asked.len() > 20, "only {} expressions", asked.len());
    let known: Vec<&MetricDef> = tables().iter().flat_map(|(_, _, defs)| *defs).collect();
    for expression in &asked {
        let names = names(expression);
        assert!(!names.is_empty(), "{expression} asks for nothing of ours");
        for name in names {
            let exists = known.iter().any(|def| match def.kind {
                MetricKind::Histogram => {
                    name.strip_prefix(def.name).is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
                }
                _ => def.name == name,
            });
            assert!(exists, "{name} of the board does not exist: {expression}");
        }
    }
    // Operators read of metrics in the handbook too.
    let handbook = std::fs::read_to_string(root().join("docs/operations.md")).expect("the handbook");
    // A name with one underscore is a crate's, as in a log filter.
    for name in
        names(&handbook).into_iter().filter(|name| !name.starts_with("forebay_") || name.matches('_').count() > 1)
    {
        let base = ["_bucket", "_sum", "_count"].iter().fold(name.as_str(), |name, end| name.trim_end_matches(end));
        assert!(known.iter().any(|def| def.name == base || def.name == name), "{name} in operations.md does not exist");
    }
}

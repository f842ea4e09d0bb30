//! Merging flags, environment, file and defaults, and checking the result. Reads no environment or file by itself.

use super::{KEYS, Origin, Problems, Settings, Value, check};
use std::collections::BTreeMap;

/// Values given outside the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `section.key=value` from `--set`, in order.
    pub flags: Vec<String>,
    /// The process's environment; only `FOREBAY_*` names are looked at.
    pub environment: Vec<(String, String)>,
}

/// Settings with where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked settings.
    pub settings: Settings,
    /// Value and origin by key.
    pub values: BTreeMap<&'static str, (Value, Origin)>,
}

/// Environment names that belong to Forebay's tools and tests rather than to a setting.
const ENV_NOT_SETTINGS: [&str; 3] = ["FOREBAY_CONFIG", "FOREBAY_DIR", "FOREBAY_TEST_"];

/// Merges and checks. `file` is the TOML text, empty for none.
pub fn load(file: &str, overrides: &Overrides) -> Result<Loaded, Problems> {
    let mut problems = Vec::new();
    let mut values: BTreeMap<&'static str, (Value, Origin)> = BTreeMap::new();
    for key in KEYS {
        let value = key.kind.from_text(key.default).expect("every default is valid: a test says so");
        values.insert(key.name, (value, Origin::Default));
    }
    read_file(file, &mut values, &mut problems);
    for (name, text) in &overrides.environment {
        if !name.starts_with("FOREBAY_") || ENV_NOT_SETTINGS.iter().any(|other| name.starts_with(other)) {
            continue;
        }
        match KEYS.iter().find(|key| environment_name(key.name) == *name) {
            Some(key) => set_text(key.name, text, Origin::Environment, name, &mut values, &mut problems),
            None => problems
                .push(format!("{name}: got an unknown environment variable, want FOREBAY_SECTION_KEY of a known key")),
        }
    }
    for flag in &overrides.flags {
        match flag.split_once('=') {
            Some((name, text)) => match KEYS.iter().find(|key| key.name == name.trim()) {
                Some(key) => set_text(key.name, text, Origin::Flag, key.name, &mut values, &mut problems),
                None => problems.push(unknown(name.trim())),
            },
            None => problems.push(format!("--set: got \"{flag}\", want section.key=value")),
        }
    }
    let settings = check::typed(&values, &mut problems);
    if problems.is_empty() { Ok(Loaded { settings, values }) } else { Err(Problems(problems)) }
}

/// A setting with its value, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    /// `section.key`
    pub name: &'static str,
    /// The value as TOML.
    pub value: String,
    /// `default`, `file`, `environment` or `flag`.
    pub origin: &'static str,
    /// One line on what it means.
    pub doc: &'static str,
}

impl Loaded {
    /// Every setting in the order of the table. Secrets are in files, so that no value is one.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let shown = |key: &super::Key| {
            let (value, origin) = &self.values[key.name];
            let origin = match origin {
                Origin::Default => "default",
                Origin::File => "file",
                Origin::Environment => "environment",
                Origin::Flag => "flag",
            };
            Shown { name: key.name, value: value_as_toml(value).to_string(), origin, doc: key.doc }
        };
        KEYS.iter().map(shown).collect()
    }

    /// The whole configuration as TOML, each line with its origin: what `--print-config` shows.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for Shown { name, value, origin, doc } in self.shown() {
            let (first, field) = name.split_once('.').expect("every key has a section: a test says so");
            if first != section {
                text.push_str(&format!("{}[{first}]\n", if section.is_empty() { "" } else { "\n" }));
                section = first;
            }
            text.push_str(&format!("{field} = {value} # {origin}: {doc}\n"));
        }
        text
    }
}

fn value_as_toml(value: &Value) -> toml::Value {
    match value {
        Value::Text(text) => toml::Value::String(text.clone()),
        Value::List(list) => toml::Value::Array(list.iter().cloned().map(toml::Value::String).collect()),
        Value::Size(size) => toml::Value::String(size.to_string()),
        Value::Span(span) => toml::Value::String(span.to_string()),
        Value::Int(number) => toml::Value::Integer(*number as i64),
        Value::Bool(flag) => toml::Value::Boolean(*flag),
    }
}

fn environment_name(key: &str) -> String {
    format!("FOREBAY_{}", key.replace('.', "_").to_uppercase())
}

fn unknown(name: &str) -> String {
    let field = name.rsplit('.').next().unwrap_or(name);
    let near = KEYS
        .iter()
        .map(|key| {
            (distance(key.name, name).min(distance(key.name.rsplit('.').next().unwrap_or(""), field) + 1), key.name)
        })
        .min();
    match near {
        Some((edits, near)) if edits <= 4 => format!("{name}: got an unknown key, want {near}?"),
        _ => format!("{name}: got an unknown key, want one of those that --print-config lists"),
    }
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn set_text(
    name: &'static str,
    text: &str,
    origin: Origin,
    shown_as: &str,
    values: &mut BTreeMap<&'static str, (Value, Origin)>,
    problems: &mut Vec<String>,
) {
    let kind = KEYS.iter().find(|key| key.name == name).expect("the caller found it").kind;
    match kind.from_text(text) {
        Some(value) => drop(values.insert(name, (value, origin))),
        None => problems.push(format!("{shown_as}: got \"{text}\", want {}", kind.want())),
    }
}

fn read_file(file: &str, values: &mut BTreeMap<&'static str, (Value, Origin)>, problems: &mut Vec<String>) {
    let table: toml::Table = match file.parse() {
        Ok(table) => table,
        Err(error) => {
            problems.push(format!("file: got TOML that cannot be read, want valid TOML: {}", error.to_string().trim()));
            return;
        }
    };
    for (section, fields) in &table {
        let Some(fields) = fields.as_table() else {
            problems.push(format!("{section}: got a value outside a section, want [section]"));
            continue;
        };
        for (field, value) in fields {
            let name = format!("{section}.{field}");
            let Some(key) = KEYS.iter().find(|key| key.name == name) else {
                problems.push(unknown(&name));
                continue;
            };
            match key.kind.from_toml(value) {
                Some(checked) => drop(values.insert(key.name, (checked, Origin::File))),
                None => problems.push(format!("{name}: got {value}, want {}", key.kind.want())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(file: &str) -> Vec<String> {
        load(file, &Overrides::default()).expect_err("it is wrong").0
    }

    #[test]
    fn table_is_sound() {
        assert!(KEYS.len() < 50);
        for key in KEYS {
            assert!(key.kind.from_text(key.default).is_some(), "{}", key.name);
            assert_eq!(key.name.split('.').count(), 2);
        }
        load("", &Overrides::default()).expect("defaults are valid");
    }

    #[test]
    fn all_problems_at_once() {
        let found = problems(
            "[worker]\nmem_capacty = \"1GiB\"\neviction = \"fifo\"\nread_ahead = \"fast\"\nssd = [\"cache=1GiB\"]\n[master]\npartitions = 0\n",
        );
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(
            found.contains(&"worker.mem_capacty: got an unknown key, want worker.mem_capacity?".to_string()),
            "{found:#?}"
        );
        assert!(found.contains(&"worker.eviction: got \"fifo\", want one of scan-resistant, lru, lfu".to_string()));
        assert!(found.contains(&"master.partitions: got 0, want a whole number from 1 to 256".to_string()));
    }

    #[test]
    fn flags_beat_environment_beats_file() {
        let overrides = Overrides {
            flags: vec!["worker.weight=3".into()],
            environment: vec![
                ("FOREBAY_WORKER_WEIGHT".into(), "2".into()),
                ("FOREBAY_FUSE_THREADS".into(), "7".into()),
            ],
        };
        let loaded =
            load("[worker]\nweight = 1\n[fuse]\nthreads = 5\n[store]\nthreads = 9\n", &overrides).expect("valid");
        assert_eq!(
            (loaded.settings.worker.weight, loaded.settings.fuse.threads, loaded.settings.store.threads),
            (3, 7, 9)
        );
        assert_eq!(loaded.values["worker.weight"].1, Origin::Flag);
        let again = load(&loaded.to_toml(), &Overrides::default()).expect("printed configuration loads");
        assert_eq!(again.settings.worker.weight, 3);
    }

    #[test]
    fn overlapping_directories_and_open_binds_are_refused() {
        let found =
            problems("[worker]\ndir = \"/data/w\"\nssd = [\"/data/w/cache=1GiB\"]\nlisten = \"0.0.0.0:7500\"\n");
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found[0].contains("overlap"), "{found:#?}");
        assert!(found[1].contains("cluster.secret_file"), "{found:#?}");
    }
    #[test]
    fn http_is_off_or_an_address_and_open_only_with_a_token() {
        let loaded = load("[master]\nhttp = \"off\"\n", &Overrides::default()).expect("off is a value");
        assert_eq!(loaded.settings.master.http, None);
        assert_eq!(loaded.settings.worker.http.as_deref(), Some("127.0.0.1:7481"));
        assert!(problems("[master]\nhttp = \"on\"\n")[0].contains("want host:port or off"));
        let open = "[worker]\nhttp = \"0.0.0.0:7481\"\n[fuse]\nhttp = \"[::]:7482\"\n";
        let found = problems(open);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found.iter().all(|problem| problem.contains("cluster.http_token_file")), "{found:#?}");
        // The cluster's secret guards the wire, not HTTP.
        assert_eq!(problems(&format!("{open}[cluster]\nsecret_file = \"/etc/forebay/secret\"\n")).len(), 2);
        load(&format!("{open}[cluster]\nhttp_token_file = \"/etc/forebay/token\"\n"), &Overrides::default())
            .expect("a token lets others in");
    }
}

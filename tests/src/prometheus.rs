//! A strict reader of the Prometheus text format, version 0.0.4: what it takes, every scraper takes. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// One sample.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// Its name, with `_bucket`, `_sum` or `_count` where it is part of a histogram.
    pub name: String,
    /// Label and value.
    pub labels: BTreeMap<String, String>,
    /// The number.
    pub value: f64,
}

/// A whole text.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The type of each metric.
    pub types: BTreeMap<String, String>,
    /// All samples, in order.
    pub samples: Vec<Sample>,
}

impl Metrics {
    /// The sum of all samples of that name whose labels hold those given.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|own| own == value))
        };
        self.samples.iter().filter(fits).map(|sample| sample.value).sum()
    }
}

fn is_name(text: &str, colon: bool) -> bool {
    let first = |letter: char| letter.is_ascii_alphabetic() || letter == '_' || (colon && letter == ':');
    text.chars().next().is_some_and(first) && text.chars().all(|letter| first(letter) || letter.is_ascii_digit())
}

fn number(text: &str) -> Result<f64, String> {
    match text {
        "+Inf" => Ok(f64::INFINITY),
        // What Rust takes and the format does not, and exponents of which we write none.
        text if text.chars().any(|letter| !letter.is_ascii_digit() && !matches!(letter, '.' | '-')) => {
            Err(format!("\"{text}\" is no number"))
        }
        text => text.parse().map_err(|_| format!("\"{text}\" is no number")),
    }
}

fn sample(line: &str) -> Result<Sample, String> {
    let end = line.find(['{', ' ']).ok_or("a sample without a value")?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").ok_or("a label without a value")?;
            let (mut value, mut letters) = (String::new(), quoted.char_indices());
            let end = loop {
                match letters.next().ok_or("a label that does not end")? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match letters.next().ok_or("a label that does not end")?.1 {
                        'n' => '\n',
                        same @ ('\\' | '"') => same,
                        other => return Err(format!("\\{other} is no escape")),
                    }),
                    (_, letter) => value.push(letter),
                }
            };
            if !is_name(label, false) || labels.insert(label.to_string(), value).is_some() {
                return Err(format!("label \"{label}\": a wrong name, or given twice"));
            }
            rest = &quoted[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').ok_or("labels without their end")?;
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    if !is_name(name, true) {
        return Err(format!("\"{name}\" is no name"));
    }
    Ok(Sample { name: name.into(), labels, value: number(value)? })
}

/// Reads a text; says what is wrong with it.
pub fn read(text: &str) -> Result<Metrics, String> {
    if !text.is_empty() && !text.ends_with('\n') {
        return Err("the last line has no end".into());
    }
    let mut metrics = Metrics::default();
    let (mut helped, mut seen) = (BTreeSet::new(), BTreeSet::new());
    let mut current: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let wrong = |why: String| format!("line {}: {why}: {line}", index + 1);
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, words) = help.split_once(' ').ok_or_else(|| wrong("HELP without words".into()))?;
            if !is_name(name, true) || words.is_empty() || !helped.insert(name.to_string()) {
                return Err(wrong("HELP of a wrong name, without words, or twice".into()));
            }
            current = Some(name.to_string());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').ok_or_else(|| wrong("TYPE without a type".into()))?;
            if current.as_deref() != Some(name) || !["counter", "gauge", "histogram"].contains(&kind) {
                return Err(wrong("TYPE does not follow its HELP, or is unknown".into()));
            }
            if metrics.types.insert(name.into(), kind.into()).is_some() {
                return Err(wrong("TYPE twice".into()));
            }
        } else {
            let sample = sample(line).map_err(wrong)?;
            let own = current.as_deref().unwrap_or_default();
            let kind = metrics.types.get(own).map(String::as_str).unwrap_or_default();
            let fits = match kind {
                "histogram" => {
                    sample.name.strip_prefix(own).is_some_and(|end| ["_bucket", "_sum", "_count"].contains(&end))
                }
                "" => false,
                _ => sample.name == own,
            };
            if !fits {
                return Err(wrong(format!("a sample under the head of {own}")));
            }
            if kind != "gauge" && sample.value < 0.0 {
                return Err(wrong("less than nothing".into()));
            }
            if !seen.insert((sample.name.clone(), sample.labels.clone())) {
                return Err(wrong("a sample twice".into()));
            }
            metrics.samples.push(sample);
        }
    }
    check_histograms(&metrics)?;
    Ok(metrics)
}

/// Buckets must grow, end with +Inf, and add up to the count.
fn check_histograms(metrics: &Metrics) -> Result<(), String> {
    for name in metrics.types.iter().filter(|(_, kind)| *kind == "histogram").map(|(name, _)| name) {
        let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in metrics.samples.iter().filter(|sample| sample.name == format!("{name}_bucket")) {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").ok_or_else(|| format!("{name}: a bucket without le"))?;
            series.entry(labels).or_default().push((number(&bound)?, sample.value));
        }
        let of = |end: &str, labels: &BTreeMap<String, String>| {
            let mut found = metrics.samples.iter().filter(|own| own.name == format!("{name}{end}"));
            found.find(|own| own.labels == *labels).map(|own| own.value)
        };
        let counted = metrics.samples.iter().filter(|own| own.name == format!("{name}_count")).count();
        if counted != series.len() {
            return Err(format!("{name}: {counted} counts for {} rows of buckets", series.len()));
        }
        for (labels, buckets) in &series {
            let grows = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1);
            let last = buckets.last().copied().unwrap_or_default();
            if !grows || last.0 != f64::INFINITY || of("_count", labels) != Some(last.1) || of("_sum", labels).is_none()
            {
                return Err(format!("{name} {labels:?}: buckets that do not grow, end, or add up: {buckets:?}"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# HELP a_seconds how long\n# TYPE a_seconds histogram\n\
        a_seconds_bucket{op=\"x\",le=\"0.5\"} 1\na_seconds_bucket{op=\"x\",le=\"+Inf\"} 3\n\
        a_seconds_sum{op=\"x\"} 1.5\na_seconds_count{op=\"x\"} 3\n\
        # HELP b_total b\n# TYPE b_total counter\nb_total{path=\"/a \\\"b\\\"\\\\\"} 7\n";

    #[test]
    fn a_good_text_is_read() {
        let metrics = read(GOOD).expect("good");
        assert_eq!(metrics.sum("b_total", &[("path", "/a \"b\"\\")]), 7.0);
        assert_eq!(metrics.sum("a_seconds_count", &[]), 3.0);
    }

    #[test]
    fn each_fault_is_found() {
        for (from, to) in [
            ("b_total{path", "b_total{pa-th"),
            ("} 7\n", "} 7"),
            ("} 7\n", "} seven\n"),
            ("} 7\n", "} -7\n"),
            ("# TYPE b_total counter\n", ""),
            ("# HELP b_total b\n", ""),
            ("\nb_total{", "\nc_total{"),
            ("le=\"+Inf\"} 3", "le=\"+Inf\"} 4"),
            ("le=\"0.5\"} 1", "le=\"0.5\"} 5"),
            ("a_seconds_bucket{op=\"x\",le=\"+Inf\"} 3\n", ""),
            ("a_seconds_sum{op=\"x\"} 1.5\n", ""),
            ("a_seconds_count{op=\"x\"} 3\n", ""),
            ("a_seconds_sum{op=\"x\"} 1.5\n", "a_seconds_sum{op=\"x\"} 1.5\na_seconds_sum{op=\"x\"} 1.5\n"),
            ("\\\"b", "\\b"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let bad = GOOD.replacen(from, to, 1);
            assert!(read(&bad).is_err(), "taken:\n{bad}");
        }
    }
}

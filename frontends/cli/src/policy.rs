//! `admin path-policy`: shows and changes what holds below paths.

use crate::arguments::{PolicyValue, PolicyVerb};
use crate::failure::Failure;
use crate::output::{self, Output, printable, table};
use forebay_base::Span;
use forebay_client::Client;
use forebay_client::message::namespace::{ListPathPolicies, PathPolicy, RemovePathPolicy, SetPathPolicy};
use serde_json::{Value, json};

const WHAT: &str = "admin path-policy";

/// Runs one verb.
pub(crate) async fn run(client: &Client, verb: PolicyVerb) -> Result<(), Failure> {
    match verb {
        PolicyVerb::Show { json, path } => show(client, json, path.as_deref()).await,
        PolicyVerb::Set { path, values } => {
            let mut policy = PathPolicy { path: path.clone(), freshness_ms: None, pin: None };
            for value in values {
                match value {
                    PolicyValue::Freshness(span) => policy.freshness_ms = Some(span.as_ms()),
                    PolicyValue::Pin(pin) => policy.pin = Some(pin),
                }
            }
            let set = client.master(&SetPathPolicy { policy }).await;
            let set = set.map_err(|error| Failure::of(WHAT, &path, &error))?;
            output::line(&format!("{}: {}", printable(set.path.as_bytes()), values_text(&set)))
        }
        PolicyVerb::Remove { path } => {
            let removed = client.master(&RemovePathPolicy { path: path.clone() }).await;
            removed.map_err(|error| Failure::of(WHAT, &path, &error))?;
            output::line(&format!("{path}: its policy is removed"))
        }
    }
}

fn values_text(policy: &PathPolicy) -> String {
    let freshness = policy.freshness_ms.map(|ms| format!("freshness={}", Span::from_ms(ms)));
    let pin = policy.pin.map(|pin| format!("pin={pin}"));
    let all: Vec<String> = freshness.into_iter().chain(pin).collect();
    if all.is_empty() { "no policy any more".into() } else { all.join(" ") }
}

async fn show(client: &Client, as_json: bool, below: Option<&str>) -> Result<(), Failure> {
    let all = client.master(&ListPathPolicies::default()).await;
    let mut all = all.map_err(|error| Failure::of(WHAT, "show", &error))?.policies;
    if let Some(below) = below {
        let below = below.trim_end_matches('/');
        all.retain(|policy| {
            policy.path.strip_prefix(below).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    }
    let mut output = Output::open();
    if as_json {
        let value = |policy: &PathPolicy| {
            // null: not set. "never" has no number.
            let freshness = policy.freshness_ms.map(|ms| Span::from_ms(ms).to_string());
            json!({ "path": policy.path, "freshness": freshness, "pin": policy.pin.unwrap_or(false) })
        };
        output.line(&Value::Array(all.iter().map(value).collect()).to_string())?;
    } else if all.is_empty() {
        output.line("no policies: set one with forebay admin path-policy set /path freshness=TIME")?;
    } else {
        let rows: Vec<Vec<String>> =
            all.iter().map(|policy| vec![printable(policy.path.as_bytes()), values_text(policy)]).collect();
        table(&mut output, &["PATH", "POLICY"], &[], &rows)?;
    }
    output.flush()
}

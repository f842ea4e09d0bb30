//! What `forebay admin path-policy` accepts. Pure.

use super::key_value;
use clap::Subcommand;
use forebay_base::Span;

#[derive(Subcommand, Debug)]
pub(crate) enum PolicyVerb {
    /// Lists the policies, or those at and below a path
    #[command(after_help = "Example:\n  forebay admin path-policy show --json")]
    Show {
        /// One JSON array
        #[arg(long)]
        json: bool,
        /// Only here and below
        path: Option<String>,
    },
    /// Sets what holds at a path and below it
    #[command(
        after_help = "Keys:\n  freshness=TIME  how old metadata may be, e.g. 0s, 5m, never; the longest path wins\n  pin=true|false  kept in the cache with all below it, as fs pin and fs unpin do\n\nExample:\n  forebay admin path-policy set /data/live freshness=0s"
    )]
    Set {
        /// A path in a mount; it need not exist yet
        path: String,
        /// What is set
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = policy_value)]
        values: Vec<PolicyValue>,
    },
    /// Takes a path's policy away
    #[command(after_help = "Example:\n  forebay admin path-policy remove /data/live")]
    Remove {
        /// Its path
        path: String,
    },
}

/// One key of a policy with its value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PolicyValue {
    Freshness(Span),
    Pin(bool),
}

fn policy_value(text: &str) -> Result<PolicyValue, String> {
    let (key, value) = key_value(text)?;
    match key.as_str() {
        "freshness" => super::freshness(&value).map(PolicyValue::Freshness),
        "pin" => value.parse().map(PolicyValue::Pin).map_err(|_| format!("pin: got {value}, want true or false")),
        _ => Err(format!("unknown key {key}, want freshness=TIME or pin=true|false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values() {
        assert_eq!(policy_value("freshness=never"), Ok(PolicyValue::Freshness(Span::Never)));
        assert_eq!(policy_value("pin=true"), Ok(PolicyValue::Pin(true)));
        assert!(policy_value("pin=yes").unwrap_err().contains("true or false"));
        assert!(policy_value("colour=red").unwrap_err().contains("want freshness=TIME"));
        assert!(policy_value("freshness=soon").is_err() && policy_value("freshness").is_err());
    }
}

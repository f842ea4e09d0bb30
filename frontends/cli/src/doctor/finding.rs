//! One line of the doctor's answer. Pure.

use serde_json::{Value, json};

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum State {
    Ok,
    Warning,
    Failure,
}

impl State {
    pub(crate) fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Failure => "failure",
        }
    }
}

/// One check and its outcome.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Finding {
    /// `area.name`, stable for programs.
    pub(crate) check: String,
    pub(crate) state: State,
    /// What was found.
    pub(crate) found: String,
    /// What is wanted; empty where everything is right.
    pub(crate) wanted: String,
    /// How to get there; empty where everything is right.
    pub(crate) mend: String,
}

impl Finding {
    pub(crate) fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, found: found.into(), wanted: String::new(), mend: String::new() }
    }

    pub(crate) fn warning(
        check: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            check: check.into(),
            state: State::Warning,
            found: found.into(),
            wanted: wanted.into(),
            mend: mend.into(),
        }
    }

    pub(crate) fn failure(
        check: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self { state: State::Failure, ..Self::warning(check, found, wanted, mend) }
    }

    pub(crate) fn as_json(&self) -> Value {
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        json!({
            "check": self.check,
            "state": self.state.word(),
            "found": self.found,
            "wanted": some(&self.wanted),
            "mend": some(&self.mend),
        })
    }
}

//! `admin doctor`: gathers facts of this host and its cluster, judges them, and says how to mend what is wrong.
//!
//! `facts` is what is known, `gather` looks, `evaluate` judges and touches nothing.

mod evaluate;
mod facts;
mod finding;
mod gather;
mod ring;

use crate::arguments::Doctor;
use crate::connection;
use crate::failure::Failure;
use crate::output::{Output, printable};
use crate::settings_source::SettingsSource;
use facts::Facts;
use finding::{Finding, State};
use gather::Scope;
use serde_json::{Value, json};

pub(crate) use facts::{Process, ROLES};
pub(crate) use gather::running;

/// Checks and shows; fails when a check does.
pub(crate) fn doctor(arguments: &Doctor, source: &SettingsSource) -> Result<(), Failure> {
    let source = source.in_dir(arguments.dir.as_deref());
    let (facts, findings) = examine(&source, &arguments.roles, !arguments.no_speed)?;
    let mut output = Output::open();
    if arguments.json {
        output.line(&as_json(&facts, &findings).to_string())?;
    } else {
        show(&mut output, &findings)?;
    }
    output.flush()?;
    drop(output);
    match count(&findings, State::Failure) {
        0 => Ok(()),
        1 => Err(Failure::failed("admin doctor: 1 check failed")),
        failures => Err(Failure::failed(format!("admin doctor: {failures} checks failed"))),
    }
}

/// The same answer for `admin collect`, without a measurement.
pub(crate) fn as_json_of(source: &SettingsSource) -> Result<Value, Failure> {
    let (facts, findings) = examine(source, &[], false)?;
    Ok(as_json(&facts, &findings))
}

fn examine(source: &SettingsSource, roles: &[String], speed: bool) -> Result<(Facts, Vec<Finding>), Failure> {
    let loaded = source.load()?;
    let scope = Scope { loaded: &loaded, config: source.file(), roles, speed };
    let facts = connection::runtime()?.block_on(gather::gather(&scope));
    let findings = evaluate::evaluate(&facts);
    Ok((facts, findings))
}

fn count(findings: &[Finding], state: State) -> usize {
    findings.iter().filter(|finding| finding.state == state).count()
}

fn show(output: &mut Output, findings: &[Finding]) -> Result<(), Failure> {
    let width = findings.iter().map(|finding| finding.check.chars().count()).max().unwrap_or(0).min(40);
    for finding in findings {
        let found = printable(finding.found.as_bytes());
        let check = printable(finding.check.as_bytes());
        output.line(&format!("{:<8} {check:<width$}  {found}", finding.state.word()))?;
        for (label, text) in [("want", &finding.wanted), ("mend", &finding.mend)] {
            if !text.is_empty() {
                output.line(&format!("{:<8} {label}: {}", "", printable(text.as_bytes())))?;
            }
        }
    }
    output.line(&format!(
        "{} ok, {} to look at, {} to mend",
        count(findings, State::Ok),
        count(findings, State::Warning),
        count(findings, State::Failure)
    ))
}

fn as_json(facts: &Facts, findings: &[Finding]) -> Value {
    json!({
        "ok": count(findings, State::Failure) == 0,
        "failures": count(findings, State::Failure),
        "warnings": count(findings, State::Warning),
        "roles": facts.roles.iter().map(|facts| facts.role).collect::<Vec<_>>(),
        "checks": findings.iter().map(Finding::as_json).collect::<Vec<_>>(),
    })
}

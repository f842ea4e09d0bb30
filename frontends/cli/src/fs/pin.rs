//! `fs pin` and `fs unpin`: paths whose files the cluster keeps in its cache, and how far it does.

use super::glob::Glob;
use super::paths::{absolute, named};
use super::pinned::Pinned;
use crate::arguments::{Pin, Unpin};
use crate::failure::{Failure, NOT_FOUND};
use crate::output::{self, Output, printable, table, timestamp};
use forebay_base::ByteSize;
use forebay_client::Client;
use forebay_client::message::namespace::{ListPins, PathPolicy, PinInfo, SetPathPolicy};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::time::{Duration, Instant};

const PIN: &str = "fs pin";
const UNPIN: &str = "fs unpin";
/// How long the numbers of a new pin are waited for.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// What is beyond the pins' share is not pinned.
const NO_ROOM: &str = "pins may hold 80 % of each core's cache";

/// Pins paths, or lists the pins.
pub(crate) async fn pin(client: &Client, arguments: Pin) -> Result<(), Failure> {
    if arguments.paths.is_empty() {
        return list(client, arguments.json).await;
    }
    let mut paths = Vec::new();
    for named in named(client, PIN, &arguments.paths).await? {
        let shown = named.shown();
        let path = String::from_utf8(named.path)
            .map_err(|_| Failure::usage(format!("{PIN}: {shown}: its name is not UTF-8, which a pin must be")))?;
        paths.push(path);
    }
    for path in &paths {
        set(client, PIN, path, true).await?;
    }
    let pins = first_look(client, &paths).await?;
    let mut output = Output::open();
    let mut failures = String::new();
    for pin in &pins {
        output.line(&if arguments.json { as_json(pin).to_string() } else { in_words(pin) })?;
        if pin.refused_bytes > 0 {
            let (refused, bytes) = (ByteSize(pin.refused_bytes), ByteSize(pin.bytes));
            let path = printable(pin.path.as_bytes());
            failures.push_str(&format!("{PIN}: {path}: {refused} of {bytes} cannot be pinned: {NO_ROOM}\n"));
        }
    }
    output.flush()?;
    if failures.is_empty() { Ok(()) } else { Err(Failure::failed(failures)) }
}

async fn set(client: &Client, what: &str, path: &str, pin: bool) -> Result<(), Failure> {
    let policy = PathPolicy { path: path.to_string(), freshness_ms: None, pin: Some(pin) };
    let set = client.master(&SetPathPolicy { policy }).await;
    set.map(drop).map_err(|error| Failure::of(what, path, &error))
}

async fn ask(client: &Client) -> Result<Vec<PinInfo>, Failure> {
    let asked = client.master(&ListPins::default()).await;
    Ok(asked.map_err(|error| Failure::of(PIN, "list", &error))?.pins)
}

/// The pins just made, with their first numbers unless these take long.
async fn first_look(client: &Client, paths: &[String]) -> Result<Vec<PinInfo>, Failure> {
    let start = Instant::now();
    loop {
        let all = ask(client).await?;
        let own = |path: &String| {
            let missing = || PinInfo { path: path.clone(), ..PinInfo::default() };
            all.iter().find(|pin| pin.path == *path).cloned().unwrap_or_else(missing)
        };
        let pins: Vec<PinInfo> = paths.iter().map(own).collect();
        if pins.iter().all(|pin| pin.is_complete) || start.elapsed() > FIRST_LOOK {
            return Ok(pins);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn in_words(pin: &PinInfo) -> String {
    let path = printable(pin.path.as_bytes());
    if !pin.is_complete {
        return format!("{path}: pinned; its files are being looked up: forebay fs pin shows how far that is");
    }
    let state = match pin.missing_bytes {
        0 => "all of it cached".to_string(),
        missing => format!("{} of it are being loaded", ByteSize(missing)),
    };
    format!("{path}: pinned, {} files, {} pinned, {state}", pin.files, ByteSize(pin.pinned_bytes))
}

async fn list(client: &Client, as_array: bool) -> Result<(), Failure> {
    let pins = ask(client).await?;
    let mut output = Output::open();
    if as_array {
        output.line(&Value::Array(pins.iter().map(as_json).collect()).to_string())?;
    } else if pins.is_empty() {
        output.line("no pins: set one with forebay fs pin /path")?;
    } else {
        let rows: Vec<Vec<String>> = pins.iter().map(row).collect();
        let head = ["PATH", "FILES", "SIZE", "PINNED", "MISSING", "REFUSED", "STATE"];
        table(&mut output, &head, &[1, 2, 3, 4, 5], &rows)?;
    }
    output.flush()
}

fn row(pin: &PinInfo) -> Vec<String> {
    let bytes = |bytes: u64| ByteSize(bytes).to_string();
    let state = match pin {
        pin if !pin.last_error.is_empty() => printable(pin.last_error.as_bytes()),
        pin if !pin.is_complete => "looked up".into(),
        pin if pin.refused_bytes > 0 => "no room for all".into(),
        pin if pin.missing_bytes > 0 => "loading".into(),
        _ => "ok".into(),
    };
    vec![
        printable(pin.path.as_bytes()),
        pin.files.to_string(),
        bytes(pin.bytes),
        bytes(pin.pinned_bytes),
        bytes(pin.missing_bytes),
        bytes(pin.refused_bytes),
        state,
    ]
}

fn as_json(pin: &PinInfo) -> Value {
    json!({
        "path": pin.path,
        "files": pin.files,
        "bytes": pin.bytes,
        "pinned_bytes": pin.pinned_bytes,
        "missing_bytes": pin.missing_bytes,
        "refused_bytes": pin.refused_bytes,
        "is_complete": pin.is_complete,
        "checked": (pin.checked_ms > 0).then(|| timestamp(pin.checked_ms)),
        "last_error": (!pin.last_error.is_empty()).then_some(&pin.last_error),
    })
}

/// Takes pins back.
pub(crate) async fn unpin(client: &Client, arguments: Unpin) -> Result<(), Failure> {
    let mut paths = Vec::new();
    for argument in &arguments.paths {
        paths.extend(stands_for(client, argument).await?);
    }
    for path in paths {
        set(client, UNPIN, &path, false).await?;
        let line = if arguments.json {
            json!({ "path": path, "pinned": false }).to_string()
        } else {
            format!("{}: not pinned any more", printable(path.as_bytes()))
        };
        output::line(&line)?;
    }
    Ok(())
}

/// The pinned paths that an argument means; one without wildcards is taken as it is.
async fn stands_for(client: &Client, argument: &OsStr) -> Result<Vec<String>, Failure> {
    let path = absolute(UNPIN, argument)?;
    let shown = printable(path);
    let text = std::str::from_utf8(path).map_err(|_| Failure::coded(NOT_FOUND, format!("{UNPIN}: {shown}: no pin")))?;
    if !text.contains(['*', '?', '[', '\\']) {
        return Ok(vec![text.to_string()]);
    }
    let pattern: Vec<Glob> = text.split('/').map(Glob::new).collect();
    let matches = |pin: &&str| {
        let names: Vec<&str> = pin.split('/').collect();
        names.len() == pattern.len()
            && pattern.iter().zip(names).all(|(glob, name)| glob.matches(name.as_bytes(), true))
    };
    let pinned = Pinned::ask(client, UNPIN).await?;
    let found: Vec<String> = pinned.paths().filter(matches).map(str::to_string).collect();
    if found.is_empty() {
        return Err(Failure::coded(NOT_FOUND, format!("{UNPIN}: {shown}: no pinned path matches")));
    }
    Ok(found)
}

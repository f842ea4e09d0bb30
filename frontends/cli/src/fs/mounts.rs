//! `fs mount`, `fs unmount`, `fs mounts`.

use crate::arguments::{Mount, key_value};
use crate::failure::Failure;
use crate::output::{self, Output, printable, table};
use forebay_base::Span;
use forebay_client::Client;
use forebay_client::message::namespace::{self, ListMounts, MountInfo, UpdateMount};
use serde_json::{Value, json};

/// Of a mount that says nothing else.
const FRESHNESS: Span = Span::Micros(30_000_000);

/// Adds or changes a mount.
pub(crate) async fn mount(client: &Client, arguments: Mount) -> Result<(), Failure> {
    let Mount { mut options, option_file, update, remove_options, freshness, readonly, read_write, path, uri } =
        arguments;
    if let Some(file) = option_file {
        let text = std::fs::read_to_string(&file)
            .map_err(|error| Failure::usage(format!("--option-file: {}: {error}", file.display())))?;
        options.extend(read_options(&text).map_err(|line| {
            // The line's number, not the line: it may hold a secret.
            Failure::usage(format!("--option-file: {}: line {line}: want key=value", file.display()))
        })?);
    }
    let info = if update {
        let readonly = (readonly || read_write).then_some(readonly);
        let freshness_ms = freshness.map(Span::as_ms);
        if options.is_empty() && remove_options.is_empty() && freshness_ms.is_none() && readonly.is_none() {
            let allowed = "--option, --option-file, --remove-option, --freshness, --readonly or --read-write";
            return Err(Failure::usage(format!("fs mount --update: {path}: nothing to change, want {allowed}")));
        }
        let set_options = options;
        client.master(&UpdateMount { path: path.clone(), set_options, remove_options, freshness_ms, readonly }).await
    } else {
        let freshness_ms = freshness.unwrap_or(FRESHNESS).as_ms();
        let uri = uri.unwrap_or_default();
        client.master(&namespace::Mount { path: path.clone(), uri, options, freshness_ms, readonly }).await
    };
    let info = info.map_err(|error| Failure::of("fs mount", &path, &error))?;
    output::line(&format!("{} shows {}, freshness {}", info.path, info.uri, Span::from_ms(info.freshness_ms)))
}

fn read_options(text: &str) -> Result<Vec<(String, String)>, usize> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim()))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(number, line)| key_value(line).map(|(key, value)| (key, value.trim().to_string())).map_err(|_| number))
        .collect()
}

/// Removes a mount.
pub(crate) async fn unmount(client: &Client, path: String, force: bool) -> Result<(), Failure> {
    let request = namespace::Unmount { path: path.clone(), force };
    client.master(&request).await.map_err(|error| Failure::of("fs unmount", &path, &error))?;
    output::line(&format!("{path} is unmounted"))
}

/// Lists the mounts.
pub(crate) async fn list(client: &Client, json: bool) -> Result<(), Failure> {
    let mounts =
        client.master(&ListMounts::default()).await.map_err(|error| Failure::of("fs mounts", "list", &error))?.mounts;
    let mut output = Output::open();
    if json {
        output.line(&Value::Array(mounts.iter().map(as_json).collect()).to_string())?;
    } else {
        show(&mut output, &mounts)?;
    }
    output.flush()
}

/// The table of mounts, as `fs mounts` and `admin report` show it.
pub(crate) fn show(output: &mut Output, mounts: &[MountInfo]) -> Result<(), Failure> {
    if mounts.is_empty() {
        return output.line("no mounts: add one with forebay fs mount /path URI");
    }
    let rows: Vec<Vec<String>> = mounts
        .iter()
        .map(|mount| {
            let options: Vec<String> = mount.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
            vec![
                printable(mount.path.as_bytes()),
                printable(mount.uri.as_bytes()),
                Span::from_ms(mount.freshness_ms).to_string(),
                if mount.readonly { "ro" } else { "rw" }.to_string(),
                printable(options.join(",").as_bytes()),
                if mount.trouble.is_empty() { "ok".into() } else { printable(mount.trouble.as_bytes()) },
            ]
        })
        .collect();
    table(output, &["MOUNT", "STORE", "FRESHNESS", "MODE", "OPTIONS", "STATE"], &[], &rows)
}

/// A mount for programs.
pub(crate) fn as_json(mount: &MountInfo) -> Value {
    let options: serde_json::Map<String, Value> =
        mount.options.iter().map(|(key, value)| (key.clone(), Value::String(value.clone()))).collect();
    json!({
        "mount_id": mount.mount_id,
        "path": mount.path,
        "uri": mount.uri,
        "options": options,
        // null: never asked again.
        "freshness_ms": (mount.freshness_ms != u64::MAX).then_some(mount.freshness_ms),
        "readonly": mount.readonly,
        "trouble": (!mount.trouble.is_empty()).then_some(&mount.trouble),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn option_files() {
        let options = read_options("# keys\nsecret_key = a=b \n\nregion=eu\n").expect("valid");
        assert_eq!(options, [("secret_key".into(), "a=b".to_string()), ("region".into(), "eu".into())]);
        assert_eq!(read_options("a=b\nnonsense"), Err(2));
    }
}

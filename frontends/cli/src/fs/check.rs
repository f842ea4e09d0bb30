//! `fs refresh` and `fs check`: namespace, and with `--deep` cache, against the store. Directory by directory, so that
//! neither side holds a whole tree.

use super::cat::open;
use super::paths::{Named, named};
use super::progress::Progress;
use super::walk::{Met, Walk, join};
use crate::arguments::{Check, Refresh};
use crate::failure::Failure;
use crate::output::{Output, printable};
use forebay_base::ByteSize;
use forebay_client::Client;
use forebay_client::message::namespace::{
    self, DIFFERENCE_ADDED, DIFFERENCE_REMOVED, DIFFERS_IN_ATTRIBUTES, DIFFERS_IN_CONTENT, DIFFERS_IN_KIND,
    DIFFERS_IN_SIZE, Difference, RefreshReply,
};
use serde_json::json;

/// Sums over everything looked at.
#[derive(Default)]
struct Tally {
    checked: u64,
    added: u64,
    changed: u64,
    removed: u64,
    failed: u64,
    equal_bytes: u64,
    different_bytes: u64,
    uncached_bytes: u64,
}

struct Comparison<'a> {
    client: &'a Client,
    what: &'static str,
    apply: bool,
    deep: bool,
    json: bool,
    output: Output,
    progress: Progress,
    tally: Tally,
}

/// Takes over what the store has now.
pub(crate) async fn refresh(client: &Client, arguments: Refresh) -> Result<(), Failure> {
    let Refresh { recursive, json, paths } = arguments;
    let what = "fs refresh";
    let roots = named(client, what, &paths).await?;
    let mut comparison = Comparison::new(client, what, json);
    comparison.apply = true;
    comparison.run(roots, recursive).await?;
    let Tally { checked, added, changed, removed, failed, .. } = comparison.tally;
    let line = if json {
        let sums =
            json!({ "checked": checked, "added": added, "changed": changed, "removed": removed, "failed": failed });
        sums.to_string()
    } else {
        format!("{checked} names compared: {added} added, {changed} changed, {removed} removed; {failed} failed")
    };
    comparison.output.line(&line)?;
    comparison.output.flush()?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::failed(format!("{what}: {failed} failed: each is named above"))),
    }
}

/// Compares and reports.
pub(crate) async fn check(client: &Client, arguments: Check) -> Result<(), Failure> {
    let Check { recursive, deep, json, paths } = arguments;
    let what = "fs check";
    let roots = named(client, what, &paths).await?;
    let mut comparison = Comparison::new(client, what, json);
    comparison.deep = deep;
    comparison.run(roots, recursive).await?;
    let Tally { checked, added, changed, removed, failed, equal_bytes, different_bytes, uncached_bytes } =
        comparison.tally;
    let differences = added + changed + removed;
    if json {
        let mut sums = json!({
            "checked": checked, "added": added, "changed": changed, "removed": removed, "failed": failed,
        });
        if deep {
            sums["equal_bytes"] = json!(equal_bytes);
            sums["different_bytes"] = json!(different_bytes);
            sums["uncached_bytes"] = json!(uncached_bytes);
        }
        comparison.output.line(&sums.to_string())?;
    } else {
        let line = format!("{checked} names compared: {added} new in the store, {changed} changed, {removed} gone");
        comparison.output.line(&format!("{line}; {failed} failed"))?;
        if deep {
            let [equal, different, uncached] = [equal_bytes, different_bytes, uncached_bytes].map(ByteSize);
            let line = format!("cached bytes: {equal} equal, {different} different and dropped; {uncached} not cached");
            comparison.output.line(&line)?;
        }
    }
    comparison.output.flush()?;
    let mut said = Vec::new();
    if failed > 0 {
        said.push(format!("{failed} failed"));
    }
    if differences > 0 {
        said.push(format!("{differences} names differ from the store: forebay fs refresh takes them over"));
    }
    if different_bytes > 0 {
        said.push(format!("{different_bytes} cached bytes differed and were dropped"));
    }
    if said.is_empty() { Ok(()) } else { Err(Failure::failed(format!("{what}: {}", said.join("; ")))) }
}

impl<'a> Comparison<'a> {
    fn new(client: &'a Client, what: &'static str, json: bool) -> Self {
        let (output, progress, tally) = (Output::open(), Progress::counting(), Tally::default());
        Self { client, what, apply: false, deep: false, json, output, progress, tally }
    }

    async fn run(&mut self, roots: Vec<Named>, recursive: bool) -> Result<(), Failure> {
        for root in roots {
            self.compare(&root).await?;
            if !root.is_directory() {
                self.bytes_of(&root).await;
                continue;
            }
            let mut walk = Walk::below(self.client, &root.path, &root.attr, recursive);
            while let Some(met) = walk.next().await {
                self.progress.seen();
                match met {
                    Met::Entry(path, attr) => {
                        let entry = Named { path, attr };
                        if !entry.is_directory() {
                            self.bytes_of(&entry).await;
                        } else if recursive {
                            self.compare(&entry).await?;
                        }
                    }
                    Met::Failed(path, error) => self.fail(&printable(&path), &error.message),
                }
            }
        }
        self.progress.finish();
        Ok(())
    }

    fn fail(&mut self, path: &str, message: &str) {
        self.tally.failed += 1;
        self.progress.complain(&format!("{}: {path}: {message}", self.what));
    }

    /// Names, sizes and versions of a file, or of what a directory holds.
    async fn compare(&mut self, named: &Named) -> Result<(), Failure> {
        let request = namespace::Refresh { file_id: named.attr.file_id, apply: self.apply };
        let reply = match self.client.master(&request).await {
            Ok(reply) => reply,
            Err(error) => {
                self.fail(&named.shown(), &error.message);
                return Ok(());
            }
        };
        let RefreshReply { checked, added, changed, removed, differences } = reply;
        self.tally.checked += checked;
        self.tally.added += added;
        self.tally.changed += changed;
        self.tally.removed += removed;
        for difference in &differences {
            let path = if named.is_directory() { join(&named.path, &difference.name) } else { named.path.clone() };
            let line = if self.json { json_line(&path, difference) } else { text_line(&path, difference) };
            self.output.line(&line)?;
        }
        let kept_back = (added + changed + removed).saturating_sub(differences.len() as u64);
        if kept_back > 0 && !self.json {
            self.output.line(&format!("... and {kept_back} more in {}", named.shown()))?;
        }
        self.output.flush()
    }

    /// The cached bytes of a file, if they are to be compared.
    async fn bytes_of(&mut self, named: &Named) {
        if !self.deep || named.attr.size == 0 {
            return;
        }
        let work = async {
            let file = open(self.client, self.what, named).await?;
            let verified = self.client.verify(&file, |_| {}).await;
            verified.map_err(|error| Failure::of(self.what, &named.shown(), &error))
        };
        match work.await {
            Ok(reply) => {
                self.tally.equal_bytes += reply.equal_bytes;
                self.tally.different_bytes += reply.different_bytes;
                self.tally.uncached_bytes += reply.uncached_bytes;
                if reply.different_bytes > 0 {
                    let path = named.shown();
                    let bytes = reply.different_bytes;
                    self.progress.complain(&format!("{}: {path}: {bytes} cached bytes differ: dropped", self.what));
                }
            }
            Err(failure) => {
                self.tally.failed += 1;
                failure.lines().for_each(|line| self.progress.complain_whole(&line));
            }
        }
    }
}

fn kind(difference: &Difference) -> &'static str {
    match difference.kind {
        DIFFERENCE_ADDED => "added",
        DIFFERENCE_REMOVED => "removed",
        _ => "changed",
    }
}

fn what(difference: &Difference) -> Vec<&'static str> {
    let bits = [
        (DIFFERS_IN_SIZE, "size"),
        (DIFFERS_IN_CONTENT, "content"),
        (DIFFERS_IN_ATTRIBUTES, "attributes"),
        (DIFFERS_IN_KIND, "kind"),
    ];
    bits.into_iter().filter(|(bit, _)| difference.what & bit != 0).map(|(_, word)| word).collect()
}

fn text_line(path: &[u8], difference: &Difference) -> String {
    let words = what(difference);
    let words = if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
    format!("{:<8} {}{words}", kind(difference), printable(path))
}

fn json_line(path: &[u8], difference: &Difference) -> String {
    json!({
        "path": String::from_utf8_lossy(path),
        "difference": kind(difference),
        "what": what(difference),
        "known_bytes": difference.known_bytes,
        "store_bytes": difference.store_bytes,
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named() {
        let changed = DIFFERS_IN_SIZE | DIFFERS_IN_CONTENT;
        let difference = Difference { name: b"x".to_vec(), kind: 2, what: changed, known_bytes: 1, store_bytes: 2 };
        assert_eq!(text_line(b"/a/x", &difference), "changed  /a/x (size, content)");
    }
}

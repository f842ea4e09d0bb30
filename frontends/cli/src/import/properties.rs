//! Java's properties format: comments, continued lines, escapes, and `${key}` for another key's value. Pure.

use std::collections::BTreeMap;

/// How deep `${...}` may lead, so that a circle ends.
const DEPTH_MAX: usize = 8;
/// Longest value with everything put in.
const VALUE_BYTES_MAX: usize = 1 << 16;

/// Keys with their values; of a key given twice the last, as Java has it.
pub(super) fn parse(text: &str) -> BTreeMap<String, String> {
    let mut raw = BTreeMap::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let mut logical = line.trim_start().to_string();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while continues(&logical) {
            logical.pop();
            match lines.next() {
                Some(next) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        raw.insert(unescape(key), unescape(value));
    }
    raw.keys().map(|key| (key.clone(), resolve(&raw, key, DEPTH_MAX))).collect()
}

/// A line with an odd number of backslashes at its end goes on.
fn continues(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// At the first `=`, `:` or white space that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|(_, c)| {
        let ends = !escaped && matches!(c, '=' | ':' | ' ' | '\t');
        escaped = *c == '\\' && !escaped;
        ends
    });
    let Some((at, _)) = end else { return (line, "") };
    let rest = line[at..].trim_start_matches([' ', '\t']);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (&line[..at], rest.trim_start_matches([' ', '\t']))
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(c) = letters.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some('u') => {
                let digits: String = letters.clone().take(4).collect();
                match u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).filter(|_| digits.len() == 4) {
                    Some(letter) => {
                        out.push(letter);
                        letters.nth(3);
                    }
                    None => out.push('u'),
                }
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out.trim_end().to_string()
}

fn resolve(raw: &BTreeMap<String, String>, key: &str, depth: usize) -> String {
    let value = raw.get(key).map_or("", String::as_str);
    let mut out = String::new();
    let mut rest = value;
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else { break };
        out.push_str(before);
        if depth > 0 && raw.contains_key(name) && out.len() < VALUE_BYTES_MAX {
            out.push_str(&resolve(raw, name, depth - 1));
        } else {
            out.push_str(&format!("${{{name}}}"));
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_java_reads() {
        let text = "# c\n! c\n\na=1\nb : two words \nc\tthree\nd.e=x=y\\:z\nlong=one,\\\n   two\nempty=\n\
                    work=/opt\npath=${work}/data/${nothing}\nu=\\u00e9\\q\nloop=${loop}\nlast=\\";
        let parsed = parse(text);
        let value = |key: &str| parsed[key].as_str();
        assert_eq!([value("a"), value("b"), value("c"), value("d.e")], ["1", "two words", "three", "x=y:z"]);
        assert_eq!([value("long"), value("empty"), value("path")], ["one,two", "", "/opt/data/${nothing}"]);
        assert_eq!([value("u"), value("last")], ["\u{e9}q", ""]);
        assert!(value("loop").contains("loop"));
    }
}

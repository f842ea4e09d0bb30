//! Headless Chromium, driven by the DevTools protocol over two pipes (`--remote-debugging-pipe`): messages are JSON with a
//! zero byte behind each. The shell gives it the pipes as descriptors 3 and 4.
//!
//! Invariant: the browser and its profile are gone when this is; what it asked for and what went wrong in pages is kept.

use crate::wait::eventually;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Longest for one answer, or for something to be seen.
const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one page.
pub struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    session: String,
    last_id: u64,
    /// Addresses that the page asked for.
    pub requests: Vec<String>,
    /// Exceptions of scripts, and what the page's security policy forbade.
    pub errors: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts Debian's `chromium`. Panics when there is none.
    #[must_use]
    pub fn start() -> Self {
        let profile = tempfile::Builder::new().prefix("forebay-browser-").tempdir().expect("a temporary directory");
        let flags = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-extensions",
            "--remote-debugging-pipe",
        ];
        let mut child = Command::new("sh")
            .args(["-c", "exec chromium \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .args(flags)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell starts");
        let input = child.stdin.take().expect("piped");
        let output = child.stdout.take().expect("piped");
        let (send, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(output).split(0).map_while(Result::ok) {
                let value = serde_json::from_slice(&message).expect("the browser speaks JSON");
                if send.send(value).is_err() {
                    return;
                }
            }
        });
        let (requests, errors) = (Vec::new(), Vec::new());
        let mut browser =
            Self { child, input, messages, session: String::new(), last_id: 0, requests, errors, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", target);
        browser.session = session["sessionId"].as_str().expect("a session").to_string();
        for domain in ["Page", "Runtime", "Network", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.try_call(method, parameters).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// `Err` is what the browser refused.
    fn try_call(&mut self, method: &str, parameters: Value) -> Result<Value, Value> {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let sent = self.input.write_all(format!("{message}\0").as_bytes()).and_then(|()| self.input.flush());
        sent.expect("chromium runs: deploy/install.sh --tests installs it");
        let until = Instant::now() + LIMIT;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.messages.recv_timeout(left).unwrap_or_else(|error| {
                panic!("{method}: chromium does not answer ({error}): deploy/install.sh --tests installs it")
            });
            if answer["id"] == json!(self.last_id) {
                let error = &answer["error"];
                return if error.is_null() { Ok(answer["result"].clone()) } else { Err(error.clone()) };
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        match event["method"].as_str() {
            Some("Network.requestWillBeSent") => {
                self.requests.push(parameters["request"]["url"].as_str().unwrap_or_default().to_string());
            }
            Some("Runtime.exceptionThrown") => self.errors.push(parameters["exceptionDetails"].to_string()),
            Some("Log.entryAdded") if parameters["entry"]["source"] == "security" => {
                self.errors.push(parameters["entry"]["text"].to_string());
            }
            _ => {}
        }
    }

    /// Goes to an address and waits until the page and its script are there.
    pub fn open(&mut self, address: &str) {
        let gone = self.call("Page.navigate", json!({ "url": address }));
        assert!(gone["errorText"].is_null(), "{address}: {}", gone["errorText"]);
        let here = format!("document.readyState === 'complete' && location.href === {}", json!(address));
        eventually(&format!("{address} to load"), LIMIT, || self.holds(&here).then_some(()));
    }

    /// Whether an expression is true in the page; not while another page comes.
    pub fn holds(&mut self, expression: &str) -> bool {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        self.try_call("Runtime.evaluate", parameters).is_ok_and(|result| result["result"]["value"] == true)
    }

    /// The value of an expression in the page; a promise is waited for.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].clone()
    }

    /// What a reader sees of the page; nothing while another page comes.
    pub fn text(&mut self) -> String {
        let parameters = json!({ "expression": "(document.body || {}).innerText || ''", "returnByValue": true });
        let result = self.try_call("Runtime.evaluate", parameters).unwrap_or_default();
        result["result"]["value"].as_str().unwrap_or_default().to_string()
    }

    /// Waits until a reader sees all of these.
    pub fn sees(&mut self, wanted: &[&str]) -> String {
        let start = Instant::now();
        loop {
            let text = self.text();
            let missing: Vec<&&str> = wanted.iter().filter(|part| !text.contains(**part)).collect();
            if missing.is_empty() {
                return text;
            }
            assert!(start.elapsed() < LIMIT, "{missing:?} cannot be seen: {text}\n{:?}", self.errors);
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The size of the window in CSS pixels, and whether the reader likes it dark.
    pub fn look(&mut self, width: u32, height: u32, dark: bool) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!([{ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": scheme }));
    }

    /// Writes a PNG of the window.
    pub fn screenshot(&mut self, path: &Path) {
        let shot = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = from_base64(shot["data"].as_str().expect("an image"));
        std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let close = json!({ "id": self.last_id + 1, "method": "Browser.close" });
        let _ = self.input.write_all(format!("{close}\0").as_bytes());
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(5) {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn from_base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for letter in text.bytes().filter(|letter| *letter != b'=') {
        let value = LETTERS.iter().position(|known| *known == letter).expect("base64") as u32;
        (bits, held) = (bits << 6 | value, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64() {
        assert_eq!(super::from_base64("Zm9yZWJheQ=="), b"forebay");
        assert_eq!(super::from_base64("Zm9v"), b"foo");
    }
}

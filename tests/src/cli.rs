//! Running `forebay` as a user would, with a bound on its time.

use crate::binaries::binary;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest any command of a test may take.
const LIMIT: Duration = Duration::from_secs(300);

/// `forebay` with one cluster's configuration.
#[derive(Clone, Debug)]
pub struct Cli {
    config: PathBuf,
}

/// What a command gave.
#[derive(Clone, Debug)]
pub struct CliOutput {
    /// The command, for messages.
    pub command: String,
    /// Exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Cli {
    /// For this configuration file.
    #[must_use]
    pub fn new(config: &Path) -> Self {
        Self { config: config.to_path_buf() }
    }

    /// Runs `forebay --config .. ARGUMENTS`.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> CliOutput {
        let mut command = Command::new(binary("forebay"));
        command.arg("--config").arg(&self.config).args(arguments);
        run(&mut command, arguments.join(" "))
    }

    /// Runs a command that must succeed, and gives its standard output as text.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.code == 0, "{output:?}");
        output.text()
    }

    /// Runs a command that must succeed and print JSON.
    #[must_use]
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.ok(arguments);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}: {text}", arguments.join(" ")))
    }
}

impl CliOutput {
    /// Runs any binary of ours the same way.
    #[must_use]
    pub fn of(name: &str, arguments: &[&str]) -> Self {
        run(Command::new(binary(name)).args(arguments), format!("{name} {}", arguments.join(" ")))
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Asserts that it failed with one of `codes` and exactly one line on standard error that contains each of `words`.
    pub fn assert_refused(&self, codes: &[i32], words: &[&str]) {
        assert!(codes.contains(&self.code), "want exit code {codes:?}: {self:?}");
        let lines: Vec<&str> = self.stderr.lines().collect();
        assert!(lines.len() == 1, "want one line on standard error: {self:?}");
        for word in words {
            assert!(lines[0].contains(word), "want \"{word}\" in the message: {self:?}");
        }
    }
}

fn run(command: &mut Command, shown: String) -> CliOutput {
    let start = Instant::now();
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FOREBAY_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let mut out = child.stdout.take().expect("stdout is piped");
    let mut err = child.stderr.take().expect("stderr is piped");
    let stdout = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        out.read_to_end(&mut bytes).map(|_| bytes)
    });
    let stderr = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        err.read_to_end(&mut bytes).map(|_| bytes)
    });
    let code = loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            break status.code().unwrap_or(-1);
        }
        if start.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{shown} did not end within {LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let stdout = stdout.join().expect("the reader does not panic").unwrap_or_default();
    let stderr = stderr.join().expect("the reader does not panic").unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    CliOutput { command: shown, code, stdout, stderr, took: start.elapsed() }
}

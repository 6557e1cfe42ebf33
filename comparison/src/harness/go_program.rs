//! A Go program that uses go-zero, from `interop/go`.

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::env;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// The timeout of the next event.
const DEADLINE: Duration = Duration::from_secs(60);

/// A running program. Drop kills it.
pub struct GoProgram {
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
    _stdin: Option<ChildStdin>,
}

/// An event that a program prints.
#[derive(Debug, Deserialize)]
pub struct GoEvent {
    /// The time of the event, in microseconds since 1970.
    pub at: u64,
    pub event: String,
    #[serde(default)]
    pub micros: u64,
    #[serde(default)]
    pub error: String,
    #[serde(default)]
    pub list: Vec<String>,
}

impl GoProgram {
    /// Builds the program and returns its path.
    pub async fn build() -> Result<PathBuf> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let program = env::current_dir()?.join("target/interop/bin/interop-1.10");
        let mut go = Command::new("go");
        go.current_dir(root.join("interop/go")).env("CGO_ENABLED", "0");
        go.args(["build", "-trimpath", "-ldflags=-s -w", "-o"]).arg(&program).arg(".");
        let built = go.status().await.context("`go` is not on PATH: install Go 1.26")?;
        ensure!(built.success(), "`go build` failed in interop/go");
        Ok(program)
    }

    /// Starts the program in a role, with a go-zero configuration. A subscriber watches `services` services.
    pub fn start(program: &Path, role: &str, config: &Path, services: usize) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg(role).arg(config).env_remove("POD_IP").kill_on_drop(true);
        command.env("SERVICES", services.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("a Go program does not start")?;
        let output = child.stdout.take().context("a Go program has no stdout")?;
        let lines = BufReader::new(output).lines();
        Ok(Self { lines, _stdin: child.stdin.take(), _child: child })
    }

    /// Waits for the next event of a kind that satisfies `fits`.
    pub async fn event(&mut self, kind: &str, fits: impl Fn(&GoEvent) -> bool) -> Result<GoEvent> {
        let wait = async {
            loop {
                let line = self.lines.next_line().await?.context("a Go program ended")?;
                // Other lines are go-zero's log.
                if let Ok(event) = serde_json::from_str::<GoEvent>(&line)
                    && event.event == kind
                    && fits(&event)
                {
                    return Ok(event);
                }
            }
        };
        timeout(DEADLINE, wait)
            .await
            .with_context(|| format!("no event `{kind}` within {DEADLINE:?}"))?
    }
}

/// Returns the time in the unit of [`GoEvent::at`].
#[expect(clippy::disallowed_methods, reason = "events of two processes are compared")]
pub fn micros_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

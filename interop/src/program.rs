//! A participant: a child process and its events.

use crate::event::{Event, What, now};
use anyhow::{Context, Result, ensure};
use registry_testkit::lag::Lag;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::error::Elapsed;
use tokio::time::sleep;

/// The polling interval.
const PAUSE: Duration = Duration::from_millis(2);

/// The timeout of a termination after SIGTERM. go-zero kills itself after 5.5 s.
const END_WITHIN: Duration = Duration::from_secs(15);

/// The maximum extension of a timeout by scheduling lag. Callers never stop, so the lag also grows while a fleet hangs.
const TOLERATED_LAG: Duration = Duration::from_secs(60);

/// Waits for a future with a timeout of `limit`, plus the scheduling lag in that time.
pub(crate) fn within<F: Future>(
    limit: Duration,
    future: F,
) -> impl Future<Output = Result<F::Output, Elapsed>> {
    Lag::start(TOLERATED_LAG).timeout(limit, future)
}

/// A running program, killed on drop.
#[derive(Debug)]
pub(crate) struct Program {
    name: String,
    child: Child,
    events: Arc<Mutex<Vec<Event>>>,
    /// The program ends when this is closed.
    _stdin: Option<ChildStdin>,
}

impl Program {
    /// Starts `program ROLE CONFIGURATION`. Output other than events goes to `log`.
    pub(crate) fn start(program: &Path, role: &str, config: &Path, log: &Path) -> Result<Self> {
        let name = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let file = File::options().create(true).append(true).open(log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new(program);
        command.arg(role).arg(config).kill_on_drop(true).env_remove("POD_IP");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(file.try_clone()?);
        let child = command.spawn();
        let mut child = child.with_context(|| format!("cannot run {}", program.display()))?;
        let events = Arc::new(Mutex::new(Vec::new()));
        let output = child.stdout.take().context("a program has no stdout")?;
        tokio::spawn(read(output, events.clone(), file));
        Ok(Self { name, _stdin: child.stdin.take(), child, events })
    }

    pub(crate) fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for an event at or after `since`, and returns its time.
    pub(crate) async fn event(
        &self,
        since: u64,
        limit: Duration,
        is_it: impl Fn(&What) -> bool,
    ) -> Result<u64> {
        let found = || {
            let events = self.events();
            let later = events.iter().rev().take_while(|event| event.at + 10_000_000 > since);
            later
                .filter(|event| event.at >= since && is_it(&event.what))
                .map(|event| event.at)
                .min()
        };
        let wait = async {
            loop {
                if let Some(at) = found() {
                    return at;
                }
                sleep(PAUSE).await;
            }
        };
        within(limit, wait).await.with_context(|| {
            let last = self.events().last().map(|event| format!("{event:?}"));
            let last = last.unwrap_or_else(|| "nothing".to_owned());
            format!(
                "{} did not report the expected event within {limit:?}; the last one is {last}",
                self.name
            )
        })
    }

    /// Returns the time of the last failed call, or 0.
    pub(crate) fn last_lost(&self) -> u64 {
        let is_lost =
            |event: &&Event| matches!(&event.what, What::Call { error, .. } if !error.is_empty());
        self.events().iter().filter(is_lost).map(|event| event.at).max().unwrap_or_default()
    }

    /// Sends SIGTERM, and returns the time.
    pub(crate) fn terminate(&self) -> Result<u64> {
        let pid = self.child.id().and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
        let pid = pid.with_context(|| format!("{} has ended", self.name))?;
        kill_process(pid, Signal::TERM).context("cannot send a signal")?;
        Ok(now())
    }

    /// Waits for the end of the program after [`terminate`](Self::terminate).
    pub(crate) async fn ended(&mut self) -> Result<()> {
        let ended = within(END_WITHIN, self.child.wait()).await;
        let status = ended.with_context(|| {
            format!("{} did not end within {END_WITHIN:?} after SIGTERM", self.name)
        })??;
        ensure!(status.success(), "{} failed: {status}", self.name);
        Ok(())
    }

    /// Kills the program, and returns the times before and after.
    pub(crate) async fn kill(&mut self) -> Result<(u64, u64)> {
        let before = now();
        self.child.kill().await.context("cannot kill a program")?;
        Ok((before, now()))
    }

    /// Fails if the program has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "{} ended unexpectedly: see its log", self.name);
        Ok(())
    }
}

/// Reads the output of a program.
async fn read(output: ChildStdout, events: Arc<Mutex<Vec<Event>>>, mut log: File) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(event) => events.lock().unwrap_or_else(PoisonError::into_inner).push(event),
            // a line of the log, which may be lost
            Err(_) => drop(writeln!(log, "{line}")),
        }
    }
}

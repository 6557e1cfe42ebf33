//! Runs the mall as a process.

use registry_testkit::lag::{self, timeout};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::process::{Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Three times the duration of a full run.
const LIMIT: Duration = Duration::from_secs(45);

/// Limit for closing, a little above that of the mall itself.
const CLOSING: Duration = Duration::from_secs(20);

/// A running mall. Dropping it sends SIGTERM, so that it can stop its own processes, and kills it if it does not end.
pub(crate) struct Mall {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    told: Vec<String>,
}

impl Mall {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = command("mall", arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, lines, told: Vec::new() }
    }

    /// Reads up to a line that contains `text`. Returns all lines so far.
    pub(crate) async fn until(&mut self, text: &str) -> Vec<String> {
        while !self.next().await.expect(text).contains(text) {}
        self.told.clone()
    }

    /// Sends SIGTERM if the process has not ended.
    pub(crate) fn terminate(&self) {
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::TERM).expect("it is ours");
        }
    }

    /// Returns the process id, unless the end of the process was observed.
    fn pid(&self) -> Option<Pid> {
        let pid = self.child.id()?;
        Pid::from_raw(pid.try_into().unwrap())
    }

    /// Waits for the end, asserts success, and returns all lines.
    pub(crate) async fn end(mut self) -> Vec<String> {
        while self.next().await.is_some() {}
        let status = within(self.child.wait()).await.unwrap();
        assert!(status.success(), "{status}: {:#?}", self.told);
        std::mem::take(&mut self.told)
    }

    async fn next(&mut self) -> Option<String> {
        let line = within(self.lines.next_line()).await.unwrap()?;
        self.told.push(line.clone());
        Some(line)
    }
}

impl Drop for Mall {
    fn drop(&mut self) {
        let Some(pid) = self.pid() else { return };
        self.terminate();
        // The runtime is blocked in here, so a thread waits. It leaves the exit status to be read.
        let (ended, end) = mpsc::channel::<()>();
        thread::spawn(move || {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            drop(ended);
        });
        if lag::deadline(CLOSING).receive(&end) == Err(RecvTimeoutError::Timeout) {
            drop(self.child.start_kill()); // fails if it has just ended
        }
    }
}

/// Runs `program` to its end.
pub(crate) async fn output(program: &str, arguments: &[&str]) -> Output {
    command(program, arguments).output().await.unwrap_or_else(|error| panic!("{program}: {error}"))
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("no timeout")
}

pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let program = if program == "mall" { env!("CARGO_BIN_EXE_mall") } else { program };
    let mut command = Command::new(program);
    command.args(arguments).env("ETCDCTL_API", "3").stdin(Stdio::null());
    command
}

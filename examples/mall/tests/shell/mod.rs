//! A mall that was started at a shell.

use registry_testkit::lag::{self, timeout};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::process::{Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// What the story takes, three times over.
const LIMIT: Duration = Duration::from_secs(45);

/// What a mall has to close by itself, and a little more.
const CLOSING: Duration = Duration::from_secs(20);

/// A running mall. Dropped before its end it is asked to end: killed, it could not end its own. If
/// it does not, it is killed nevertheless.
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

    /// Reads up to a line with `text` in it, and gives all lines so far.
    pub(crate) async fn until(&mut self, text: &str) -> Vec<String> {
        while !self.next().await.expect(text).contains(text) {}
        self.told.clone()
    }

    /// Sends SIGTERM, if it has not ended.
    pub(crate) fn terminate(&self) {
        if let Some(pid) = self.pid() {
            kill_process(pid, Signal::TERM).expect("it is ours");
        }
    }

    /// Of one whose end was not seen.
    fn pid(&self) -> Option<Pid> {
        let pid = self.child.id()?;
        Pid::from_raw(pid.try_into().unwrap())
    }

    /// All that it told. It is a success.
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
        // The runtime does not run in here: a thread waits, and leaves the status to be read.
        let (ended, end) = mpsc::channel::<()>();
        thread::spawn(move || {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
            drop(ended);
        });
        if lag::deadline(CLOSING).receive(&end) == Err(RecvTimeoutError::Timeout) {
            drop(self.child.start_kill()); // it fails if it has just ended
        }
    }
}

/// What `program` says, once it has ended.
pub(crate) async fn output(program: &str, arguments: &[&str]) -> Output {
    command(program, arguments).output().await.unwrap_or_else(|error| panic!("{program}: {error}"))
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(LIMIT, future).await.expect("it takes too long")
}

pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let program = if program == "mall" { env!("CARGO_BIN_EXE_mall") } else { program };
    let mut command = Command::new(program);
    command.args(arguments).env("ETCDCTL_API", "3").stdin(Stdio::null());
    command
}

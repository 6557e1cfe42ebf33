//! The command that `run` runs.

use crate::Failure;
use crate::signals::Signals;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{IsTerminal, stdin};
use std::os::unix::process::ExitStatusExt;
use std::pin::pin;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::Command;
use tokio::time::sleep;

pub(crate) struct Child(tokio::process::Child);

impl Child {
    /// Starts a program with its arguments, in a process group of its own: it gets the signals that
    /// we pass on, and none of a terminal's before it was drained.
    ///
    /// A terminal stops a group in the background that reads from it: it gets no terminal to read.
    pub(crate) fn start(command: &[String]) -> Result<Self, Failure> {
        let (program, arguments) =
            command.split_first().unwrap_or_else(|| unreachable!("it is required"));
        let input = if stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() };
        let mut command = Command::new(program);
        command.args(arguments).stdin(input).process_group(0).kill_on_drop(true);
        command.spawn().map(Self).map_err(|error| Failure::Start(program.clone(), error))
    }

    /// Waits for its end. It may be asked again.
    pub(crate) async fn ended(&mut self) -> Result<ExitCode, Failure> {
        self.0.wait().await.map(code).map_err(Failure::Wait)
    }

    /// Sends it, and all that it started in its group, a signal, if it still runs.
    pub(crate) fn send(&self, signal: Signal) {
        // Until its end was waited for, nobody else can get its id.
        let group = self.0.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        if let Some(group) = group {
            // It can only fail because it has just ended, which `ended` tells.
            let _ = kill_process_group(group, signal);
        }
    }

    /// Sends it a signal and waits for its end; after `patience` it is killed. Further signals are
    /// passed on.
    pub(crate) async fn stop(
        &mut self,
        signal: Signal,
        patience: Duration,
        signals: &mut Signals,
    ) -> Result<ExitCode, Failure> {
        self.send(signal);
        let mut patience = pin!(sleep(patience));
        loop {
            tokio::select! {
                code = self.ended() => return code,
                signal = signals.next() => self.send(signal),
                () = &mut patience => break,
            }
        }
        self.send(Signal::KILL);
        self.ended().await
    }
}

impl Drop for Child {
    /// Whoever gives it up leaves nothing of its group behind.
    fn drop(&mut self) {
        self.send(Signal::KILL);
    }
}

/// As shells have it for who died of a signal.
pub(crate) fn died_of(signal: i32) -> ExitCode {
    u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// As shells have it: its own, or 128 and the signal that it died of.
fn code(status: ExitStatus) -> ExitCode {
    match (status.code(), status.signal()) {
        (None, Some(signal)) => died_of(signal),
        (code, _) => {
            code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

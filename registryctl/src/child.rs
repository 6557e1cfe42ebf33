//! The command that `run` runs.

use crate::Failure;
use crate::session::URL_VARIABLE;
use crate::signals::Signals;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process_group, wait};
use std::io::{IsTerminal, stdin};
use std::os::unix::process::CommandExt;
use std::pin::pin;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;
use tokio::signal::unix::{self, SignalKind};
use tokio::time::sleep;

pub(crate) struct Child {
    /// The process, and the id of its process group.
    pid: Pid,
    ended: Option<ExitCode>,
    /// SIGCHLD: the status of a child of this process has changed.
    changes: unix::Signal,
}

impl Child {
    /// Starts a program with its arguments.
    ///
    /// The process group is its own, so that a signal from the terminal does not reach it before it is drained. A
    /// terminal stops a background group that reads from it, so standard input is never a terminal. The URL of the
    /// registry may contain a password and is removed from the environment; `REGISTRY_URL` stays.
    pub(crate) fn start(command: &[String]) -> Result<Self, Failure> {
        let (program, arguments) =
            command.split_first().unwrap_or_else(|| unreachable!("clap requires a command"));
        let changes = unix::signal(SignalKind::child()).map_err(Failure::Signals)?;
        adopt_orphans();
        let input = if stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() };
        let mut command = Command::new(program);
        command.args(arguments).env_remove(URL_VARIABLE).stdin(input).process_group(0);
        let child = command.spawn().map_err(|error| Failure::Start(program.clone(), error))?;
        Ok(Self { pid: Pid::from_child(&child), ended: None, changes })
    }

    /// Waits for the end of the command. It may be called again after the end.
    pub(crate) async fn ended(&mut self) -> Result<ExitCode, Failure> {
        loop {
            self.reap()?;
            if let Some(code) = self.ended {
                return Ok(code);
            }
            self.changes.recv().await;
        }
    }

    /// Reaps every child of this process that has ended: the command, and the orphans that this process has adopted.
    fn reap(&mut self) -> Result<(), Failure> {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.pid => self.ended = Some(code(status)),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(Errno::CHILD) => return Ok(()),
                Err(error) => return Err(Failure::Wait(error.into())),
            }
        }
    }

    /// Sends a signal to the process group of the command, if the command still runs.
    pub(crate) fn send(&self, signal: Signal) {
        // The system does not reuse the id before the command is reaped.
        if self.ended.is_none() {
            // It fails only if the command has just ended, which `ended` reports.
            let _ = kill_process_group(self.pid, signal);
        }
    }

    /// Sends `signal` and waits for the end of the command. Passes further signals on, and kills the command after
    /// `patience`.
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
    /// Kills the process group, so that nothing stays behind.
    fn drop(&mut self) {
        self.send(Signal::KILL);
    }
}

/// Makes this process adopt the orphans of the command, which the first process of a container does by default.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpid, set_child_subreaper};
        // Without support in the kernel the first process of the system adopts them.
        let _ = set_child_subreaper(Some(getpid()));
    }
}

/// Returns the exit code of a process that a signal ended, as shells do.
pub(crate) fn died_of(signal: i32) -> ExitCode {
    u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Returns the exit code of a process, as shells do: its own, or 128 plus the signal that ended it.
fn code(status: WaitStatus) -> ExitCode {
    match (status.exit_status(), status.terminating_signal()) {
        (None, Some(signal)) => died_of(signal),
        (code, _) => {
            code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

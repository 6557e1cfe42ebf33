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
    /// Its process, and the group of it and of what it starts.
    pid: Pid,
    ended: Option<ExitCode>,
    /// Tells when the status of a child of this process has changed.
    changes: unix::Signal,
}

impl Child {
    /// Starts a program with its arguments, in a process group of its own: it gets the signals that
    /// we pass on, and none of a terminal's before it was drained.
    ///
    /// A terminal stops a group in the background that reads from it: it gets no terminal to read. The URL of our
    /// registry may hold a password, and is not for it; a `REGISTRY_URL` is its own, and is left alone.
    pub(crate) fn start(command: &[String]) -> Result<Self, Failure> {
        let (program, arguments) =
            command.split_first().unwrap_or_else(|| unreachable!("it is required"));
        let changes = unix::signal(SignalKind::child()).map_err(Failure::Signals)?;
        adopt_orphans();
        let input = if stdin().is_terminal() { Stdio::null() } else { Stdio::inherit() };
        let mut command = Command::new(program);
        command.args(arguments).env_remove(URL_VARIABLE).stdin(input).process_group(0);
        let child = command.spawn().map_err(|error| Failure::Start(program.clone(), error))?;
        Ok(Self { pid: Pid::from_child(&child), ended: None, changes })
    }

    /// Waits for its end. It may be asked again.
    pub(crate) async fn ended(&mut self) -> Result<ExitCode, Failure> {
        loop {
            self.reap()?;
            if let Some(code) = self.ended {
                return Ok(code);
            }
            self.changes.recv().await;
        }
    }

    /// Takes the status of every child of this process that has ended: of the command, and of orphans, which stay in the
    /// table of processes until somebody does.
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

    /// Sends it, and all that it started in its group, a signal, if it still runs.
    pub(crate) fn send(&self, signal: Signal) {
        // Until its end was waited for, nobody else can get its id.
        if self.ended.is_none() {
            // It can only fail because it has just ended, which `ended` tells.
            let _ = kill_process_group(self.pid, signal);
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

/// Makes this process the parent of what the command leaves behind, as the first process of a container is anyway. So
/// orphans are reaped wherever it runs.
fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpid, set_child_subreaper};
        // A kernel that does not know it leaves orphans to the first process.
        let _ = set_child_subreaper(Some(getpid()));
    }
}

/// As shells have it for who died of a signal.
pub(crate) fn died_of(signal: i32) -> ExitCode {
    u8::try_from(128 + signal).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// As shells have it: its own, or 128 and the signal that it died of.
fn code(status: WaitStatus) -> ExitCode {
    match (status.exit_status(), status.terminating_signal()) {
        (None, Some(signal)) => died_of(signal),
        (code, _) => {
            code.and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

//! A server in a process or a thread, which can be stopped and killed.

use crate::listening::End;
use crate::store::Store;
use crate::{order, user};
use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::thread;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Listens on any free port.
const LISTEN: &str = "127.0.0.1:0";

/// What a worker runs.
#[derive(Clone, Copy)]
pub(crate) enum Job {
    User(&'static str),
    Order,
}

impl Job {
    async fn run(self, store: &Store, end: End) -> Result<()> {
        match self {
            Self::User(name) => user::run(store, LISTEN, name, end).await,
            Self::Order => order::run(store, LISTEN, end).await,
        }
    }

    fn arguments(self) -> Vec<&'static str> {
        match self {
            Self::User(name) => vec!["user", "--listen", LISTEN, "--name", name],
            Self::Order => vec!["order", "--listen", LISTEN],
        }
    }
}

/// A running server. Dropping it kills it.
pub(crate) struct Worker {
    host: Host,
    /// Whether it was asked to stop. A second SIGTERM would end it at once.
    is_stopping: bool,
}

/// The process or thread of a worker.
enum Host {
    Process(Child),
    Thread { stop: Option<oneshot::Sender<()>>, kill: Option<oneshot::Sender<()>>, end: Ending },
}

type Ending = oneshot::Receiver<Result<()>>;

impl Worker {
    /// Starts the job in its own process.
    pub(crate) fn in_process(job: Job, store: &Store) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(job.arguments())
            .env("MALL_REGISTRY", store.url()) // every user can see the password in an argument
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0) // this process handles Ctrl-C
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { host: Host::Process(child), is_stopping: false })
    }

    /// Starts the job in a thread with its own runtime. Ending the runtime simulates a crash: connections and renewals
    /// end at once, and nothing is withdrawn.
    pub(crate) fn in_thread(job: Job, store: &Store) -> Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (kill, killed) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let store = store.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().spawn(move || {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = killed => Ok(()),
                    outcome = job.run(&store, End::ByOwner(stopped)) => outcome,
                }
            });
            drop(runtime);
            drop(ended.send(outcome)); // the receiver may be dropped
        })?;
        let host = Host::Thread { stop: Some(stop), kill: Some(kill), end };
        Ok(Self { host, is_stopping: false })
    }

    /// Kills the server. It does not withdraw its instance.
    pub(crate) async fn kill(mut self) -> Result<()> {
        match &mut self.host {
            Host::Process(child) => Ok(child.kill().await?),
            Host::Thread { kill, .. } => {
                drop(kill.take());
                self.ended().await
            }
        }
    }

    /// Asks the server to stop, once, and waits until it has drained, is withdrawn and has closed.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.is_stopping, true) {
            match &mut self.host {
                Host::Process(child) => terminate(child)?,
                Host::Thread { stop, .. } => drop(stop.take()),
            }
        }
        self.ended().await
    }

    /// Waits for the end of the server.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        match &mut self.host {
            Host::Process(child) => {
                let status = child.wait().await?;
                let is_fine = status.success() || self.is_stopping && is_terminated(status);
                ensure!(is_fine, "a server failed, status=`{status}`");
                Ok(())
            }
            Host::Thread { end, .. } => {
                end.await.unwrap_or_else(|_| Err(anyhow!("a server panicked")))
            }
        }
    }
}

/// Returns whether SIGTERM ended the process. Then the signal came before the server handled signals, and nothing was
/// registered.
fn is_terminated(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::TERM.as_raw())
}

/// Sends SIGTERM, as an orchestrator does.
fn terminate(child: &Child) -> Result<()> {
    let id = child.id().context("the server has already ended")?;
    let pid = Pid::from_raw(i32::try_from(id)?).context("no process has the number 0")?;
    Ok(kill_process(pid, Signal::TERM)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_testkit::lag::timeout;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(10);

    /// Returns a process that does not handle signals.
    fn without_signal_handler() -> Worker {
        let mut sleep = Command::new("sleep");
        let child = sleep.arg("600").kill_on_drop(true).spawn().expect("coreutils");
        Worker { host: Host::Process(child), is_stopping: false }
    }

    #[tokio::test]
    async fn an_end_by_sigterm_is_a_failure_unless_it_was_requested() {
        let mut stopped = without_signal_handler();
        timeout(LIMIT, stopped.stop()).await.expect("it ends").expect("the stop was requested");

        let mut terminated = without_signal_handler();
        let Host::Process(child) = &terminated.host else { unreachable!("it is a process") };
        terminate(child).expect("it runs");
        let outcome = timeout(LIMIT, terminated.ended()).await.expect("it ends");
        let error = outcome.expect_err("no stop was requested");
        assert!(error.to_string().starts_with("a server failed, status="), "{error}");
    }
}

//! A server of the story, which can be asked to leave, and killed.

use crate::door::End;
use crate::store::Store;
use crate::{order, user};
use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::thread;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Where it listens: wherever there is room.
const LISTEN: &str = "127.0.0.1:0";

/// What it does.
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

/// Somebody who does it. To drop one is to kill it.
pub(crate) struct Worker {
    place: Place,
    /// Whether it was asked to leave. To ask twice is to kill.
    asked: bool,
}

/// Where it works.
enum Place {
    Process(Child),
    Thread { leave: Option<oneshot::Sender<()>>, kill: Option<oneshot::Sender<()>>, end: Ending },
}

type Ending = oneshot::Receiver<Result<()>>;

impl Worker {
    /// In a process of its own.
    pub(crate) fn in_process(job: Job, store: &Store) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?)
            .args(job.arguments())
            .env("MALL_REGISTRY", store.url()) // an argument would show its password to all
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0) // Ctrl-C is for us to pass on
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { place: Place::Process(child), asked: false })
    }

    /// In a thread with a runtime of its own: with that all of it ends at once, its connections and
    /// its renewals too, and nothing is withdrawn.
    pub(crate) fn in_thread(job: Job, store: &Store) -> Result<Self> {
        let (leave, left) = oneshot::channel();
        let (kill, killed) = oneshot::channel::<()>();
        let (ended, end) = oneshot::channel();
        let store = store.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().spawn(move || {
            let outcome = runtime.block_on(async {
                tokio::select! {
                    biased;
                    _ = killed => Ok(()),
                    outcome = job.run(&store, End::ByOwner(left)) => outcome,
                }
            });
            drop(runtime);
            drop(ended.send(outcome)); // nobody may wait for it
        })?;
        let place = Place::Thread { leave: Some(leave), kill: Some(kill), end };
        Ok(Self { place, asked: false })
    }

    /// Kills it. It withdraws nothing.
    pub(crate) async fn kill(mut self) -> Result<()> {
        match &mut self.place {
            Place::Process(child) => Ok(child.kill().await?),
            Place::Thread { kill, .. } => {
                drop(kill.take());
                self.ended().await
            }
        }
    }

    /// Asks it to leave, once, and waits until it has: drained, withdrawn, and closed.
    pub(crate) async fn leave(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.asked, true) {
            match &mut self.place {
                Place::Process(child) => terminate(child)?,
                Place::Thread { leave, .. } => drop(leave.take()),
            }
        }
        self.ended().await
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> Result<()> {
        match &mut self.place {
            Place::Process(child) => {
                let status = child.wait().await?;
                let is_fine = status.success() || self.asked && is_terminated(status);
                ensure!(is_fine, "a server failed, status=`{status}`");
                Ok(())
            }
            Place::Thread { end, .. } => {
                end.await.unwrap_or_else(|_| Err(anyhow!("a server panicked")))
            }
        }
    }
}

/// Whether it died of SIGTERM. Then it was asked so early that it did not listen for that yet, and
/// nothing was registered.
fn is_terminated(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::TERM.as_raw())
}

/// SIGTERM, as an orchestrator sends it.
fn terminate(child: &Child) -> Result<()> {
    let id = child.id().context("it has ended by itself")?;
    let pid = Pid::from_raw(i32::try_from(id)?).context("no process has the number 0")?;
    Ok(kill_process(pid, Signal::TERM)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use registry_testkit::lag::timeout;
    use std::time::Duration;

    const LIMIT: Duration = Duration::from_secs(10);

    /// One that does not listen for signals.
    fn deaf() -> Worker {
        let mut sleep = Command::new("sleep");
        let child = sleep.arg("600").kill_on_drop(true).spawn().expect("coreutils");
        Worker { place: Place::Process(child), asked: false }
    }

    #[tokio::test]
    async fn an_end_by_sigterm_is_a_failure_unless_it_was_requested() {
        let mut asked = deaf();
        timeout(LIMIT, asked.leave()).await.expect("it sleeps on").expect("it was asked");

        let mut surprised = deaf();
        let Place::Process(child) = &surprised.place else { unreachable!("see above") };
        terminate(child).expect("it runs");
        let outcome = timeout(LIMIT, surprised.ended()).await.expect("it sleeps on");
        let error = outcome.expect_err("nobody asked");
        assert!(error.to_string().starts_with("a server failed, status="), "{error}");
    }
}

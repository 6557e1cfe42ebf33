//! The setup of all schedules: an etcd, three fleets under calls, and an operator.

use crate::config::Configs;
use crate::event::now;
use crate::figures::Marks;
use crate::fleet::{Fleet, Launcher};
use crate::operator::Operator;
use crate::program::Program;
use crate::schedule::Schedule;
use crate::spec::Language::{self, Go, Rust};
use crate::spec::{Peer, RunSpec};
use crate::store::{PREFIX, Releases, Store};
use anyhow::{Context, Result};
use faults::LagRecord;
use futures_util::future::try_join_all;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;

/// The fleets: their names, initial servers and callers. The first caller of the first fleet is the reference: a Go
/// caller with Go servers.
const FLEETS: [(&str, [Language; 2], &[Language]); 3] = [
    ("go", [Go, Go], &[Go, Rust]),
    ("rust", [Rust, Rust], &[Go]),
    ("mixed", [Rust, Go], &[Go, Rust]),
];

/// The timeout of the initial registrations.
const REGISTERED_WITHIN: Duration = Duration::from_secs(20);

/// The maximum time that a caller waits for a response.
const PATIENCE: Duration = Duration::from_millis(2_100);

/// Running servers and callers.
pub(crate) struct Stage {
    pub(crate) spec: RunSpec,
    pub(crate) launcher: Launcher,
    pub(crate) fleets: Vec<Fleet>,
    /// The operator, which does not support TLS.
    pub(crate) operator: Option<Operator>,
    pub(crate) lag: LagRecord,
    pub(crate) store: Store,
    _folder: TempDir,
}

impl Stage {
    pub(crate) async fn open(
        spec: RunSpec,
        go: &Path,
        releases: &Releases,
        logs: &Path,
    ) -> Result<Self> {
        let folder = tempfile::tempdir().context("cannot create a folder for configurations")?;
        let store = Store::start(&spec, releases).await?;
        let operator = match store.tls {
            Some(_) => None,
            None => Some(Operator::connect(&store).await?),
        };
        let launcher = Launcher {
            configs: Configs::new(folder.path(), &store, spec.peer == Peer::Naming),
            peer: spec.peer,
            go: go.to_owned(),
            host: spec.schedule.host(),
            has_metadata: spec.schedule == Schedule::SideKeys,
            logs: PathBuf::from(logs),
        };
        let lag = LagRecord::start();
        let mut stage =
            Self { spec, launcher, fleets: Vec::new(), operator, lag, store, _folder: folder };
        let launcher = &stage.launcher;
        let fleets = FLEETS.map(async |(name, languages, callers)| {
            let (key, operator) = (format!("{PREFIX}{name}"), stage.operator.clone());
            open_fleet(&key, languages, callers, spec, launcher, operator).await
        });
        stage.fleets = try_join_all(fleets).await?;
        Ok(stage)
    }

    /// Runs `act` on all fleets concurrently, and returns the marks of the fleets.
    pub(crate) async fn on_each_fleet(
        &mut self,
        act: impl AsyncFn(&mut Fleet, &Launcher, &mut Marks) -> Result<()>,
    ) -> Result<Vec<Marks>> {
        let (launcher, act) = (&self.launcher, &act);
        let acts = self.fleets.iter_mut().map(async |fleet| {
            let mut marks = Marks { began: now(), ..Marks::default() };
            act(fleet, launcher, &mut marks).await?;
            anyhow::Ok(marks)
        });
        try_join_all(acts).await
    }

    pub(crate) fn operator(&mut self) -> Result<&mut Operator> {
        self.operator.as_mut().context("there is no operator over TLS")
    }

    /// Waits for the tail of the schedule and the end of its calls.
    pub(crate) async fn finish(&mut self, marks: &mut [Marks]) -> Result<()> {
        sleep(self.spec.schedule.tail()).await;
        for marks in marks {
            marks.ended = now();
        }
        sleep(PATIENCE).await;
        for fleet in &mut self.fleets {
            let servers = fleet.servers.iter_mut().map(|server| &mut server.program);
            let callers = fleet.callers.iter_mut().map(|caller| &mut caller.program);
            servers.chain(callers).try_for_each(Program::check)?;
        }
        Ok(())
    }
}

/// Starts the servers and then the callers, and waits until each server has responded to each caller.
async fn open_fleet(
    key: &str,
    languages: [Language; 2],
    callers: &[Language],
    spec: RunSpec,
    launcher: &Launcher,
    operator: Option<Operator>,
) -> Result<Fleet> {
    let mut fleet = Fleet::new(key, languages);
    for (language, id) in languages.into_iter().zip(spec.schedule.ids()) {
        let server = fleet.launch(launcher, language, *id)?;
        fleet.servers.push(server);
    }
    // A go-zero caller without an instance opens its breaker, which rejects calls for 10 s or more.
    if let Some(mut operator) = operator {
        let count = i64::try_from(fleet.servers.len())?;
        operator.await_count(&format!("{key}/"), count, REGISTERED_WITHIN).await?;
    }
    for language in callers {
        fleet.callers.push(launcher.caller(*language, key)?);
    }
    if spec.peer != Peer::Naming {
        fleet.subscriber = Some(launcher.subscriber(key)?);
    }
    for server in &fleet.servers {
        fleet.await_calls(&server.address, 0).await?;
    }
    fleet.await_calm().await?;
    Ok(fleet)
}

//! The reference history of a service, read over the direct connection. The updates of views must equal it.

use futures_util::StreamExt;
use registry_core::{
    CallOptions, Cursor, ErrorKind, InstanceId, LeaseId, Record, Records, Registry, ServiceName,
    Snapshot,
};
use registry_testkit::case::try_again;
use registry_testkit::lag::Deadline;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The state of a service at each revision that changed it.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    states: BTreeMap<u64, Records>,
    /// Whether the store lost its history, so that views cannot be compared with it.
    broken: bool,
}

impl History {
    /// Returns the state at `revision`.
    pub(super) fn at(&self, revision: u64) -> Option<&Records> {
        self.states.range(..=revision).next_back().map(|(_, instances)| instances)
    }

    fn reaches(&self, revision: u64) -> bool {
        self.broken || self.states.last_key_value().is_some_and(|(last, _)| *last >= revision)
    }
}

/// A task that records the history of a service from its start.
#[derive(Debug)]
pub(super) struct Oracle {
    history: watch::Receiver<History>,
    task: JoinHandle<()>,
}

impl Oracle {
    pub(super) async fn start(direct: Arc<dyn Registry>, service: &ServiceName) -> Self {
        let snapshot = try_again(|| direct.load(service, &CallOptions::DEFAULT)).await.unwrap();
        let (writer, history) = watch::channel(History::default());
        let service = service.clone();
        let task = tokio::spawn(read(direct, service, snapshot, writer));
        Self { history, task }
    }

    /// Returns the history up to `revision`. `None` if the store lost its history.
    ///
    /// # Panics
    ///
    /// Panics if the task does not reach the revision by the deadline.
    pub(super) async fn history_up_to(&self, revision: u64, deadline: Deadline) -> Option<History> {
        let mut seen = self.history.clone();
        let seen = deadline.timeout(seen.wait_for(|history| history.reaches(revision))).await;
        let history = seen.expect("the oracle lags").expect("the oracle ended").clone();
        self.task.abort();
        Some(history).filter(|history| !history.broken)
    }

    /// Returns the successive holders of `id`. `None` stands for a vacant id.
    pub(super) fn holders(&self, id: &InstanceId) -> Vec<Option<LeaseId>> {
        let history = self.history.borrow();
        let lease = |records: &Records| records.find(id.as_str()).and_then(Record::lease);
        let mut holders: Vec<_> = history.states.values().map(lease).collect();
        holders.dedup();
        holders
    }

    /// Returns the number of revisions that have changed the service since the start.
    pub(super) fn changes(&self) -> usize {
        self.history.borrow().states.len() - 1
    }
}

async fn read(
    direct: Arc<dyn Registry>,
    service: ServiceName,
    mut state: Snapshot,
    history: watch::Sender<History>,
) {
    let note = |state: &Snapshot| {
        let (revision, instances) = (state.cursor().revision().get(), state.records().clone());
        history.send_modify(|history| drop(history.states.insert(revision, instances)));
    };
    note(&state);
    let mut cursor: Cursor = state.cursor().clone();
    loop {
        let ended = match direct.watch(&service, &cursor, &CallOptions::DEFAULT).await {
            Err(error) => error,
            Ok(mut watch) => loop {
                match watch.next().await.expect("a watch has no bare end") {
                    Ok(batch) if batch.is_progress() => cursor = batch.cursor.clone(),
                    Ok(batch) => {
                        cursor = batch.cursor.clone();
                        state.apply(&batch).unwrap();
                        note(&state);
                    }
                    Err(error) => break error,
                }
            },
        };
        if ended.kind() != ErrorKind::Unavailable {
            history.send_modify(|history| history.broken = true);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // before the next attempt
    }
}

//! A witness of all that a store ever said of a service: what a view's updates are held against.

use futures_util::StreamExt;
use registry_core::{Cursor, ErrorKind, Instances, Registry, ServiceName, Snapshot};
use registry_testkit::case::try_again;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A service at each revision that changed it, as read directly.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    states: BTreeMap<u64, Instances>,
    /// Whether the history came to an end that no other could be told from.
    broken: bool,
}

impl Log {
    /// The service at `revision`.
    pub(super) fn at(&self, revision: u64) -> Option<&Instances> {
        self.states.range(..=revision).next_back().map(|(_, instances)| instances)
    }

    fn reaches(&self, revision: u64) -> bool {
        self.broken || self.states.last_key_value().is_some_and(|(last, _)| *last >= revision)
    }
}

/// Reads along, directly, from when it was called.
#[derive(Debug)]
pub(super) struct Witness {
    log: watch::Receiver<Log>,
    task: JoinHandle<()>,
}

impl Witness {
    pub(super) async fn call(direct: Arc<dyn Registry>, service: &ServiceName) -> Self {
        let snapshot = try_again(|| direct.load(service)).await.unwrap();
        let (writer, log) = watch::channel(Log::default());
        let service = service.clone();
        let task = tokio::spawn(read(direct, service, snapshot, writer));
        Self { log, task }
    }

    /// What it saw up to `revision`, if the store has one history.
    ///
    /// # Panics
    ///
    /// If it does not get there in `limit`.
    pub(super) async fn testify(&self, revision: u64, limit: Duration) -> Option<Log> {
        let mut seen = self.log.clone();
        let seen = timeout(limit, seen.wait_for(|log| log.reaches(revision))).await;
        let log = seen.expect("the witness reads on").expect("the witness lives").clone();
        self.task.abort();
        Some(log).filter(|log| !log.broken)
    }

    /// How many revisions changed the service so far.
    pub(super) fn changes(&self) -> usize {
        self.log.borrow().states.len() - 1
    }
}

async fn read(
    direct: Arc<dyn Registry>,
    service: ServiceName,
    mut state: Snapshot,
    log: watch::Sender<Log>,
) {
    let note = |state: &Snapshot| {
        let (revision, instances) = (state.cursor().revision().get(), state.instances().clone());
        log.send_modify(|log| drop(log.states.insert(revision, instances)));
    };
    note(&state);
    let mut cursor: Cursor = state.cursor().clone();
    loop {
        let ended = match direct.watch(&service, &cursor).await {
            Err(error) => error,
            Ok(mut watch) => loop {
                match watch.next().await.expect("a watch has no bare end") {
                    Ok(batch) if batch.is_progress() => cursor = batch.cursor,
                    Ok(batch) => {
                        cursor = batch.cursor.clone();
                        state.apply(batch);
                        note(&state);
                    }
                    Err(error) => break error,
                }
            },
        };
        if ended.kind() != ErrorKind::Unavailable {
            log.send_modify(|log| log.broken = true);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // a pause between two tries
    }
}

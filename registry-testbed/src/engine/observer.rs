//! A view that is observed continuously.

use super::event_log::EventLog;
use super::oracle::History;
use futures_util::StreamExt;
use registry_core::{Instance, InstanceId, Records, Snapshot};
use registry_engine::{ServiceState, Update, View, ViewStatus};
use registry_testkit::lag::Deadline;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The living instances, which every view must show. Shared by all observers.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpectedInstances(Arc<Mutex<BTreeSet<InstanceId>>>);

impl ExpectedInstances {
    pub(super) fn insert(&self, id: &InstanceId) {
        self.0.lock().unwrap().insert(id.clone());
    }

    pub(super) fn remove(&self, id: &InstanceId) {
        self.0.lock().unwrap().remove(id);
    }

    /// Returns the living instances that are missing from `shown`.
    fn missing(&self, shown: &Records) -> Vec<InstanceId> {
        let expected = self.0.lock().unwrap();
        expected.iter().filter(|id| shown.find(id.as_str()).is_none()).cloned().collect()
    }
}

/// The number of living instances that a view may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllowedLoss {
    /// None.
    None,
    /// Fewer than half, or one: a view retains so few only briefly, even after an outage.
    Few,
    /// Any number, since a healthy store reported them as deleted.
    Any,
}

/// A summary of the states of a view.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// How often the view went from live to stale.
    pub(super) stale_transitions: usize,
    /// The states that missed more living instances than allowed.
    violations: Vec<String>,
}

/// A copy of a service, built from the updates of a view.
#[derive(Debug, Default)]
pub(super) struct Replica {
    pub(super) state: Option<Snapshot>,
    pub(super) resets: usize,
    pub(super) batches: usize,
    /// Each state of the replica, with its revision.
    states: Vec<(u64, Records)>,
    violations: Vec<String>,
}

impl Replica {
    /// Returns the newest revision of the replica.
    pub(super) fn revision(&self) -> u64 {
        self.states.iter().map(|(revision, _)| *revision).max().unwrap_or_default()
    }

    fn add(&mut self, update: Update, one_history: bool) {
        let last = self.state.as_ref().map(|state| state.cursor().revision());
        let state = match update {
            Update::Reset(snapshot) => {
                self.resets += 1;
                if one_history && last > Some(snapshot.cursor().revision()) {
                    self.violations.push(format!("a reset from {last:?} back to {snapshot:?}"));
                }
                snapshot
            }
            Update::Batch(batch) => {
                self.batches += 1;
                let Some(mut state) = self.state.take() else {
                    return self
                        .violations
                        .push(format!("a batch before the first reset: {batch:?}"));
                };
                if batch.revision() <= state.cursor().revision() {
                    self.violations.push(format!("a batch after {last:?}: {batch:?}"));
                }
                state.apply(&batch).unwrap();
                state
            }
            Update::Status(_) => return,
        };
        self.states.push((state.cursor().revision().get(), state.records().clone()));
        self.state = Some(state);
    }

    /// Compares each state with the reference history, if there is one.
    fn check(&self, history: Option<&History>) {
        assert!(self.violations.is_empty(), "invalid updates of a view: {:#?}", self.violations);
        let Some(history) = history else { return };
        for (revision, instances) in &self.states {
            let truth = history.at(*revision);
            assert_eq!(Some(instances), truth, "the updates of a view up to revision {revision}");
        }
    }
}

/// A view, a record of what it showed, and a replica built from its updates.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) view: View,
    pub(super) name: &'static str,
    end: watch::Sender<bool>,
    observing: JoinHandle<Observed>,
    replaying: JoinHandle<Replica>,
    replica: watch::Receiver<Option<Snapshot>>,
}

impl Observer {
    pub(super) fn new(
        name: &'static str,
        view: View,
        expected: ExpectedInstances,
        loss: AllowedLoss,
        one_history: bool,
        log: EventLog,
    ) -> Self {
        let end = watch::Sender::new(false);
        let (writer, replica) = watch::channel(None);
        let observing =
            tokio::spawn(observe(view.clone(), name, expected, loss, log, end.subscribe()));
        let replaying = tokio::spawn(replay(view.clone(), one_history, writer, end.subscribe()));
        Self { view, name, end, observing, replaying, replica }
    }

    /// Waits until the replica has exactly these `instances`.
    pub(super) async fn reaches(&self, instances: &Records, deadline: Deadline) {
        let mut replica = self.replica.clone();
        let is_equal = |replica: &Option<Snapshot>| {
            replica.as_ref().is_some_and(|replica| replica.records() == instances)
        };
        let outcome = deadline
            .timeout(replica.wait_for(is_equal))
            .await
            .map(|replica| drop(replica.unwrap()));
        assert!(
            outcome.is_ok(),
            "{}: the updates add up to {:?}",
            self.name,
            self.replica.borrow()
        );
    }

    /// Stops observing.
    ///
    /// # Panics
    ///
    /// Panics if the view lost an instance that it must show.
    pub(super) async fn finish(self) -> (Observed, Replica) {
        self.end.send_replace(true);
        let (seen, replica) = (self.observing.await.unwrap(), self.replaying.await.unwrap());
        assert!(seen.violations.is_empty(), "{}: {:#?}", self.name, seen.violations);
        (seen, replica)
    }
}

/// Compares the updates of each view with the reference history.
pub(super) fn check(replicas: &[Replica], history: Option<&History>) {
    for replica in replicas {
        replica.check(history);
    }
}

async fn observe(
    mut view: View,
    name: &'static str,
    expected: ExpectedInstances,
    loss: AllowedLoss,
    log: EventLog,
    mut end: watch::Receiver<bool>,
) -> Observed {
    let mut seen = Observed::default();
    let mut live = false;
    loop {
        {
            let state = view.state();
            if live && matches!(state.status(), ViewStatus::Stale { .. }) {
                seen.stale_transitions += 1;
            }
            live = state.status().is_live();
            log.record(format_args!("{name}: {}", summary(&state)));
            if let Some(violation) = violation(&state, &expected, loss) {
                seen.violations.push(violation);
            }
        }
        tokio::select! {
            _ = end.wait_for(|end| *end) => return seen,
            changed = view.changed() => changed.unwrap(),
        }
    }
}

/// Returns the violation of a state that misses too many living instances.
fn violation(
    state: &ServiceState,
    expected: &ExpectedInstances,
    loss: AllowedLoss,
) -> Option<String> {
    state.store_snapshot()?; // nothing has been loaded yet
    let missing = expected.missing(state.records());
    let shown = state.instances().len();
    let allowed = match loss {
        AllowedLoss::None => 0,
        // Fewer than 2, or fewer than half, are no mass loss: a view retains them only briefly.
        AllowedLoss::Few => (shown + missing.len()).div_ceil(2).saturating_sub(1).max(1).min(shown),
        AllowedLoss::Any => usize::MAX,
    };
    (missing.len() > allowed)
        .then(|| format!("the living instances {missing:?} are missing: {}", summary(state)))
}

/// Summarises a state.
pub(super) fn summary(state: &ServiceState) -> String {
    let (shown, retained) = (ids(state.records()), state.retained());
    let retained: Vec<_> = retained.iter().map(|retained| retained.record.id()).collect();
    format!("the view shows {shown:?}, retains {retained:?}, and is {:?}", state.status())
}

/// Returns the ids of records, each with its data.
pub(super) fn ids(instances: &Records) -> Vec<String> {
    let data = |instance: &Instance| instance.metadata().get("data").cloned().unwrap_or_default();
    instances.instances().map(|instance| format!("{} {}", instance.id(), data(instance))).collect()
}

async fn replay(
    view: View,
    one_history: bool,
    writer: watch::Sender<Option<Snapshot>>,
    mut end: watch::Receiver<bool>,
) -> Replica {
    let mut replica = Replica::default();
    let mut updates = view.updates();
    drop(view);
    loop {
        tokio::select! {
            _ = end.wait_for(|end| *end) => return replica,
            update = updates.next() => replica.add(update.expect("the updates ended"), one_history),
        }
        writer.send_replace(replica.state.clone());
    }
}

/// Returns the instance with `data` in its metadata.
pub(super) fn with_data(instance: Instance, data: &str) -> Instance {
    instance.with_metadata([("data", data)])
}

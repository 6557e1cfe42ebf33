//! A view that is observed all the time.

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

    /// The living instances that `shown` lacks.
    fn missing(&self, shown: &Records) -> Vec<InstanceId> {
        let expected = self.0.lock().unwrap();
        expected.iter().filter(|id| shown.find(id.as_str()).is_none()).cloned().collect()
    }
}

/// Which living instances a view may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AllowedLoss {
    /// Nothing, ever.
    None,
    /// Fewer than half, or one: a view does not retain so few, even after an outage.
    Few,
    /// Any: a healthy store reported them as deleted.
    Any,
}

/// What a view showed.
#[derive(Debug, Default)]
pub(super) struct Observed {
    /// How often it went from live to stale.
    pub(super) stale_transitions: usize,
    /// The states that lacked a living instance.
    violations: Vec<String>,
}

/// A copy of a service, built from the updates of a view.
#[derive(Debug, Default)]
pub(super) struct Replica {
    pub(super) state: Option<Snapshot>,
    pub(super) resets: usize,
    pub(super) batches: usize,
    /// Each state, with its revision.
    states: Vec<(u64, Records)>,
    violations: Vec<String>,
}

impl Replica {
    /// The newest revision it reached.
    pub(super) fn revision(&self) -> u64 {
        self.states.iter().map(|(revision, _)| *revision).max().unwrap_or_default()
    }

    fn add(&mut self, update: Update, one_history: bool) {
        let last = self.state.as_ref().map(|state| state.cursor().revision());
        let state = match update {
            Update::Reset(snapshot) => {
                self.resets += 1;
                if one_history && last > Some(snapshot.cursor().revision()) {
                    self.violations.push(format!("from {last:?} back to {snapshot:?}"));
                }
                snapshot
            }
            Update::Batch(batch) => {
                self.batches += 1;
                let Some(mut state) = self.state.take() else {
                    return self.violations.push(format!("before any state came {batch:?}"));
                };
                if batch.revision() <= state.cursor().revision() {
                    self.violations.push(format!("after {last:?} came {batch:?}"));
                }
                state.apply(&batch).unwrap();
                state
            }
            Update::Status(_) => return,
        };
        self.states.push((state.cursor().revision().get(), state.records().clone()));
        self.state = Some(state);
    }

    /// Compares each of its states with the reference history, if there is one.
    fn check(&self, history: Option<&History>) {
        assert!(self.violations.is_empty(), "the updates of a view: {:#?}", self.violations);
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
    seeing: JoinHandle<Observed>,
    summing: JoinHandle<Replica>,
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
        let seeing = tokio::spawn(see(view.clone(), name, expected, loss, log, end.subscribe()));
        let summing = tokio::spawn(replay(view.clone(), one_history, writer, end.subscribe()));
        Self { view, name, end, seeing, summing, replica }
    }

    /// Waits until the replica has these `instances`.
    pub(super) async fn reaches(&self, instances: &Records, deadline: Deadline) {
        let mut replica = self.replica.clone();
        let there = |replica: &Option<Snapshot>| {
            replica.as_ref().is_some_and(|replica| replica.records() == instances)
        };
        let outcome =
            deadline.timeout(replica.wait_for(there)).await.map(|replica| drop(replica.unwrap()));
        assert!(outcome.is_ok(), "{}: the updates come to {:?}", self.name, self.replica.borrow());
    }

    /// Stops observing.
    ///
    /// # Panics
    ///
    /// If the view lost an instance that it must show.
    pub(super) async fn finish(self) -> (Observed, Replica) {
        self.end.send_replace(true);
        let (seen, replica) = (self.seeing.await.unwrap(), self.summing.await.unwrap());
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

async fn see(
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

/// What is wrong with a state, if anything is.
fn violation(
    state: &ServiceState,
    expected: &ExpectedInstances,
    loss: AllowedLoss,
) -> Option<String> {
    state.store_snapshot()?; // it has not begun
    let missing = expected.missing(state.records());
    let shown = state.instances().len();
    let allowed = match loss {
        AllowedLoss::None => 0,
        // What is missing is not enough to be suspicious: fewer than 2, or fewer than half.
        AllowedLoss::Few => (shown + missing.len()).div_ceil(2).saturating_sub(1).max(1).min(shown),
        AllowedLoss::Any => usize::MAX,
    };
    (missing.len() > allowed)
        .then(|| format!("{missing:?} live, and are missing: {}", summary(state)))
}

/// A state in few words.
pub(super) fn summary(state: &ServiceState) -> String {
    let (shown, retained) = (ids(state.records()), state.retained());
    let retained: Vec<_> = retained.iter().map(|retained| retained.record.id()).collect();
    format!("it shows {shown:?}, retains {retained:?}, and is {:?}", state.status())
}

/// Records in few words, each with its data.
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
            update = updates.next() => replica.add(update.expect("updates have no end"), one_history),
        }
        writer.send_replace(replica.state.clone());
    }
}

/// An instance with data of its own.
pub(super) fn with_data(instance: Instance, data: &str) -> Instance {
    instance.with_metadata([("data", data)])
}

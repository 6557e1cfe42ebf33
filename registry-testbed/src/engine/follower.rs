//! A view that is looked at all the time.

use super::diary::Diary;
use super::witness::Log;
use futures_util::StreamExt;
use registry_core::{Instance, InstanceId, Instances, Snapshot};
use registry_engine::{ServiceState, Update, View, ViewStatus};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The instances that live, shared by all who look.
#[derive(Clone, Debug, Default)]
pub(super) struct Living(Arc<Mutex<BTreeSet<InstanceId>>>);

impl Living {
    pub(super) fn born(&self, id: &InstanceId) {
        self.0.lock().unwrap().insert(id.clone());
    }

    pub(super) fn dies(&self, id: &InstanceId) {
        self.0.lock().unwrap().remove(id);
    }

    /// Those that a view does not show.
    fn missing(&self, shown: &Instances) -> Vec<InstanceId> {
        let living = self.0.lock().unwrap();
        living.iter().filter(|id| shown.find(id.as_str()).is_none()).cloned().collect()
    }
}

/// What of the living a view may lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Nothing, ever.
    None,
    /// Fewer than half, or one: so few deletions are not suspicious, even after trouble.
    Few,
    /// Anything: it was told so by a store that was well.
    Any,
}

/// What was seen in a view.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How often it stopped to be live.
    pub(super) losses_of_touch: usize,
    /// The pictures that lacked a living instance.
    faults: Vec<String>,
}

/// What the updates of a view added up to.
#[derive(Debug, Default)]
pub(super) struct Sum {
    pub(super) state: Option<Snapshot>,
    pub(super) resets: usize,
    pub(super) batches: usize,
    /// Each state, with its revision.
    states: Vec<(u64, Instances)>,
    faults: Vec<String>,
}

impl Sum {
    /// The newest revision that a batch led to.
    pub(super) fn revision(&self) -> u64 {
        self.states.iter().map(|(revision, _)| *revision).max().unwrap_or_default()
    }

    fn add(&mut self, update: Update, one_history: bool) {
        let last = self.state.as_ref().map(|state| state.cursor().revision());
        let state = match update {
            Update::Reset(snapshot) => {
                self.resets += 1;
                if one_history && last > Some(snapshot.cursor().revision()) {
                    self.faults.push(format!("from {last:?} back to {snapshot:?}"));
                }
                snapshot
            }
            Update::Batch(batch) => {
                self.batches += 1;
                let Some(mut state) = self.state.take() else {
                    return self.faults.push(format!("before any state came {batch:?}"));
                };
                if batch.revision() <= state.cursor().revision() {
                    self.faults.push(format!("after {last:?} came {batch:?}"));
                }
                state.apply((*batch).clone());
                state
            }
        };
        self.states.push((state.cursor().revision().get(), state.instances().clone()));
        self.state = Some(state);
    }

    /// Holds it against what the store said, if that is known.
    fn judge(&self, log: Option<&Log>) {
        assert!(self.faults.is_empty(), "the updates of a view: {:#?}", self.faults);
        let Some(log) = log else { return };
        for (revision, instances) in &self.states {
            let truth = log.at(*revision);
            assert_eq!(Some(instances), truth, "the updates of a view up to revision {revision}");
        }
    }
}

/// A view, with all that is seen in it, and the sum of its updates.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) view: View,
    pub(super) name: &'static str,
    end: watch::Sender<bool>,
    seeing: JoinHandle<Seen>,
    summing: JoinHandle<Sum>,
    sum: watch::Receiver<Option<Snapshot>>,
}

impl Follower {
    pub(super) fn new(
        name: &'static str,
        view: View,
        living: Living,
        loss: Loss,
        one_history: bool,
        diary: Diary,
    ) -> Self {
        let end = watch::Sender::new(false);
        let (writer, sum) = watch::channel(None);
        let seeing = tokio::spawn(see(view.clone(), name, living, loss, diary, end.subscribe()));
        let summing = tokio::spawn(add_up(view.clone(), one_history, writer, end.subscribe()));
        Self { view, name, end, seeing, summing, sum }
    }

    /// Waits until the updates have come to `instances`.
    pub(super) async fn sums_up_to(&self, instances: &Instances, limit: Duration) {
        let mut sum = self.sum.clone();
        let there =
            |sum: &Option<Snapshot>| sum.as_ref().is_some_and(|sum| sum.instances() == instances);
        let outcome = timeout(limit, sum.wait_for(there)).await.map(|sum| drop(sum.unwrap()));
        assert!(outcome.is_ok(), "{}: the updates come to {:?}", self.name, self.sum.borrow());
    }

    /// Ends it.
    ///
    /// # Panics
    ///
    /// If the view did not show what lives.
    pub(super) async fn finish(self) -> (Seen, Sum) {
        self.end.send_replace(true);
        let (seen, sum) = (self.seeing.await.unwrap(), self.summing.await.unwrap());
        assert!(seen.faults.is_empty(), "{}: {:#?}", self.name, seen.faults);
        (seen, sum)
    }
}

/// Holds the updates of a view against what the store said.
pub(super) fn judge(sums: &[Sum], log: Option<&Log>) {
    for sum in sums {
        sum.judge(log);
    }
}

async fn see(
    mut view: View,
    name: &'static str,
    living: Living,
    loss: Loss,
    diary: Diary,
    mut end: watch::Receiver<bool>,
) -> Seen {
    let mut seen = Seen::default();
    let mut live = false;
    loop {
        {
            let picture = view.state();
            if live && matches!(picture.status(), ViewStatus::Stale { .. }) {
                seen.losses_of_touch += 1;
            }
            live = picture.status().is_live();
            diary.note(format_args!("{name}: {}", brief(&picture)));
            if let Some(fault) = fault_of(&picture, &living, loss) {
                seen.faults.push(fault);
            }
        }
        tokio::select! {
            _ = end.wait_for(|end| *end) => return seen,
            () = view.changed() => {}
        }
    }
}

/// What is wrong with a picture, if anything is.
fn fault_of(picture: &ServiceState, living: &Living, loss: Loss) -> Option<String> {
    picture.store_snapshot()?; // it has not begun
    let missing = living.missing(picture.instances());
    let shown = picture.instances().len();
    let allowed = match loss {
        Loss::None => 0,
        // What is missing is not enough to be suspicious: fewer than 2, or fewer than half.
        Loss::Few => (shown + missing.len()).div_ceil(2).saturating_sub(1).max(1).min(shown),
        Loss::Any => usize::MAX,
    };
    (missing.len() > allowed)
        .then(|| format!("{missing:?} live, and are missing: {}", brief(picture)))
}

/// A picture in few words.
pub(super) fn brief(picture: &ServiceState) -> String {
    let (shown, retained) = (ids(picture.instances()), picture.retained());
    let retained: Vec<_> = retained.iter().map(|retained| retained.instance.id()).collect();
    format!("it shows {shown:?}, retains {retained:?}, and is {:?}", picture.status())
}

/// Instances in few words, each with its data.
pub(super) fn ids(instances: &Instances) -> Vec<String> {
    let data = |instance: &Instance| instance.metadata().get("data").cloned().unwrap_or_default();
    instances.iter().map(|instance| format!("{} {}", instance.id(), data(instance))).collect()
}

async fn add_up(
    view: View,
    one_history: bool,
    writer: watch::Sender<Option<Snapshot>>,
    mut end: watch::Receiver<bool>,
) -> Sum {
    let mut sum = Sum::default();
    let mut updates = view.updates();
    drop(view);
    loop {
        tokio::select! {
            _ = end.wait_for(|end| *end) => return sum,
            update = updates.next() => sum.add(update.expect("updates have no end"), one_history),
        }
        writer.send_replace(sum.state.clone());
    }
}

/// An instance with data of its own.
pub(super) fn with_data(instance: Instance, data: &str) -> Instance {
    instance.with_metadata([("data", data)]).unwrap()
}

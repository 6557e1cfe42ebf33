//! Records every state that a view publishes.

use registry_core::InstanceId;
use registry_engine::{View, ViewStatus};
use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use tokio::time::Instant;

/// A record of all states of a view.
///
/// A task that awaits `View::changed` may miss states in between. So a tap is a waker: the view's task calls it after
/// each state that it publishes, before it continues.
#[derive(Debug)]
pub(crate) struct Tap(Mutex<Record>);

#[derive(Debug)]
struct Record {
    /// `None` when the record has ended.
    view: Option<View>,
    /// All instances that the view has shown.
    shown: BTreeSet<InstanceId>,
    states: Vec<State>,
}

/// The recorded part of a state.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) at: Instant,
    pub(crate) status: Status,
    pub(crate) len: usize,
    /// The instances of earlier states that this state lacks.
    pub(crate) missing: Vec<InstanceId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Loading,
    Live,
    Stale,
}

impl Tap {
    /// Starts to record the states of a view.
    pub(crate) fn start(view: View) -> Arc<Self> {
        let record = Record { view: Some(view), shown: BTreeSet::new(), states: Vec::new() };
        let tap = Arc::new(Self(Mutex::new(record)));
        tap.lock().add_state();
        tap.listen();
        tap
    }

    /// Stops recording, and returns all states.
    pub(crate) fn finish(&self) -> Vec<State> {
        let mut record = self.lock();
        let view = record.view.take();
        let states = record.states.clone();
        drop(record);
        drop(view); // the waker in the view holds this tap
        states
    }

    /// Returns whether the last state is live and shows at least `len` instances.
    pub(crate) fn shows(&self, len: usize) -> bool {
        self.last().is_some_and(|state| state.status == Status::Live && state.len >= len)
    }

    /// Returns the states from `since` on.
    pub(crate) fn states_since(&self, since: Instant) -> Vec<State> {
        self.lock().states.iter().filter(|state| state.at >= since).cloned().collect()
    }

    /// Returns whether any state so far was stale.
    pub(crate) fn was_stale(&self) -> bool {
        self.lock().states.iter().any(|state| state.status == Status::Stale)
    }

    pub(crate) fn last(&self) -> Option<State> {
        self.lock().states.last().cloned()
    }

    /// Records each available state, and registers the waker for the next state.
    fn listen(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        let mut context = Context::from_waker(&waker);
        let mut guard = self.lock();
        let record = &mut *guard;
        while let Some(view) = &mut record.view {
            let polled = pin!(view.changed()).poll(&mut context);
            match polled {
                Poll::Ready(Ok(())) => record.add_state(),
                // The runtime has ended, or the next state calls the waker.
                Poll::Ready(Err(_)) | Poll::Pending => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Tap {
    fn wake(self: Arc<Self>) {
        self.listen();
    }
}

impl Record {
    fn add_state(&mut self) {
        let Some(view) = &self.view else { return };
        let state = view.state();
        let records = state.records();
        let is_missing = |id: &&InstanceId| records.find(id.as_str()).is_none();
        let missing: Vec<InstanceId> = self.shown.iter().filter(is_missing).cloned().collect();
        if self.shown.len() < records.len() + missing.len() {
            self.shown.extend(records.ids().cloned());
        }
        let status = match state.status() {
            ViewStatus::Live => Status::Live,
            ViewStatus::Loading { .. } => Status::Loading,
            _ => Status::Stale,
        };
        let (len, retained) = (records.len(), state.retained().len());
        tracing::debug!(
            ?status,
            len,
            retained,
            missing = missing.len(),
            "a view published a state"
        );
        self.states.push(State { at: Instant::now(), status, len, missing });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use registry_core::{CallOptions, Claim, Instance, Registry};
    use registry_engine::{Discovery, DiscoveryOptions};
    use registry_mem::MemRegistry;
    use std::time::Duration;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_instance_that_a_later_state_lacks_is_missing() {
        let registry = Arc::new(MemRegistry::new());
        let options = DiscoveryOptions::default().with_retain(false);
        let view = Discovery::new(registry.clone(), options).view(&"a".parse().unwrap());
        let mut watched = view.clone();
        let tap = Tap::start(view);
        let instance = Instance::from_parts(
            "a".parse().unwrap(),
            "1".parse().unwrap(),
            "10.0.0.1:80".parse().unwrap(),
        );
        let claim = Claim::new(SOON).unwrap();
        let lease = registry.register(&instance, &claim, &CallOptions::DEFAULT).await.unwrap();
        while !tap.shows(1) {
            timeout(SOON, watched.changed()).await.unwrap().unwrap();
        }
        registry.deregister(&lease, &CallOptions::DEFAULT).await.unwrap();
        while tap.last().unwrap().len > 0 {
            timeout(SOON, watched.changed()).await.unwrap().unwrap();
        }
        let states = tap.finish();
        assert_eq!(states.last().unwrap().missing, [instance.id().clone()]);
        assert!(states[..states.len() - 1].iter().all(|state| state.missing.is_empty()));
        assert_eq!(Arc::strong_count(&tap), 1, "the view still holds a waker");
    }

    /// A view publishes a thousand changes as several states.
    #[tokio::test]
    async fn no_state_is_skipped() {
        const INSTANCES: usize = 1_000;
        /// The maximum number of changes that a view merges into one state.
        const BURST: usize = 256;
        let registry = MemRegistry::new();
        let options = DiscoveryOptions::default();
        let discovery = Discovery::new(Arc::new(registry.clone()), options);
        let mut view = discovery.view(&"a".parse().unwrap());
        timeout(SOON, view.ready(SOON)).await.unwrap().unwrap();
        let tap = Tap::start(view.clone());
        let claim = Claim::new(SOON).unwrap();
        for n in 0..INSTANCES {
            let id = n.to_string().parse().unwrap();
            let address = "10.0.0.1:80".parse().unwrap();
            let instance = Instance::from_parts("a".parse().unwrap(), id, address);
            let claim = claim.with_lease(registry_core::LeaseId::random());
            let register = registry.register(&instance, &claim, &CallOptions::DEFAULT);
            register.now_or_never().expect("memory answers at once").unwrap();
        }
        while view.state().records().len() < INSTANCES {
            timeout(SOON, view.changed()).await.unwrap().unwrap();
        }
        let lens: Vec<usize> = tap.finish().iter().map(|state| state.len).collect();
        assert_eq!(lens.last(), Some(&INSTANCES));
        assert!(lens.windows(2).all(|pair| pair[1] - pair[0] <= BURST), "{lens:?}");
    }
}

//! The state that the handles of one registry share: the model and the open watches.

use crate::model::Model;
use futures_util::{StreamExt, stream};
use registry_core::{Batch, Cursor, Lineage, Publisher, Result, Revision, ServiceName, Watch};
use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

pub(crate) struct Shared {
    epoch: Instant,
    // The lock is held for a few map operations and never across an await, so a plain mutex suffices.
    state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) model: Model,
    /// The revision up to which batches were published to the open watches.
    pub(crate) published: Revision,
    pub(crate) watches: Watches,
    opened: u64,
}

/// The open watches of each service, by number.
pub(crate) type Watches = HashMap<ServiceName, Vec<(u64, Publisher)>>;

/// The registration of an open watch in the store. Dropping it removes the watch.
pub(crate) struct Subscription {
    shared: Arc<Shared>,
    service: ServiceName,
    id: u64,
}

/// A watch that was just opened.
pub(crate) struct OpenWatch {
    watch: Watch,
    lineage: Lineage,
    subscription: Subscription,
}

impl Shared {
    pub(crate) fn new(model: Model) -> Self {
        let published = model.revision();
        let state = State { model, published, watches: HashMap::new(), opened: 0 };
        Self { epoch: Instant::now(), state: Mutex::new(state) }
    }

    /// Runs `f` on the model at the current time, and publishes the committed batches to the watches.
    pub(crate) fn with<T>(&self, f: impl FnOnce(Duration, &mut Model) -> T) -> T {
        self.with_state(|now, state| f(now, &mut state.model))
    }

    pub(crate) fn with_state<T>(&self, f: impl FnOnce(Duration, &mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let output = f(self.epoch.elapsed(), &mut state);
        state.publish();
        output
    }
}

impl State {
    /// Publishes the batches committed since the last call to the open watches.
    fn publish(&mut self) {
        // A renewal or a read commits nothing, so it need not search the history.
        if self.model.revision() == self.published {
            return;
        }
        for (service, batch) in self.model.committed_after(self.published) {
            if let Some(watches) = self.watches.get_mut(service) {
                watches.retain_mut(|(_, publisher)| publisher.publish(batch.clone()));
            }
        }
        self.published = self.model.revision();
        self.model.trim_history();
    }
}

impl Subscription {
    /// Opens a watch of `service` after the cursor that `after` returns.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        service: &ServiceName,
        after: impl FnOnce(Duration, &mut Model) -> Result<Cursor>,
    ) -> Result<OpenWatch> {
        // In one critical section, so that no batch is lost between the backlog and later ones.
        shared.with_state(|now, state| {
            let after = after(now, &mut state.model)?;
            let backlog = state.model.batches(now, service, &after)?;
            state.publish(); // expiries of this call are already in this watch's backlog
            let (publisher, watch) = Watch::channel(after, backlog);
            state.opened += 1;
            state.watches.entry(service.clone()).or_default().push((state.opened, publisher));
            let (shared, service, id) = (shared.clone(), service.clone(), state.opened);
            let lineage = state.model.lineage();
            Ok(OpenWatch { watch, lineage, subscription: Self { shared, service, id } })
        })
    }

    /// Returns the next item of `watch`, and expires the leases of the service while waiting.
    async fn next(&self, watch: &mut Watch) -> Option<Result<Arc<Batch>>> {
        loop {
            let deadline = self.shared.with(|now, model| {
                model.expire(now, &self.service);
                model.next_deadline(&self.service)
            });
            let expiry = async {
                match deadline {
                    Some(at) => sleep_until(self.shared.epoch + at).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                item = watch.next() => return item,
                () = expiry => {}
            }
        }
    }
}

impl OpenWatch {
    /// Returns the watch, with each batch mapped by `map`.
    pub(crate) fn into_watch(
        self,
        map: impl Fn(Arc<Batch>) -> Arc<Batch> + Send + 'static,
    ) -> Watch {
        let Self { watch, lineage, subscription } = self;
        let watch = watch.wrap(|watch| {
            stream::unfold(
                (watch, subscription, map),
                |(mut watch, subscription, map)| async move {
                    let item = subscription.next(&mut watch).await?.map(&map);
                    Some((item, (watch, subscription, map)))
                },
            )
        });
        watch.with_lineage(lineage)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watches) = state.watches.get_mut(&self.service) {
            watches.retain(|(id, _)| *id != self.id);
            if watches.is_empty() {
                state.watches.remove(&self.service);
            }
        }
    }
}

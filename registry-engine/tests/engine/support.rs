//! Helpers of the tests: a store behind a faulty link and a spy, and waits for states of views and registrations.

use futures_util::StreamExt;
use futures_util::future::ready as at_once;
use futures_util::stream::BoxStream;
use registry_core::{CallOptions, Claim, Instance, Lease, Registry, Result, ServiceName, Takeover};
use registry_engine::{
    Backoff, Discovery, DiscoveryOptions, Registration, RegistrationOptions, RegistrationStatus,
    ServiceState, Start, Update, View,
};
use registry_mem::{FaultyRegistry, MemRegistry};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

pub(crate) use crate::monitor::Monitor;
pub(crate) use crate::spy::{Call, Interception, Spy};

/// The default ttl of registrations and views.
pub(crate) const TTL: Duration = Duration::from_secs(10);

/// The longest delay of the default backoff.
pub(crate) const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The return bound: a third of [`TTL`].
pub(crate) const RETURN_BOUND: Duration = Duration::from_millis(3_333);

/// A tolerance for tokio's timers, whose resolution is 1 ms.
pub(crate) const TICK: Duration = Duration::from_millis(2);

/// The timeout of all waits.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Waits for `future`, and panics after a timeout instead of hanging.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("timed out")
}

/// Advances the paused clock by `time`.
pub(crate) async fn advance(time: Duration) {
    sleep(time).await;
}

/// Returns the updates of a view, except those of its status.
pub(crate) fn changes(view: &View) -> BoxStream<'static, Update> {
    let updates = view.updates();
    updates.filter(|update| at_once(!matches!(update, Update::Status(_)))).boxed()
}

pub(crate) fn service() -> ServiceName {
    "user.rpc".parse().unwrap()
}

pub(crate) fn node(id: &str) -> Instance {
    node_of(&service(), id)
}

pub(crate) fn node_of(service: &ServiceName, id: &str) -> Instance {
    Instance::from_parts(service.clone(), id.parse().unwrap(), "10.0.0.1:80".parse().unwrap())
}

/// Returns a claim that does not expire during a test.
pub(crate) fn long() -> Claim {
    Claim::new(secs(24 * 3600)).unwrap()
}

pub(crate) fn in_background() -> RegistrationOptions {
    RegistrationOptions::default().with_start(Start::InBackground)
}

/// Returns options with a backoff of at most 1 s, so that a lease survives an outage of 5 s.
pub(crate) fn eager() -> RegistrationOptions {
    let backoff = Backoff::new(millis(100), secs(1));
    RegistrationOptions::default().with_backoff(backoff)
}

pub(crate) fn no_retention() -> DiscoveryOptions {
    DiscoveryOptions::default().with_retain(false)
}

pub(crate) fn ids<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> String {
    let ids: Vec<&str> = instances.into_iter().map(|instance| instance.id().as_str()).collect();
    ids.join(" ")
}

/// Returns the ids of the instances that a view shows.
pub(crate) fn shown(view: &View) -> String {
    ids(view.state().instances())
}

/// Returns the ids of the retained instances of a view.
pub(crate) fn retained(view: &View) -> String {
    ids(view.state().retained().iter().map(|retained| retained.record.instance()))
}

/// A store, the faulty link of one client to it, and a spy that records the calls over the link.
pub(crate) struct World {
    pub(crate) store: MemRegistry,
    pub(crate) link: FaultyRegistry,
    pub(crate) spy: Arc<Spy>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::over(MemRegistry::new())
    }

    /// Returns another client of `store`.
    pub(crate) fn over(store: MemRegistry) -> Self {
        let link = FaultyRegistry::new(store.clone());
        let spy = Arc::new(Spy::new(link.clone()));
        Self { store, link, spy }
    }

    pub(crate) async fn start(&self, node: Instance) -> Registration {
        self.try_start(node, RegistrationOptions::default()).await.unwrap()
    }

    pub(crate) async fn try_start(
        &self,
        node: Instance,
        options: RegistrationOptions,
    ) -> Result<Registration> {
        within(Registration::start(self.spy.clone(), node, options)).await
    }

    pub(crate) fn discovery(&self, options: DiscoveryOptions) -> Discovery {
        Discovery::new(self.spy.clone(), options)
    }

    /// Returns a live view.
    pub(crate) async fn view(&self, options: DiscoveryOptions) -> View {
        let view = self.discovery(options).view(&service());
        within(view.ready(secs(60))).await.unwrap();
        view
    }

    /// Registers a node with a long ttl, directly in the store.
    pub(crate) async fn put(&self, id: &str) -> Lease {
        self.put_as(&node(id)).await
    }

    pub(crate) async fn put_as(&self, node: &Instance) -> Lease {
        within(self.store.register(node, &long(), &CallOptions::DEFAULT)).await.unwrap()
    }

    /// Registers `node` with a long ttl, directly in the store, and displaces the current holder of its id.
    pub(crate) async fn displace(&self, node: &Instance) -> Lease {
        let refused =
            within(self.store.register(node, &long(), &CallOptions::DEFAULT)).await.unwrap_err();
        let takeover = Takeover::From(*refused.holder().unwrap());
        let claim = long().with_takeover(takeover);
        within(self.store.register(node, &claim, &CallOptions::DEFAULT)).await.unwrap()
    }

    /// Returns the instances in the store.
    pub(crate) async fn stored(&self) -> Vec<Instance> {
        within(self.store.load(&service(), &CallOptions::DEFAULT))
            .await
            .unwrap()
            .instances()
            .cloned()
            .collect()
    }

    pub(crate) async fn stored_ids(&self) -> String {
        ids(&self.stored().await)
    }
}

/// Waits for the view to be ready, for at most `limit`.
pub(crate) async fn ready(view: &View, limit: Duration) -> Result<()> {
    within(view.clone().ready(limit)).await
}

/// Waits until the state of the view satisfies `condition`.
pub(crate) async fn until(view: &View, condition: impl Fn(&ServiceState) -> bool) {
    let mut view = view.clone();
    within(async {
        while !condition(&view.state()) {
            view.changed().await.unwrap();
        }
    })
    .await;
}

/// Waits until the view shows exactly the instances with these ids.
pub(crate) async fn until_shown(view: &View, expected: &str) {
    until(view, |state| ids(state.instances()) == expected).await;
}

pub(crate) async fn until_live(view: &View) {
    until(view, |state| state.status().is_live()).await;
}

/// Waits until the status of the registration satisfies `condition`.
pub(crate) async fn until_status(
    registration: &Registration,
    condition: impl Fn(&RegistrationStatus) -> bool,
) {
    let mut statuses = registration.statuses();
    within(async { while !condition(&statuses.next().await.expect("not stopped")) {} }).await;
}

pub(crate) async fn until_active(registration: &Registration) {
    until_status(registration, RegistrationStatus::is_active).await;
}

//! The fixture of the suite's tests: registrations, observed views, and the final checks.

use super::event_log::EventLog;
use super::observer::{
    AllowedLoss, ExpectedInstances, Observed, Observer, Replica, check, ids, summary, with_data,
};
use super::oracle::Oracle;
use super::{Environment, Side, SuiteOptions};
use futures_util::StreamExt;
use registry_core::{
    CallOptions, Claim, Instance, InstanceId, Lease, Record, Records, Registry, Result, ServiceName,
};
use registry_engine::{Discovery, Registration, View};
use registry_testkit::case::{instance, retry, service};
use registry_testkit::lag::{Deadline, Lag};
use std::sync::Arc;
use std::time::Duration;

/// A service in an environment, with its registrations and observed views.
pub(super) struct Fixture {
    pub(super) environment: Arc<dyn Environment>,
    pub(super) options: SuiteOptions,
    pub(super) service: ServiceName,
    pub(super) owners: Vec<Registration>,
    pub(super) observers: Vec<Observer>,
    pub(super) oracle: Oracle,
    expected: ExpectedInstances,
    /// Whether the store keeps its history.
    one_history: bool,
    pub(super) log: EventLog,
    pub(super) lag: Lag,
    /// Leases of instances without a registration.
    direct_leases: Vec<Lease>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.log.print_if_panicking();
    }
}

/// The observations of a test.
pub(super) struct Outcome {
    /// The states of each view.
    pub(super) seen: Vec<Observed>,
    /// The replica that the updates of each view built.
    pub(super) replicas: Vec<Replica>,
}

impl Fixture {
    /// A fixture without instances, on a store that keeps its history.
    pub(super) async fn new(
        environment: Arc<dyn Environment>,
        options: SuiteOptions,
        lag: Lag,
    ) -> Self {
        Self::with_history(environment, options, lag, true).await
    }

    /// A fixture without instances, on a store that keeps its history if `one_history` is true.
    pub(super) async fn with_history(
        environment: Arc<dyn Environment>,
        options: SuiteOptions,
        lag: Lag,
        one_history: bool,
    ) -> Self {
        let service = service("user.rpc");
        let oracle = Oracle::start(environment.direct(), &service).await;
        let (owners, observers, direct_leases) = (Vec::new(), Vec::new(), Vec::new());
        let (expected, log) = (ExpectedInstances::default(), EventLog::new(lag.clone()));
        Self {
            environment,
            options,
            service,
            owners,
            observers,
            oracle,
            expected,
            one_history,
            log,
            lag,
            direct_leases,
        }
    }

    /// Returns the registry over the connection of a side.
    pub(super) fn registry(&self, side: Side) -> Arc<dyn Registry> {
        self.environment.registry(side)
    }

    /// Starts a registration over the publishers' connection, and keeps it as an owner.
    pub(super) async fn register(&mut self, id: &str) {
        let owner = self.start(id).await.unwrap();
        self.log.follow(&owner);
        self.owners.push(owner);
    }

    /// Starts a registration over the publishers' connection.
    pub(super) async fn start(&self, id: &str) -> Result<Registration> {
        let (node, options) = (instance(&self.service, id), self.options.registration());
        let start = Registration::start(self.registry(Side::Publisher), node, options);
        self.lag
            .timeout(2 * self.options.recovery(), start)
            .await
            .expect("the start of a registration hangs")
    }

    /// Observes the service over the subscribers' connection.
    pub(super) fn observe(&mut self, loss: AllowedLoss) {
        let view = self.view();
        self.add_observer("the subscriber", view, loss);
    }

    /// Observes the service over the direct connection.
    pub(super) fn observe_directly(&mut self, loss: AllowedLoss) {
        let discovery = Discovery::new(self.environment.direct(), self.options.discovery());
        self.add_observer("the direct view", discovery.view(&self.service), loss);
    }

    /// Opens a view over the subscribers' connection.
    pub(super) fn view(&self) -> View {
        let registry = self.registry(Side::Subscriber);
        Discovery::new(registry, self.options.discovery()).view(&self.service)
    }

    fn add_observer(&mut self, name: &'static str, view: View, loss: AllowedLoss) {
        let (expected, one_history) = (self.expected.clone(), self.one_history);
        self.observers.push(Observer::new(
            name,
            view,
            expected,
            loss,
            one_history,
            self.log.clone(),
        ));
    }

    /// Waits until all views show what the store lists. From then on they must show the owners' instances.
    pub(super) async fn start_checks(&self) {
        self.converge(self.options.recovery()).await;
        for owner in &self.owners {
            self.expected.insert(owner.instance().id());
        }
    }

    /// Allows views to lose an instance, since it is about to be stopped.
    pub(super) fn stop_expecting(&self, id: &InstanceId) {
        self.expected.remove(id);
    }

    /// Registers an instance over the direct connection with a long ttl, so that the service changes.
    pub(super) async fn register_directly(&mut self, id: &str) {
        let (guest, direct) = (instance(&self.service, id), self.environment.direct());
        let claim = Claim::new(registry_testkit::case::LONG).unwrap();
        self.direct_leases
            .push(retry(|| direct.register(&guest, &claim, &CallOptions::DEFAULT)).await);
    }

    /// Registers an instance over the publishers' connection and never renews it, like a process that crashes.
    pub(super) async fn register_and_crash(&mut self, id: &str) {
        let (dead, registry) = (instance(&self.service, id), self.registry(Side::Publisher));
        let claim = Claim::new(self.options.ttl()).unwrap();
        self.direct_leases
            .push(retry(|| registry.register(&dead, &claim, &CallOptions::DEFAULT)).await);
    }

    /// Stops expecting the instances without a registration.
    pub(super) fn forget_direct_leases(&mut self) {
        self.direct_leases.clear();
    }

    /// Updates the data of an owner's instance. An outage delays the update until its end.
    pub(super) async fn update(&self, owner: usize, data: &str) {
        let owner = &self.owners[owner];
        let update = owner.update(|instance| with_data(instance, data));
        update.await.expect("the update failed");
    }

    /// Loads the records over the direct connection.
    pub(super) async fn listed(&self) -> Records {
        let direct = self.environment.direct();
        retry(|| direct.load(&self.service, &CallOptions::DEFAULT)).await.records().clone()
    }

    /// Waits until all registrations and views have recovered, for at most `limit`.
    pub(super) async fn converge(&self, limit: Duration) {
        let deadline = self.lag.deadline(limit);
        for owner in &self.owners {
            let mut states = owner.statuses();
            let active =
                async { while !states.next().await.expect("a registration ended").is_active() {} };
            let outcome = deadline.timeout(active).await;
            assert!(outcome.is_ok(), "not active after {limit:?}: {owner:?}");
        }
        for observer in &self.observers {
            self.view_converges(observer.name, &observer.view, &deadline).await;
        }
        for owner in &self.owners {
            assert!(owner.status().is_active(), "no longer active: {owner:?}");
        }
    }

    /// Waits until the store lists the expected records, and a view shows exactly these and the records that it
    /// retains. It may retain deleted records for up to 30 s.
    pub(super) async fn view_converges(&self, name: &str, view: &View, deadline: &Deadline) {
        let mut view = view.clone();
        let mut listed = self.listed().await;
        let converged = async {
            loop {
                {
                    let state = view.state();
                    let same =
                        state.store_snapshot().is_some_and(|store| *store.records() == listed)
                            && state.records().len() == listed.len() + state.retained().len();
                    if same && state.status().is_live() && self.are_expected(&listed) {
                        return;
                    }
                }
                view.changed().await.unwrap();
                listed = self.listed().await;
            }
        };
        let outcome = deadline.timeout(converged).await;
        assert!(
            outcome.is_ok(),
            "{name} does not converge: {}; the store lists {:?}",
            summary(&view.state()),
            ids(&self.listed().await),
        );
    }

    /// Returns whether these are the owners' instances with their last updates, and those without a registration.
    fn are_expected(&self, listed: &Records) -> bool {
        let owned: Vec<Instance> = self.owners.iter().map(Registration::instance).collect();
        let is_owned = |instance: &Instance| owned.iter().any(|own| own.id() == instance.id());
        let is_direct =
            |id: &InstanceId| self.direct_leases.iter().any(|lease| lease.instance().id() == id);
        let direct_leases = listed.instances().filter(|instance| !is_owned(instance));
        // Nothing registers these again after the store has lost its data.
        let all_direct = !self.one_history || {
            let awaited = self.direct_leases.iter().filter(|lease| !is_owned(lease.instance()));
            awaited.count() == direct_leases.clone().count()
        };
        all_direct
            && direct_leases.map(Instance::id).all(is_direct)
            && owned
                .iter()
                .all(|own| listed.find(own.id().as_str()).map(Record::instance) == Some(own))
    }

    /// Makes the final checks of every test: everything recovers, and nothing is left after all are stopped.
    pub(super) async fn finish(mut self) -> Outcome {
        let limit = self.options.recovery();
        self.converge(limit).await;
        let direct = self.environment.direct();
        for owner in std::mem::take(&mut self.owners) {
            self.expected.remove(owner.instance().id());
            let stop = self.lag.timeout(2 * limit, owner.stop()).await.expect("a stop hangs");
            stop.expect("a stop failed on a healthy store");
        }
        for lease in std::mem::take(&mut self.direct_leases) {
            retry(|| direct.deregister(&lease, &CallOptions::DEFAULT)).await;
        }
        let listed = self.listed().await;
        assert!(listed.is_empty(), "listed after all were stopped: {listed:?}");
        if self.options.traits.paused_clock {
            // After a fault, a view may retain even withdrawn instances for a ttl. This does not depend on the
            // store, so a real clock need not wait for it.
            self.converge(limit).await;
        }
        let (mut seen, mut replicas) = (Vec::new(), Vec::new());
        for observer in std::mem::take(&mut self.observers) {
            observer.reaches(&listed, self.lag.deadline(limit)).await;
            let (saw, replica) = observer.finish().await;
            seen.push(saw);
            replicas.push(replica);
        }
        let last = replicas.iter().map(Replica::revision).max().unwrap_or_default();
        if self.one_history {
            let history = self.oracle.history_up_to(last, self.lag.deadline(limit)).await;
            check(&replicas, history.as_ref());
        } else {
            check(&replicas, None);
        }
        let listed = retry(|| direct.load(&self.service, &CallOptions::DEFAULT)).await;
        assert!(listed.records().is_empty(), "registered again after all were stopped: {listed:?}");
        Outcome { seen, replicas }
    }
}

//! The task of a channel. It follows the view, and keeps an endpoint for each address.

use crate::endpoint::{Endpoint, EndpointKey, EndpointState};
use crate::state::{ChannelState, Connectivity};
use registry_balance::{Member, client_number, subset};
use registry_core::Address;
use registry_engine::{Failure, Retained, ServiceState, View};
use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// The metadata key in which instances of other programs, such as go-zero's, may name their zone.
const ZONE: &str = "zone";

/// The source of the addresses.
pub(crate) enum Source {
    Fixed(Vec<Address>),
    View(View),
}

/// The task of a channel.
pub(crate) struct ChannelTask {
    source: Source,
    state: Arc<ChannelState>,
    /// The seed of the subset.
    client: u64,
    endpoints: HashMap<Address, EndpointHandle>,
    /// The number of endpoints created so far.
    incarnations: u64,
    /// Notified when the state of an endpoint changes.
    changed: Arc<Notify>,
}

/// An address in the source. Several instances at one address are merged into one endpoint.
#[derive(Clone, Copy, Debug)]
struct Listed {
    weight: u32,
    is_near: bool,
    /// Whether the endpoint takes calls only while no other endpoint is ready.
    is_standby: bool,
}

/// An endpoint, and the task that keeps it connected. Dropping the handle ends the task.
struct EndpointHandle {
    endpoint: Arc<Endpoint>,
    task: AbortHandle,
}

impl Drop for EndpointHandle {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Empties the balancer: a call in flight may outlive the channel and holds its state.
impl Drop for ChannelTask {
    fn drop(&mut self) {
        self.state.balancer.set([], self.state.context.now());
        self.state.context.meters.set_endpoints(0, 0);
        self.state.publish(Connectivity::TransientFailure("the channel is closed".into()));
    }
}

impl ChannelTask {
    pub(crate) fn new(source: Source, state: Arc<ChannelState>) -> Self {
        let client = state.context.options.client.as_deref();
        let client = client.map_or_else(|| fastrand::u64(..), client_number);
        let (endpoints, changed) = (HashMap::new(), Arc::default());
        Self { source, state, client, endpoints, incarnations: 0, changed }
    }

    pub(crate) async fn run(mut self) {
        self.follow();
        loop {
            let view = match &mut self.source {
                Source::Fixed(_) => None,
                Source::View(view) => Some(view),
            };
            let view_changed = async {
                let changed = match view {
                    Some(view) => view.changed().await.is_ok(),
                    None => false,
                };
                if !changed {
                    pending::<()>().await; // no view, or its runtime has shut down: keep the endpoints
                }
            };
            tokio::select! {
                () = view_changed => self.follow(),
                () = self.changed.notified() => {
                    self.report_refusals();
                    self.publish();
                }
            }
        }
    }

    /// Updates the endpoints to the addresses that the source lists now.
    fn follow(&mut self) {
        let listed = self.listed();
        self.endpoints.retain(|address, _| listed.contains_key(address));
        let mut added = Vec::new();
        let member = |(address, Listed { weight, is_near: near, is_standby: standby })| {
            let known = self.endpoints.get(&address).map(|handle| handle.endpoint.clone());
            let endpoint = known.unwrap_or_else(|| {
                self.incarnations += 1;
                let key = EndpointKey { address, incarnation: self.incarnations };
                let endpoint = Arc::new(Endpoint::new(key, self.state.context.clone()));
                added.push(endpoint.clone());
                endpoint
            });
            Member { weight, near, standby, ..Member::new(endpoint.key().clone(), endpoint) }
        };
        let members: Vec<_> = listed.into_iter().map(member).collect();
        self.state.balancer.set(members, self.state.context.now());
        // After `set`: the balancer ignores readiness of a key that is not a member yet.
        for endpoint in added {
            let address = endpoint.key().address.clone();
            let task = self.connect(endpoint.clone());
            self.endpoints.insert(address, EndpointHandle { endpoint, task });
        }
        self.publish();
    }

    /// Spawns the task that keeps an endpoint connected.
    fn connect(&self, endpoint: Arc<Endpoint>) -> AbortHandle {
        let (state, changed) = (self.state.clone(), self.changed.clone());
        let run = async move {
            let report = |is_ready| {
                state.balancer.set_ready(endpoint.key(), is_ready);
                changed.notify_one();
            };
            endpoint.run(report).await;
        };
        tokio::spawn(run).abort_handle()
    }

    /// Returns the addresses to connect to.
    fn listed(&self) -> BTreeMap<Address, Listed> {
        let options = &self.state.context.options;
        let mut listed = BTreeMap::<Address, Listed>::new();
        match &self.source {
            Source::Fixed(addresses) => {
                let weight = registry_core::DEFAULT_WEIGHT;
                let fixed = Listed { weight, is_near: false, is_standby: false };
                listed.extend(addresses.iter().map(|address| (address.clone(), fixed)));
            }
            Source::View(view) => {
                let state = view.state();
                for instance in state.instances().filter(|instance| instance.is_available()) {
                    let is_near = options.zone.as_deref().is_some_and(|ours| {
                        // Metadata is parsed on first use, which is the most expensive step here.
                        let in_metadata = || instance.metadata().get(ZONE).map(String::as_str);
                        instance.zone().or_else(in_metadata) == Some(ours)
                    });
                    let weight = instance.weight();
                    let is_standby = state.is_standby(instance.id());
                    let entry = listed.entry(instance.address().clone());
                    let entry = entry.or_insert(Listed { weight, is_near, is_standby });
                    entry.weight = entry.weight.max(weight);
                    entry.is_near |= is_near;
                    entry.is_standby &= is_standby;
                }
            }
        }
        let Some(size) = options.subset.map(NonZeroUsize::get) else { return listed };
        let (near, far): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|(_, listed)| listed.is_near);
        let chosen = |group| {
            subset(self.client, size, group, |(address, _): &(Address, _)| address.as_str())
        };
        chosen(near).into_iter().chain(chosen(far)).collect()
    }

    /// Reports to the view each retained instance whose address has refused a connection since.
    fn report_refusals(&self) {
        let Source::View(view) = &self.source else { return };
        for Retained { record, since, .. } in view.state().retained() {
            let handle = self.endpoints.get(record.instance().address());
            if let Some(handle) = handle
                && let EndpointState::TransientFailure(attempt) = &*handle.endpoint.state()
                && attempt.was_refused_since(*since)
            {
                view.report(record.id(), record.lease(), Failure::Refused);
            }
        }
    }

    /// Publishes the connectivity and the number of endpoints.
    fn publish(&self) {
        let candidates = self.state.balancer.candidates().len();
        self.state.context.meters.set_endpoints(self.endpoints.len(), candidates);
        self.state.publish(self.connectivity());
    }

    fn connectivity(&self) -> Connectivity {
        let service = &self.state.context.name;
        let mut failed = None;
        for handle in self.endpoints.values() {
            match &*handle.endpoint.state() {
                EndpointState::TransientFailure(attempt) => {
                    failed = Some(attempt.error.message().to_owned());
                }
                EndpointState::Connecting | EndpointState::Ready(_) => {
                    let reason = format!("no endpoint of {service} is connected yet");
                    return Connectivity::Connecting(reason);
                }
            }
        }
        if let Some(error) = failed {
            let count = self.endpoints.len();
            return Connectivity::TransientFailure(format!(
                "no endpoint of {service} can be reached ({count} tried): {error}"
            ));
        }
        match &self.source {
            Source::Fixed(_) => {
                Connectivity::TransientFailure("the list of addresses is empty".into())
            }
            Source::View(view) => no_endpoint(service, &view.state()),
        }
    }
}

/// Returns why there is no endpoint.
fn no_endpoint(service: &str, state: &ServiceState) -> Connectivity {
    match (state.instances().len(), state.status().error()) {
        (0, None) if !state.status().is_live() => {
            Connectivity::Connecting(format!("{service} has not been loaded from the registry yet"))
        }
        (0, Some(why)) => {
            let reason = format!("{service} cannot be loaded from the registry: {why}");
            // The first load may still succeed if the error is retryable: calls wait for it.
            let is_awaited = state.store_snapshot().is_none() && why.is_retryable();
            if is_awaited {
                Connectivity::Connecting(reason)
            } else {
                Connectivity::TransientFailure(reason)
            }
        }
        (0, _) => {
            let looked_in = state.store_snapshot().map(|found| found.cursor().origin());
            let looked_in = looked_in
                .map(|origin| format!(", store=`{}`, scope=`{}`", origin.store(), origin.scope()))
                .unwrap_or_default();
            Connectivity::TransientFailure(format!(
                "no instance of {service} is registered: check that its servers use the store, layout and \
                 prefix of this caller{looked_in}"
            ))
        }
        (count, _) => Connectivity::TransientFailure(format!(
            "all instances of {service} are draining or have weight 0, instances=`{count}`"
        )),
    }
}

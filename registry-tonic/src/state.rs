//! The state that a channel's task publishes and that calls read.

use crate::call::Call;
use crate::context::ChannelContext;
use crate::endpoint::{Endpoint, EndpointKey};
use crate::replay::Replay;
use crate::wait::Wait;
use arc_swap::ArcSwap;
use registry_balance::{Balancer, BalancerOptions, NoPick};
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};
use tonic::Status;

/// The state that a channel's task publishes and that calls read.
pub(crate) struct ChannelState {
    pub(crate) context: Arc<ChannelContext>,
    pub(crate) balancer: Balancer<EndpointKey, Arc<Endpoint>>,
    connectivity: ArcSwap<Connectivity>,
    changed: Notify,
}

/// The reason why no endpoint takes calls, if none does. Named after gRPC's connectivity states.
#[derive(Clone, Debug)]
pub(crate) enum Connectivity {
    /// An endpoint may become ready at any moment: calls wait.
    Connecting(String),
    /// No endpoint is expected to become ready soon: calls fail at once.
    TransientFailure(String),
}

impl Connectivity {
    pub(crate) fn reason(&self) -> &str {
        let (Self::Connecting(reason) | Self::TransientFailure(reason)) = self;
        reason
    }
}

impl ChannelState {
    pub(crate) fn new(context: Arc<ChannelContext>) -> Self {
        let ejection = context.options.ejection;
        // An endpoint takes no calls before it is connected.
        let options =
            BalancerOptions::default().with_ejection(ejection).with_initially_ready(false);
        let reason = format!("no endpoint of {} is connected yet", context.name);
        Self {
            context,
            balancer: Balancer::new(options, fastrand::u64(..)),
            connectivity: ArcSwap::from_pointee(Connectivity::Connecting(reason)),
            changed: Notify::new(),
        }
    }

    pub(crate) fn connectivity(&self) -> Arc<Connectivity> {
        self.connectivity.load_full()
    }

    /// Publishes the connectivity, and wakes all calls that wait for an endpoint.
    pub(crate) fn publish(&self, connectivity: Connectivity) {
        self.connectivity.store(Arc::new(connectivity));
        self.changed.notify_waiters();
    }

    /// Waits for the next change.
    pub(crate) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// Begins a call as soon as an endpoint takes it, and writes the remaining time into the request.
    /// Endpoints in `refused` are used only if no other endpoint takes the call.
    pub(crate) async fn begin(
        &self,
        request: &mut Replay,
        wait: Wait,
        refused: &[EndpointKey],
    ) -> Result<Call, Status> {
        loop {
            let mut changed = std::pin::pin!(self.changed());
            changed.as_mut().enable();
            let now = Instant::now();
            if let Some(call) = self.try_begin(now, refused) {
                if let Some(deadline) = wait.deadline {
                    request.set_timeout(deadline.saturating_duration_since(now));
                }
                return Ok(call);
            }
            let connectivity = self.connectivity();
            if let Connectivity::TransientFailure(reason) = &*connectivity {
                // Lets the connecting tasks run even if the caller retries in a loop.
                yield_now().await;
                return Err(Status::unavailable(reason.clone()));
            }
            if timeout_at(wait.until, changed).await.is_err() {
                return Err(wait.status(connectivity.reason()));
            }
        }
    }

    /// Begins a call if an endpoint takes it now. Endpoints in `refused` are used only if no other
    /// endpoint takes the call.
    pub(crate) fn try_begin(&self, begun: Instant, refused: &[EndpointKey]) -> Option<Call> {
        let now = self.context.since_start(begun);
        let (mut lost, mut rng) = (Vec::new(), fastrand::Rng::new());
        loop {
            let is_connected = |key: &EndpointKey| !lost.contains(key);
            let is_another = |key: &EndpointKey| is_connected(key) && !refused.contains(key);
            let picked = match self.balancer.pick_where(None, is_another, now, &mut rng) {
                Err(NoPick::Excluded) => {
                    self.balancer.pick_where(None, is_connected, now, &mut rng)
                }
                picked => picked,
            };
            let ticket = picked.ok()?;
            if let Some(connection) = ticket.value().connection() {
                return Some(Call::new(ticket, connection));
            }
            // The connection was just lost, and the endpoint's task has not reported it yet.
            lost.push(ticket.key().clone());
        }
    }
}

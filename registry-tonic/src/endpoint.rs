//! An address that is kept connected to.

use crate::connection::Connection;
use crate::context::ChannelContext;
use crate::status::is_refused;
use arc_swap::ArcSwap;
use registry_core::Address;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::Status;

/// A connection that stood for that long has served: if it is lost, the next attempt is made at
/// once.
const SETTLED: Duration = Duration::from_secs(1);

/// The key of an endpoint with the balancer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointKey {
    pub(crate) address: Address,
    /// Differs for an address that was removed and comes again.
    pub(crate) incarnation: u64,
}

/// An address that is kept connected to.
pub(crate) struct Endpoint {
    key: EndpointKey,
    context: Arc<ChannelContext>,
    state: ArcSwap<EndpointState>,
}

/// The state of an endpoint, as gRPC names them.
#[derive(Debug)]
pub(crate) enum EndpointState {
    /// An attempt to connect is under way, or is about to be made.
    Connecting,
    /// The last attempt has failed, and another one is made after a backoff.
    TransientFailure(FailedAttempt),
    Ready(Arc<Connection>),
}

/// An attempt to connect that failed.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) error: Status,
    begun: Instant,
}

impl FailedAttempt {
    /// Returns whether the connection was refused by an attempt that began at `since` or later.
    pub(crate) fn was_refused_since(&self, since: Instant) -> bool {
        self.begun >= since && is_refused(&self.error)
    }
}

impl Endpoint {
    pub(crate) fn new(key: EndpointKey, context: Arc<ChannelContext>) -> Self {
        Self { key, context, state: ArcSwap::from_pointee(EndpointState::Connecting) }
    }

    pub(crate) fn key(&self) -> &EndpointKey {
        &self.key
    }

    pub(crate) fn state(&self) -> Arc<EndpointState> {
        self.state.load_full()
    }

    /// Returns the connection, if one is open, as far as is known.
    pub(crate) fn connection(&self) -> Option<Arc<Connection>> {
        match &**self.state.load() {
            EndpointState::Ready(connection) if connection.is_open() => Some(connection.clone()),
            _ => None,
        }
    }

    /// Keeps it connected. Each change of its state is reported to `changed`, with whether it is
    /// ready.
    pub(crate) async fn run(&self, changed: impl Fn(bool)) {
        let address = &self.key.address;
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            match Connection::open(address, &self.context).await {
                Ok(connection) => {
                    tracing::debug!(%address, "connected");
                    let connection = Arc::new(connection);
                    self.state.store(Arc::new(EndpointState::Ready(connection.clone())));
                    changed(true);
                    connection.wait_until_lost().await;
                    tracing::debug!(%address, "connection lost");
                    self.state.store(Arc::new(EndpointState::Connecting));
                    changed(false);
                    // A server that hangs up at once is not stormed.
                    failures = if begun.elapsed() < SETTLED { failures + 1 } else { 0 };
                }
                Err(error) => {
                    failures += 1;
                    self.context.meters.connect_failed();
                    tracing::debug!(%address, %error, failures, "cannot connect");
                    let attempt = FailedAttempt { error, begun };
                    self.state.store(Arc::new(EndpointState::TransientFailure(attempt)));
                    changed(false);
                }
            }
            if failures > 0 {
                sleep(self.context.options.backoff.delay(failures)).await;
            }
        }
    }
}

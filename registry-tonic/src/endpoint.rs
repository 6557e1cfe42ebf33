//! An endpoint: an address and its connection.

use crate::connection::Connection;
use crate::context::ChannelContext;
use crate::status::is_refused;
use arc_swap::ArcSwap;
use registry_core::Address;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

/// After a connection that lasted at least this long, the first attempt to reconnect needs no backoff.
const SETTLED: Duration = Duration::from_secs(1);

/// How long calls wait for a reconnect after a loss, if no other endpoint takes them. It covers a
/// server that closes connections regularly: a reconnect with TLS takes four round trips.
const RECONNECT_GRACE: Duration = Duration::from_millis(500);

/// The key of an endpoint in the balancer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct EndpointKey {
    pub(crate) address: Address,
    /// Tells apart endpoints of an address that was removed and added again.
    pub(crate) incarnation: u64,
}

/// An endpoint: an address and its connection.
pub(crate) struct Endpoint {
    key: EndpointKey,
    context: Arc<ChannelContext>,
    state: ArcSwap<EndpointState>,
}

/// The state of an endpoint, named after gRPC's connectivity states.
#[derive(Debug)]
pub(crate) enum EndpointState {
    /// An attempt to connect is under way or about to start.
    Connecting,
    /// The last attempt has failed. The next one starts after a backoff.
    TransientFailure(FailedAttempt),
    Ready(Arc<Connection>),
}

/// A failed attempt to connect.
#[derive(Debug)]
pub(crate) struct FailedAttempt {
    pub(crate) error: Status,
    begun: Instant,
}

impl FailedAttempt {
    /// The connection was lost, and the reconnect has exceeded [`RECONNECT_GRACE`].
    fn lost() -> Self {
        let error =
            Status::unavailable("the connection was lost and has not been re-established yet");
        Self { error, begun: Instant::now() }
    }

    /// Returns whether the attempt began at `since` or later and the connection was refused.
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

    /// Returns the connection, unless it is known to be lost.
    pub(crate) fn connection(&self) -> Option<Arc<Connection>> {
        match &**self.state.load() {
            EndpointState::Ready(connection) if connection.is_open() => Some(connection.clone()),
            _ => None,
        }
    }

    /// Keeps the endpoint connected. Calls `changed` after each change of state, with whether the
    /// endpoint is ready.
    ///
    /// An endpoint that cannot be reached stays in transient failure during its next attempts, so that
    /// no call waits for them.
    pub(crate) async fn run(&self, changed: impl Fn(bool)) {
        let set = |state: EndpointState| {
            let is_ready = matches!(state, EndpointState::Ready(_));
            self.state.store(Arc::new(state));
            changed(is_ready);
        };
        let (mut failures, mut is_reconnecting) = (0, false);
        loop {
            let mut attempt = pin!(self.connect_after(failures));
            let connected = if !is_reconnecting {
                attempt.await
            } else if let Ok(connected) = timeout(RECONNECT_GRACE, attempt.as_mut()).await {
                connected
            } else {
                set(EndpointState::TransientFailure(FailedAttempt::lost()));
                attempt.await
            };
            is_reconnecting = connected.is_ok();
            match connected {
                Ok(connection) => {
                    let connection = Arc::new(connection);
                    let since = Instant::now();
                    set(EndpointState::Ready(connection.clone()));
                    connection.wait_until_lost().await;
                    tracing::debug!(address = %self.key.address, "connection lost");
                    set(EndpointState::Connecting);
                    // Backoff for a server that accepts connections and closes them at once.
                    failures = if since.elapsed() < SETTLED { failures + 1 } else { 0 };
                }
                Err(failed) => {
                    failures += 1;
                    set(EndpointState::TransientFailure(failed));
                }
            }
        }
    }

    /// Connects, after the backoff for this number of failures.
    async fn connect_after(&self, failures: u32) -> Result<Connection, FailedAttempt> {
        let address = &self.key.address;
        if failures > 0 {
            sleep(self.context.options.backoff.delay(failures)).await;
        }
        let begun = Instant::now();
        let connected = Connection::open(address, &self.context).await;
        match &connected {
            Ok(_) => tracing::debug!(%address, "connected"),
            Err(error) => {
                self.context.meters.connect_failed();
                tracing::debug!(%address, %error, failures = failures + 1, "cannot connect");
            }
        }
        connected.map_err(|error| FailedAttempt { error, begun })
    }
}

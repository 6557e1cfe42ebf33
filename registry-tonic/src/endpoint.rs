//! An address that is kept connected to.

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

/// A connection that stood for that long has served: if it is lost, the next attempt is made at
/// once.
const SETTLED: Duration = Duration::from_secs(1);

/// How long calls wait for a new connection after one was lost, if no other endpoint takes them. A
/// server that closes connections now and then is connected to in less time: four round trips with
/// TLS.
const RECONNECT_GRACE: Duration = Duration::from_millis(500);

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
    /// The connection was lost, and the attempt to connect again takes long.
    fn lost() -> Self {
        let error = Status::unavailable("the connection was lost, and there is no new one yet");
        Self { error, begun: Instant::now() }
    }

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
    ///
    /// While it cannot be reached its state remains a transient failure, also during the next
    /// attempt: no call waits for that.
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
                    // A server that hangs up at once is not stormed.
                    failures = if since.elapsed() < SETTLED { failures + 1 } else { 0 };
                }
                Err(failed) => {
                    failures += 1;
                    set(EndpointState::TransientFailure(failed));
                }
            }
        }
    }

    /// Connects, after the backoff that follows so many failures.
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

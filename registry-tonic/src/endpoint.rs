//! An address that is kept connected to.

use crate::link::{ConnectOnce, Link};
use crate::load::Load;
use crate::options::ChannelOptions;
use crate::status;
use registry_core::Address;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;
use tonic::transport::Channel;

/// A connection that stood for so long has served: if it is lost, the next try is made at once.
const SETTLED: Duration = Duration::from_secs(1);

/// An address, and what is known of it. It outlives its connections.
#[derive(Debug)]
pub(crate) struct Endpoint {
    address: Address,
    load: Arc<Load>,
    state: Mutex<State>,
}

#[derive(Clone, Debug)]
pub(crate) enum State {
    /// It is being connected to, and nothing is known against it.
    Connecting,
    /// It could not be connected to, and is tried again.
    Failing(Status),
    Connected(Arc<Connection>),
}

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Address,
    load: Arc<Load>,
    channel: Channel,
    link: Arc<Link>,
}

impl Connection {
    /// Whether it stands, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.link.is_open()
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }
}

#[cfg(test)]
impl Connection {
    /// One that nobody has used.
    pub(crate) fn untried(address: Address, now: crate::load::Ticks) -> Self {
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let (load, link) = (Arc::new(Load::new(None, now)), Arc::new(Link::new()));
        Self { address, load, channel, link }
    }

    pub(crate) fn lose(&self) {
        self.link.lose();
    }
}

impl Endpoint {
    pub(crate) fn new(address: Address, load: Load) -> Self {
        Self { address, load: Arc::new(load), state: Mutex::new(State::Connecting) }
    }

    pub(crate) fn load(&self) -> &Load {
        &self.load
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps it connected. Whatever changes is told to `changed`.
    pub(crate) async fn run(self: Arc<Self>, options: Arc<ChannelOptions>, changed: Arc<Notify>) {
        let enter = |state| {
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
            changed.notify_one();
        };
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            match self.connect(&options).await {
                Ok(connection) => {
                    tracing::debug!(address = %self.address, "connected");
                    enter(State::Connected(connection.clone()));
                    connection.link.lost().await;
                    tracing::debug!(address = %self.address, "the connection is lost");
                    enter(State::Connecting);
                    // One that is hung up on at once is not stormed.
                    failures = if begun.elapsed() < SETTLED { failures + 1 } else { 0 };
                }
                Err(error) => {
                    failures += 1;
                    tracing::debug!(address = %self.address, %error, failures, "cannot connect");
                    enter(State::Failing(error));
                }
            }
            if failures > 0 {
                sleep(options.backoff.delay(failures)).await;
            }
        }
    }

    async fn connect(&self, options: &ChannelOptions) -> Result<Arc<Connection>, Status> {
        let endpoint = options.endpoint.make(&self.address)?;
        let link = Arc::new(Link::new());
        let connector = ConnectOnce::new(&endpoint, link.clone());
        let limit = options.connect_timeout;
        let connecting = timeout(limit, endpoint.connect_with_connector(connector));
        let Ok(connected) = connecting.await else {
            return Err(Status::unavailable(format!("no connection in time, within=`{limit:?}`")));
        };
        let channel = connected.map_err(|error| status::of(error.into()))?;
        let (address, load) = (self.address.clone(), self.load.clone());
        Ok(Arc::new(Connection { address, load, channel, link }))
    }
}

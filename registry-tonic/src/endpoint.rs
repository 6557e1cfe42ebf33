//! An address that is kept connected to.

use crate::channel::Board;
use crate::ejection::Standing;
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
    knowledge: Arc<Knowledge>,
    state: Mutex<State>,
}

/// What is known of how an endpoint serves.
#[derive(Debug)]
struct Knowledge {
    load: Load,
    standing: Standing,
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
    knowledge: Arc<Knowledge>,
    channel: Channel,
    link: Arc<Link>,
}

impl Connection {
    /// Whether it stands, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        self.link.is_open()
    }

    /// It is known to be gone.
    pub(crate) fn lose(&self) {
        self.link.lose();
    }

    pub(crate) fn load(&self) -> &Load {
        &self.knowledge.load
    }

    pub(crate) fn standing(&self) -> &Standing {
        &self.knowledge.standing
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
    pub(crate) fn untried(address: Address, now: crate::clock::Ticks) -> Self {
        let channel = tonic::transport::Endpoint::from_static("http://127.0.0.1:1").connect_lazy();
        let (knowledge, link) = (Knowledge::of(Load::new(None, now)), Arc::new(Link::new()));
        Self { address, knowledge, channel, link }
    }
}

impl Knowledge {
    fn of(load: Load) -> Arc<Self> {
        Arc::new(Self { load, standing: Standing::default() })
    }
}

impl Endpoint {
    pub(crate) fn new(address: Address, load: Load) -> Self {
        Self { address, knowledge: Knowledge::of(load), state: Mutex::new(State::Connecting) }
    }

    pub(crate) fn load(&self) -> &Load {
        &self.knowledge.load
    }

    pub(crate) fn state(&self) -> State {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps it connected, for the channel of `board`. Whatever changes is told to `changed`.
    pub(crate) async fn run(self: Arc<Self>, board: Arc<Board>, changed: Arc<Notify>) {
        let options = board.options.clone();
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
                    board.meters.connect_failed();
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
        let connecting = async {
            let channel = endpoint.connect_with_connector(connector).await?;
            link.heard().await;
            Ok::<_, tonic::transport::Error>(channel)
        };
        let Ok(connected) = timeout(limit, connecting).await else {
            return Err(Status::unavailable(format!("no answer in time, within=`{limit:?}`")));
        };
        let channel = connected.map_err(|error| status::unreachable(error.into()))?;
        let (address, knowledge) = (self.address.clone(), self.knowledge.clone());
        Ok(Arc::new(Connection { address, knowledge, channel, link }))
    }
}

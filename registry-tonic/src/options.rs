//! How a channel finds and treats its endpoints.

use crate::classify::Classify;
use crate::status;
use registry_balance::Ejection;
use registry_core::Address;
use registry_engine::Backoff;
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;
use tonic::Status;
use tonic::metadata::MetadataMap;
use tonic::transport::{Endpoint, Error};

/// How a [`Channel`](crate::Channel) finds and treats its endpoints.
///
/// ```
/// use registry_tonic::ChannelOptions;
/// use std::num::NonZeroUsize;
///
/// let options = ChannelOptions::default().with_zone("eu-1").with_subset(NonZeroUsize::new(32));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct ChannelOptions {
    /// How long a call may take that does not say so itself, with all that it waits for: as long as it
    /// takes, unless set. The server is told, as `grpc-timeout`. After it the call fails `DeadlineExceeded`.
    pub timeout: Option<Duration>,
    /// How long a call waits for an endpoint while the service is being loaded, or while the first
    /// connections are being made: 5 s unless set, and never longer than the call may take. Where nobody is
    /// registered, or nobody can be reached, it fails `Unavailable` at once.
    pub wait: Duration,
    /// How long a connection may take, with TLS, and until the server has said its first word: 2 s unless
    /// set. Shorter than three round trips, nobody is ever connected to.
    ///
    /// On Linux a connection on which nothing is acknowledged for 20 s is given up, as gRPC does; there are no
    /// pings unless the [endpoint](Self::endpoint) has them, since servers in Go refuse those that come more
    /// often than every five minutes.
    pub connect_timeout: Duration,
    /// How long to wait between tries to connect to one endpoint: 100 ms, doubled up to 5 s, unless set.
    pub backoff: Backoff,
    /// To how many instances to connect, of our [`zone`](Self::zone) and of all others each; to all unless
    /// set. Which ones depends on [`client`](Self::client) and their addresses alone: an instance that comes
    /// or goes moves one connection at most. One that cannot be reached is not replaced. They are drawn by
    /// chance, so some serve more clients than others: with 32 of each client, and as many clients as
    /// instances, most serve between 20 and 44.
    pub subset: Option<NonZeroUsize>,
    /// What the subset is drawn from: a name that no other client has, such as the host's. Drawn anew for
    /// each channel unless set.
    pub client: Option<String>,
    /// Our zone. Instances of this zone are preferred: they alone get calls while at least half of them are
    /// connected, and all do otherwise. An instance without a zone of its own may name it in its metadata,
    /// as `zone`. None unless set.
    pub zone: Option<String>,
    /// When an endpoint that fails gets no calls for a while; `None`: never. At least half of them always
    /// get calls.
    pub ejection: Option<Ejection>,
    /// Which outcomes of calls count against an endpoint: see [`CallEnd::default_outcome`](crate::CallEnd::default_outcome),
    /// unless set.
    pub classify: Classify,
    /// Sent with each call, unless the call says otherwise: such as go-zero's `app` and `token`. None
    /// unless set.
    pub metadata: MetadataMap,
    /// How an address is connected to.
    pub endpoint: MakeEndpoint,
}

impl ChannelOptions {
    /// Sets how long a call may take that does not say so itself: see [`timeout`](Self::timeout).
    #[must_use]
    pub fn with_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Sets how long a call [waits](Self::wait) for an endpoint.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Sets how long a [connection may take](Self::connect_timeout).
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the [backoff](Self::backoff) between tries to connect to one endpoint.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets to how many instances to connect: see [`subset`](Self::subset).
    #[must_use]
    pub fn with_subset(mut self, subset: impl Into<Option<NonZeroUsize>>) -> Self {
        self.subset = subset.into();
        self
    }

    /// Sets the name of the [client](Self::client), from which the subset is drawn.
    #[must_use]
    pub fn with_client(mut self, client: impl Into<String>) -> Self {
        self.client = Some(client.into());
        self
    }

    /// Sets the [zone](Self::zone) of the caller.
    #[must_use]
    pub fn with_zone(mut self, zone: impl Into<String>) -> Self {
        self.zone = Some(zone.into());
        self
    }

    /// Sets when an endpoint that fails gets no calls for a while; `None`: never.
    #[must_use]
    pub fn with_ejection(mut self, ejection: impl Into<Option<Ejection>>) -> Self {
        self.ejection = ejection.into();
        self
    }

    /// Sets which outcomes of calls [count against](Self::classify) an endpoint.
    #[must_use]
    pub fn with_classify(mut self, classify: Classify) -> Self {
        self.classify = classify;
        self
    }

    /// Sets what is sent with each call.
    #[must_use]
    pub fn with_metadata(mut self, metadata: MetadataMap) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets how an address is connected to.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: MakeEndpoint) -> Self {
        self.endpoint = endpoint;
        self
    }
}

/// How an address is connected to: TLS, timeouts, window sizes. Unless set it is `http://` and the
/// address, with tonic's defaults.
///
/// A `connect_timeout` of the endpoint counts beside that of the options; a local address does not
/// count.
///
/// ```
/// use registry_tonic::{ChannelOptions, MakeEndpoint};
/// use std::time::Duration;
/// use tonic::transport::Endpoint;
///
/// let endpoint = MakeEndpoint::new(|address| {
///     let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
///     Ok(endpoint.http2_keep_alive_interval(Duration::from_secs(300)))
/// });
/// let options = ChannelOptions::default().with_endpoint(endpoint);
/// ```
#[derive(Clone)]
pub struct MakeEndpoint(Arc<Make>);

type Make = dyn Fn(&Address) -> Result<Endpoint, Error> + Send + Sync;

impl MakeEndpoint {
    /// Connects with what `make` makes of an address. An error counts as one to connect, and `make` is
    /// called again for the next try. It must not block or panic; an endpoint of a Unix socket is not served.
    pub fn new(make: impl Fn(&Address) -> Result<Endpoint, Error> + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn make(&self, address: &Address) -> Result<Endpoint, Status> {
        (self.0)(address).map_err(|error| status::connect_error(error.into()))
    }
}

impl Default for MakeEndpoint {
    fn default() -> Self {
        Self::new(|address| Endpoint::from_shared(format!("http://{address}")))
    }
}

impl fmt::Debug for MakeEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MakeEndpoint").finish_non_exhaustive()
    }
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            timeout: None,
            wait: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            backoff: Backoff::default(),
            subset: None,
            client: None,
            zone: None,
            ejection: Some(Ejection::default()),
            classify: Classify::default(),
            metadata: MetadataMap::new(),
            endpoint: MakeEndpoint::default(),
        }
    }
}

/// Leaves out the metadata, which may hold a token.
impl fmt::Debug for ChannelOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelOptions")
            .field("timeout", &self.timeout)
            .field("wait", &self.wait)
            .field("connect_timeout", &self.connect_timeout)
            .field("backoff", &self.backoff)
            .field("subset", &self.subset)
            .field("client", &self.client)
            .field("zone", &self.zone)
            .field("ejection", &self.ejection)
            .finish_non_exhaustive()
    }
}

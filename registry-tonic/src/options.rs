//! The options of a channel.

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

/// Options of a [`Channel`](crate::Channel).
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
    /// The timeout of a call that sets none itself, including its wait for an endpoint. Default: no
    /// timeout. The channel sends it to the server as `grpc-timeout`. After it the call fails with
    /// `DeadlineExceeded`.
    pub timeout: Option<Duration>,
    /// How long a call waits for an endpoint while the service is being loaded or the first connections
    /// are being made. Default: 5 s, and never beyond the deadline of the call. If no instance is
    /// registered, or none can be reached, the call fails with `Unavailable` at once.
    pub wait: Duration,
    /// The timeout of an attempt to connect: TCP, TLS and the first bytes of the server. Default: 2 s.
    /// With less than three round trips no attempt ever succeeds.
    ///
    /// On Linux the channel closes a connection on which sent data stays unacknowledged for 20 s, as gRPC
    /// does. It sends no HTTP/2 pings unless the [endpoint](Self::endpoint) enables them, since servers in
    /// Go refuse pings that come more often than every five minutes.
    pub connect_timeout: Duration,
    /// The backoff between attempts to connect to one endpoint. Default: 100 ms, doubled up to 5 s.
    pub backoff: Backoff,
    /// The number of instances to connect to: that many in the caller's [`zone`](Self::zone), and that many
    /// outside of it. Default: all. The choice depends only on [`client`](Self::client) and the addresses,
    /// so an instance that is added or removed moves at most one connection. An instance that cannot be
    /// reached is not replaced. The choice is random, so the load differs: with a subset of 32 and as many
    /// clients as instances, most instances serve 20 to 44 clients.
    pub subset: Option<NonZeroUsize>,
    /// The seed of the subset: a name that no other client has, such as the host name. Default: a random
    /// seed for each channel.
    pub client: Option<String>,
    /// The zone of the caller. Default: none. While at least half of the instances in this zone are
    /// connected, only they get calls; otherwise all instances do. If an instance has no zone, the key
    /// `zone` of its metadata counts.
    pub zone: Option<String>,
    /// When a failing endpoint is ejected, so that it gets no calls for a while. `None` disables ejection.
    /// At most half of the endpoints are ejected at a time.
    pub ejection: Option<Ejection>,
    /// The function that decides which outcomes of calls count against an endpoint. Default:
    /// [`CallEnd::default_outcome`](crate::CallEnd::default_outcome).
    pub classify: Classify,
    /// Metadata that is sent with each call, such as go-zero's `app` and `token`. A key that the call
    /// itself sets takes precedence. Default: none.
    pub metadata: MetadataMap,
    /// The function that returns the tonic endpoint for an address.
    pub endpoint: MakeEndpoint,
}

impl ChannelOptions {
    /// Sets the [timeout](Self::timeout) of calls that set none themselves.
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

    /// Sets the [timeout](Self::connect_timeout) of an attempt to connect.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Sets the [backoff](Self::backoff) between attempts to connect to one endpoint.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the [number](Self::subset) of instances to connect to.
    #[must_use]
    pub fn with_subset(mut self, subset: impl Into<Option<NonZeroUsize>>) -> Self {
        self.subset = subset.into();
        self
    }

    /// Sets the [name](Self::client) that seeds the subset.
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

    /// Sets when a failing endpoint is [ejected](Self::ejection); `None` disables ejection.
    #[must_use]
    pub fn with_ejection(mut self, ejection: impl Into<Option<Ejection>>) -> Self {
        self.ejection = ejection.into();
        self
    }

    /// Sets the function that [decides](Self::classify) which outcomes count against an endpoint.
    #[must_use]
    pub fn with_classify(mut self, classify: Classify) -> Self {
        self.classify = classify;
        self
    }

    /// Sets the [metadata](Self::metadata) that is sent with each call.
    #[must_use]
    pub fn with_metadata(mut self, metadata: MetadataMap) -> Self {
        self.metadata = metadata;
        self
    }

    /// Sets the function that returns the tonic [endpoint](Self::endpoint) for an address.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: MakeEndpoint) -> Self {
        self.endpoint = endpoint;
        self
    }
}

/// A function that returns the tonic endpoint for an address: TLS, timeouts, window sizes. Default: `http://` and
/// the address, with tonic's defaults.
///
/// A `connect_timeout` of the endpoint additionally limits the TCP connect. A `local_address` of the
/// endpoint is ignored.
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
    /// Connects with the endpoint that `make` returns for an address. An error counts as a failed attempt,
    /// and the next attempt calls `make` again. `make` must not block or panic, and must not return the
    /// endpoint of a Unix socket, which is not supported.
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

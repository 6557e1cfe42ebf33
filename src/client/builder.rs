//! The builder of a client.

use super::Client;
use crate::Result;
use crate::connectors::{built_in, connect_by, connect_lazy_by};
use crate::store::{ConnectOptions, Connected, Connector, DiscoveryOptions, Target};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// A builder of a [`Client`]: see [`Client::builder`].
///
/// ```
/// use service_registry::Client;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> service_registry::Result<()> {
/// let client = Client::builder("mem://demo")
///     .ttl(Duration::from_secs(5))
///     .namespace("staging")
///     .connect()
///     .await?;
/// assert_eq!(client.registry().default_ttl(), Some(Duration::from_secs(5)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    target: Result<Target>,
    ttl: Option<Duration>,
    options: ConnectOptions,
    connectors: Vec<Arc<dyn Connector>>,
    discovery: DiscoveryOptions,
    runtime: Option<Handle>,
}

/// Connects to the registry that `url` names: the same as `Client::builder(url).connect()`.
///
/// All clients of `mem://name` in a process share one registry; each `mem://` is a new, private one.
///
/// # Errors
///
/// `Invalid` if `url` or a part of it is malformed, or its store is not built in (the error names the feature to add).
/// `Unavailable` if the store does not answer, `Denied` if it refuses the credentials.
pub async fn connect(url: &str) -> Result<Client> {
    Client::builder(url).connect().await
}

impl Client {
    /// Returns a builder of a client for the registry that `url` names.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder::new(url.parse())
    }

    /// Returns a builder of a client for the registry that `target` names.
    pub fn builder_for(target: Target) -> ClientBuilder {
        ClientBuilder::new(Ok(target))
    }
}

impl ClientBuilder {
    fn new(target: Result<Target>) -> Self {
        Self {
            target,
            ttl: None,
            options: ConnectOptions::default(),
            connectors: built_in(),
            discovery: DiscoveryOptions::default(),
            runtime: None,
        }
    }

    /// Sets the default ttl of registrations and views: 100 ms to a day. It overrides the option `ttl` of the URL. The
    /// default is 10 s if neither is set.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Sets the namespace: a service in one namespace is not visible in another. It is the path of an `etcd://` URL and
    /// the option `prefix` of a `redis://` URL. Connecting fails if the URL states a different one.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.options = self.options.with_namespace(namespace);
        self
    }

    /// Adds a connector for another store. It replaces an earlier connector of the same scheme.
    pub fn connector(mut self, connector: impl Connector) -> Self {
        self.connectors.push(Arc::new(connector));
        self
    }

    /// Sets the folder of snapshot files. A view shows its snapshot file until the store answers: see
    /// [`DiscoveryOptions::snapshots`]. There are none unless set.
    pub fn snapshots(mut self, folder: impl Into<PathBuf>) -> Self {
        self.discovery = self.discovery.with_snapshots(folder);
        self
    }

    /// Sets the runtime for the tasks of registrations and views. The default is the runtime that connects.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// Connects, and sends a request to check that the store answers.
    ///
    /// # Errors
    ///
    /// Those of [`connect`].
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn connect(self) -> Result<Client> {
        let target = self.target()?;
        let connected = connect_by(&self.connectors, &target, &self.options).await?;
        Ok(self.client(&target, &connected))
    }

    /// Returns a client without sending a request; its first registration or view connects.
    ///
    /// A process can thus start while its store is down. A registration that starts [in the
    /// background](crate::RegistrationOptions::in_background) registers once the store answers; until then a view shows
    /// its [snapshot file](Self::snapshots). The checks of [`connect`](Self::connect) (credentials, Redis' eviction
    /// policy) run at the first contact. If one fails, the error is logged once and is the status of each view and
    /// registration until it is corrected.
    ///
    /// ```
    /// use service_registry::{Client, Instance, RegistrationOptions};
    /// use std::time::Duration;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> service_registry::Result<()> {
    /// let client = Client::builder("mem://").connect_lazy()?; // or etcd://127.0.0.1:2379, whether or not it answers
    /// let instance = Instance::new("user.rpc", ([10, 0, 0, 1], 80).into())?;
    /// let options = RegistrationOptions::default().in_background();
    /// let registration = client.register_with(instance, options).await?; // returns at once
    ///
    /// let users = client.discover("user.rpc")?;
    /// users.ready(Duration::from_secs(5)).await?; // fails at once if the store answers `Denied` or `Invalid`
    /// # registration.stop().await
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Invalid` if the URL or a part of it is malformed, or its store is not built in (the error names the feature to
    /// add); `Unsupported` if the connector of another store has no lazy connections.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn connect_lazy(self) -> Result<Client> {
        let target = self.target()?;
        let connected = connect_lazy_by(&self.connectors, &target, &self.options)?;
        Ok(self.client(&target, &connected))
    }

    fn target(&self) -> Result<Target> {
        let target = self.target.clone()?;
        match self.ttl {
            Some(ttl) => target.with_ttl(ttl),
            None => Ok(target),
        }
    }

    fn client(self, target: &Target, connected: &Connected) -> Client {
        let runtime = self.runtime.unwrap_or_else(Handle::current);
        let registry = connected.registry().clone();
        Client::new(registry, target.to_string(), is_remote(target), self.discovery, runtime)
    }
}

/// Returns whether other machines can use the store, judged by its URL.
fn is_remote(target: &Target) -> bool {
    let is_local =
        |host: &str| host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    target.scheme() != "mem" && !target.hosts().iter().all(|host| is_local(host.name()))
}
